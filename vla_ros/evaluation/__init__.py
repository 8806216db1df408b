"""Rollouts and the figures that sum them up."""
