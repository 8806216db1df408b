"""Size, latency and memory of networks."""
