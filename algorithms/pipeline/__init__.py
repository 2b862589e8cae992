"""Pipelines: the order of passes, split and delayed gradients."""
