"""Observations as the tensors that a network was trained with, and its columns as actions; saved in the checkpoint."""
