"""Robot contract and the kinematics derived from it."""
