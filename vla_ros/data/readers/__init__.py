"""Readers of other formats; each yields the same typed steps."""
