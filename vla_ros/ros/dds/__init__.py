"""Checks and settings of the middleware."""
