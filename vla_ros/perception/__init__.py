"""Camera images and joint states become one observation: decoding, geometry, health, synchronisation."""
