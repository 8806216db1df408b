"""Parts of the operator console node."""
