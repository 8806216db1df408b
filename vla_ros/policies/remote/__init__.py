"""Policies that run behind a server, and what both sides of the wire share."""
