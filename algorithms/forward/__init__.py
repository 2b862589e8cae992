"""Training by forward passes alone: what devices (numpy, no torch) and gateways share.

A device measures losses at perturbed weights and sends a few numbers; the perturbations come from a seed, so whoever
knows it can turn the numbers into a step. `baffle` works in float32; `fixedpoint` in integers only.
"""

from .aggregate import Contribution, RoundKey, aggregate, aggregate_shared
from .baffle import BaffleOptions, Measured, measure
from .batch import Batch
from .choice import Measurement, available_engines, measure_engines
from .discrete_gaussian import DiscreteGaussian
from .engine import Engine
from .errors import BadCoordinate, BadNetwork, BadPlan, TooFewContributions
from .federated import FederatedOptions, FederatedServer, LocalUpdate, proximal_gradient
from .initialise import initial_weights
from .network import Network, lenet_b, mlp
from .numpy_engine import NumpyEngine
from .privacy import PrivacyOptions, epsilon_spent, privatise
from .replay import Part, Replay
from .replica import Replica, gradient_of, weights_digest
from .scalars import decode_scalars, encode_scalars, scalars_bytes
from .secure_sum import PublicKeys, Reveal, SecureDevice, SumRound, unmask
from .stream import Directions, PerturbationStream
from .sum_encoding import SumEncoding

__all__ = [
    "BadCoordinate",
    "BadNetwork",
    "BadPlan",
    "BaffleOptions",
    "Batch",
    "Contribution",
    "Directions",
    "DiscreteGaussian",
    "Engine",
    "FederatedOptions",
    "FederatedServer",
    "LocalUpdate",
    "Measured",
    "Measurement",
    "Network",
    "NumpyEngine",
    "Part",
    "PerturbationStream",
    "PrivacyOptions",
    "PublicKeys",
    "Replay",
    "Replica",
    "Reveal",
    "RoundKey",
    "SecureDevice",
    "SumEncoding",
    "SumRound",
    "TooFewContributions",
    "aggregate",
    "aggregate_shared",
    "available_engines",
    "decode_scalars",
    "encode_scalars",
    "epsilon_spent",
    "gradient_of",
    "initial_weights",
    "lenet_b",
    "measure",
    "measure_engines",
    "mlp",
    "privatise",
    "proximal_gradient",
    "scalars_bytes",
    "unmask",
    "weights_digest",
]
