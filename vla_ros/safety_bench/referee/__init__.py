"""Independent checks of recorded commands and of controller references."""
