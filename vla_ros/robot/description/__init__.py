"""Robot descriptions: URDF, xacro, meshes, convex simplification."""
