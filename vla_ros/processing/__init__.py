"""Conversion of observations to network input tensors and of outputs to actions; saved with the checkpoint."""
