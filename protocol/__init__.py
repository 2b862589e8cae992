"""What travels between machines, and who may send it."""
