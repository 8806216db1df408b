"""The tabletop scene in Gazebo."""
