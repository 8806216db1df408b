"""Policies: the protocol, and its implementations."""
