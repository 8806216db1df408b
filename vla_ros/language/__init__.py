"""What people say to the robot: validated, stopped on at once when it asks for that, and compared with what is there."""
