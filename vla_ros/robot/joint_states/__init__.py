"""Joint states from one or several publishers."""
