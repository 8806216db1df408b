"""The tabletop environment: objects, tasks, success, expert."""
