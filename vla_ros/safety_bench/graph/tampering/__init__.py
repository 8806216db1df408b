"""Processes that inject faults: tampered sensors, hanging nodes, buttons."""
