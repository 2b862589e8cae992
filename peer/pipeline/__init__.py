"""Pipelines: the computation of a stage, queues, and routes through replicas of stages."""
