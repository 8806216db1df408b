"""User instructions: validation, stop detection (before all else), and matching with the objects in the scene."""
