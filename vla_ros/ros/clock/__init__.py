"""Simulation time: publishers of /clock and reading it on demand."""
