"""Label-preserving augmentation of training data."""
