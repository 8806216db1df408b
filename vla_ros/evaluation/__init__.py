"""Rollouts and the metrics that summarize them."""
