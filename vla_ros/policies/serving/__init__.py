"""Serves a policy to clients that speak openpi's protocol."""
