"""What is trained: models, data, losses and metrics."""

from .errors import BadData, MissingData, TaskError, UnknownTask
from .fingerprint import fingerprint
from .initialise import build_initialised, draw_fan_in
from .registry import TASKS, build_task, is_users_own
from .sharding import global_batch, round_batches, shard
from .task import Evaluation, Indices, Task

__all__ = [
    "TASKS",
    "BadData",
    "Evaluation",
    "Indices",
    "MissingData",
    "Task",
    "TaskError",
    "UnknownTask",
    "build_initialised",
    "build_task",
    "draw_fan_in",
    "fingerprint",
    "global_batch",
    "is_users_own",
    "round_batches",
    "shard",
]
