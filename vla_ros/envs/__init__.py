"""Environments: the MuJoCo workcell of any robot contract, the tabletop scenes and tasks in it, and Gazebo."""
