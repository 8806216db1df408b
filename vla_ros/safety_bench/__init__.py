"""Safety bench: fuzzer, edge cases, comparison, referee, and faults in the running graph."""
