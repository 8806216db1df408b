"""Parts of the safety node."""
