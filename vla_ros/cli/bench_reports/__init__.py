"""Reports of `vla-ros bench`."""
