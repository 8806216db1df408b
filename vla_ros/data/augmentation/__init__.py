"""Changes to training data that leave what it means intact."""
