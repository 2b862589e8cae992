"""Fixed-point forward gradients: integers only on the device, the same bits on every machine."""

from .arithmetic import pixels_to_activations
from .calibrate import FixedPointOptions, calibrate, calibrate_scales
from .engine import IntegerBatch, IntegerEngine
from .float_kernel import FloatKernel
from .kernels import Kernel, NumpyKernel, OnnxKernel
from .options import VotingOptions
from .plan import LayerPlan, Plan
from .scales import LayerScale, dequantise, quantise
from .training import IntegerReplica, cast_vote, cast_votes
from .votes import VotePart, VoteReplay, decode_votes, encode_votes, votes_bytes

__all__ = [
    "FixedPointOptions",
    "FloatKernel",
    "IntegerBatch",
    "IntegerEngine",
    "IntegerReplica",
    "Kernel",
    "LayerPlan",
    "LayerScale",
    "NumpyKernel",
    "OnnxKernel",
    "Plan",
    "VotePart",
    "VoteReplay",
    "VotingOptions",
    "calibrate",
    "calibrate_scales",
    "cast_vote",
    "cast_votes",
    "decode_votes",
    "dequantise",
    "encode_votes",
    "pixels_to_activations",
    "quantise",
    "votes_bytes",
]
