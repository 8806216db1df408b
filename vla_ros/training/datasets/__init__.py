"""Recorded data as training batches."""
