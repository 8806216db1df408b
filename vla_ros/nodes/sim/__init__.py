"""Parts of the simulation and scene nodes."""
