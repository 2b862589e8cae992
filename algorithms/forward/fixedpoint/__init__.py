"""Fixed-point forward gradients: integers only on the device, the same bits on every machine."""

from .arithmetic import pixels_to_activations
from .calibrate import FixedPointOptions, calibrate
from .engine import IntegerBatch, IntegerEngine
from .kernels import Kernel, NumpyKernel, OnnxKernel
from .plan import LayerPlan, Plan
from .training import IntegerReplica, cast_votes
from .votes import VotePart, VoteReplay, decode_votes, encode_votes, votes_bytes

__all__ = [
    "FixedPointOptions",
    "IntegerBatch",
    "IntegerEngine",
    "IntegerReplica",
    "Kernel",
    "LayerPlan",
    "NumpyKernel",
    "OnnxKernel",
    "Plan",
    "VotePart",
    "VoteReplay",
    "calibrate",
    "cast_votes",
    "decode_votes",
    "encode_votes",
    "pixels_to_activations",
    "votes_bytes",
]
