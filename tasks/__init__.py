"""What is trained: models, data, losses and metrics."""

from .errors import BadData, CannotCut, MissingData, TaskError, UnknownTask
from .fingerprint import fingerprint
from .initialise import build_initialised, draw_fan_in
from .layer_costs import LayerCost, cut_by_cost, estimate_costs, measure_costs
from .layers import Layer
from .registry import TASKS, build_task, is_users_own
from .sharding import global_batch, round_batches, shard
from .staged import Derivatives, Staged
from .stages import Cut, NoStage, Stage, assemble, build_stage, loans, owned_names
from .task import Evaluation, Indices, Task

__all__ = [
    "TASKS",
    "BadData",
    "CannotCut",
    "Cut",
    "Derivatives",
    "Evaluation",
    "Indices",
    "Layer",
    "LayerCost",
    "MissingData",
    "NoStage",
    "Stage",
    "Staged",
    "Task",
    "TaskError",
    "UnknownTask",
    "assemble",
    "build_initialised",
    "build_stage",
    "build_task",
    "cut_by_cost",
    "draw_fan_in",
    "estimate_costs",
    "fingerprint",
    "global_batch",
    "is_users_own",
    "loans",
    "measure_costs",
    "owned_names",
    "round_batches",
    "shard",
]
