"""Contact detection and reaction."""
