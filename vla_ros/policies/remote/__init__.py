"""Remote policies, and the code shared by both sides of the connection."""
