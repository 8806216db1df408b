"""Fault injection in the real graph: kill, stop and disconnect real processes, tamper with real sensors and clocks."""
