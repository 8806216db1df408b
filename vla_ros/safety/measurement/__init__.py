"""Plausibility of the measured joint states."""
