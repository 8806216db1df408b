"""What people say to the robot: validated, heard as a stop before all else, and compared with what is there."""
