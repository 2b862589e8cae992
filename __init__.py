"""Gossamer trains neural networks on machines that nobody owns together. See README.md and docs/."""
