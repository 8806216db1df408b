"""Observation assembly from camera images and joint states: decoding, geometry, health checks, synchronization."""
