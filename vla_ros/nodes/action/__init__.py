"""Parts of the action node."""
