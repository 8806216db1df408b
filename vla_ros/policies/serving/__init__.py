"""Serves a policy to clients of openpi's protocol."""
