"""The decision trace: written in a ring of MCAP segments, read back whole or cut short, told in sentences."""
