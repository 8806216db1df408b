"""Faults in the real graph: real processes killed, stopped and cut off, real sensors and clocks tampered with."""
