"""Data sets in the layout of LeRobot v3: Parquet tables, MP4 videos, and metadata that locates each episode."""
