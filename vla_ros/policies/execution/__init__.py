"""Executes a policy's chunks one after the other while the next one is computed."""
