"""Faults that the bench injects into the running graph."""
