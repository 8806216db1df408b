"""Parts of the perception node."""
