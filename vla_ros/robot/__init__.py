"""The robot contract and the kinematics that follow from it."""
