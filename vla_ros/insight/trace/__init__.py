"""Decision trace: written as a ring of MCAP segments, read back complete or truncated, and explained in sentences."""
