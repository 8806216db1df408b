"""Sections of the robot contract."""
