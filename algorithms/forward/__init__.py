"""Training by forward passes alone: what devices (numpy, no torch) and gateways share.

A device measures losses at perturbed weights and sends a few numbers; the perturbations come from a seed, so whoever
knows it can turn the numbers into a step. `baffle` works in float32; `fixedpoint` in integers only.

Names are loaded when they are first asked for: a device that waits for a round needs few of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .aggregation import Contribution, RoundKey, aggregate, aggregate_shared
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

_HOME: Final = {
    "BadCoordinate": "errors",
    "BadNetwork": "errors",
    "BadPlan": "errors",
    "BaffleOptions": "baffle",
    "Batch": "batch",
    "Contribution": "aggregation",
    "Directions": "stream",
    "DiscreteGaussian": "discrete_gaussian",
    "Engine": "engine",
    "FederatedOptions": "federated",
    "FederatedServer": "federated",
    "LocalUpdate": "federated",
    "Measured": "baffle",
    "Measurement": "choice",
    "Network": "network",
    "NumpyEngine": "numpy_engine",
    "Part": "replay",
    "PerturbationStream": "stream",
    "PrivacyOptions": "privacy",
    "PublicKeys": "secure_sum",
    "Replay": "replay",
    "Replica": "replica",
    "Reveal": "secure_sum",
    "RoundKey": "aggregation",
    "SecureDevice": "secure_sum",
    "SumEncoding": "sum_encoding",
    "SumRound": "secure_sum",
    "TooFewContributions": "errors",
    "aggregate": "aggregation",
    "aggregate_shared": "aggregation",
    "available_engines": "choice",
    "decode_scalars": "scalars",
    "encode_scalars": "scalars",
    "epsilon_spent": "privacy",
    "gradient_of": "replica",
    "initial_weights": "initialise",
    "lenet_b": "network",
    "measure": "baffle",
    "measure_engines": "choice",
    "mlp": "network",
    "privatise": "privacy",
    "proximal_gradient": "federated",
    "scalars_bytes": "scalars",
    "unmask": "secure_sum",
    "weights_digest": "replica",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
