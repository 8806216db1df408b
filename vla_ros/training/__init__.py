"""From recordings to a checkpoint."""
