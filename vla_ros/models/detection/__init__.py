"""Object detection and referent resolution."""
