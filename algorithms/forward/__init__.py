"""Training by forward passes alone: what devices (numpy, no torch) and gateways share.

A device measures losses at perturbed weights and sends a few numbers; the perturbations come from a seed, so whoever
knows it can turn the numbers into a step. `baffle` works in float32; `fixedpoint` in integers only.
"""

from .aggregate import Contribution, RoundKey, aggregate, aggregate_shared
from .baffle import BaffleOptions, Measured, measure
from .batch import Batch
from .engine import Engine
from .errors import BadCoordinate, BadNetwork, BadPlan, TooFewContributions
from .network import Network, lenet_b, mlp
from .numpy_engine import NumpyEngine
from .replay import Part, Replay
from .replica import Replica, gradient_of, weights_digest
from .scalars import decode_scalars, encode_scalars, scalars_bytes
from .stream import Directions, PerturbationStream

__all__ = [
    "BadCoordinate",
    "BadNetwork",
    "BadPlan",
    "BaffleOptions",
    "Batch",
    "Contribution",
    "Directions",
    "Engine",
    "Measured",
    "Network",
    "NumpyEngine",
    "Part",
    "PerturbationStream",
    "Replay",
    "Replica",
    "RoundKey",
    "TooFewContributions",
    "aggregate",
    "aggregate_shared",
    "decode_scalars",
    "encode_scalars",
    "gradient_of",
    "lenet_b",
    "measure",
    "mlp",
    "scalars_bytes",
    "weights_digest",
]
