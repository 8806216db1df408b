"""Watchdogs: policy, instructions, publishers, ticks, emergency stop."""
