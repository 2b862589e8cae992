"""How a group of peers agrees on one step."""
