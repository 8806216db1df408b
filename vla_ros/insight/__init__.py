"""Explains a policy's behavior."""
