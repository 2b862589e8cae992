"""A network with all that fixed-point training needs to know about it: integers, made once by the run's owner.

Every layer with weights is one int16 matrix [n_out, fan_in + 1] in C order; its last column is the bias, which meets a
constant activation of 127. All matrices in a row are the flat weight vector that the perturbation stream counts in.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from ..errors import BadPlan
from ..network import Conv, Hardswish, Linear, Network, ReLU
from .arithmetic import WEIGHT_MAX

SHIFT_MAX: Final = 48
FAN_IN_MAX: Final = 2**16
"""127 * 127 * 2^16 < 2^31: the 8-bit sums fit int32."""
UPDATE_MAX: Final = 2**31
ROUNDS_MAX: Final = 2**31
VOTES_MAX: Final = 255
GUIDANCE_MAX: Final = 16


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """Constants of one layer with weights."""

    multiplier: int
    """M, 2^14 <= M < 2^15."""
    shift: int
    """s: M / 2^s = s_w * s_x / s_y (last layer: s_w * s_x * 4096)."""
    perturbation: int
    """P: weights are perturbed by +-P; 0 leaves the layer as it is (sparse update)."""
    update: int
    """U: a weight moves by (U * S + 128) >> 8 for a sum of votes S."""
    ascent: int = 0
    """Votes are cast at weights that have gone by +-R uphill; 0: where the weights are (sharpness-aware)."""

    def __post_init__(self) -> None:
        _require(2**14 <= self.multiplier < 2**15, "multiplier", "from 2^14 to 2^15 - 1", self.multiplier)
        _require(1 <= self.shift <= SHIFT_MAX, "shift", f"from 1 to {SHIFT_MAX}", self.shift)
        _require(0 <= self.perturbation <= WEIGHT_MAX, "perturbation", f"0 to {WEIGHT_MAX}", self.perturbation)
        _require(0 <= self.update <= UPDATE_MAX, "update", f"from 0 to {UPDATE_MAX}", self.update)
        _require(0 <= self.ascent <= WEIGHT_MAX, "ascent", f"0 to {WEIGHT_MAX}", self.ascent)


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Where one layer's matrix lies in the flat weight vector."""

    layer: Linear | Conv
    start: int
    fan_in: int
    """Without the bias."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.layer.n_out, self.fan_in + 1

    @property
    def stop(self) -> int:
        return self.start + math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A fixed-point run: network, constants, length.

    Raises: BadPlan, also for networks that fixed point does not know: every layer with weights except the last one is
    followed by ReLU, and the last one is the network's last layer.
    """

    network: Network
    layers: tuple[LayerPlan, ...]
    """One per layer with weights."""
    n_rounds: int
    """T: the update shrinks with 1 - t / T."""
    n_votes: int = 3
    """m: perturbations of one device in one round."""
    guidance: int = 0
    """A sign follows the momentum of the votes with probability 2^-guidance; 0: never."""
    kernelwise: int = 0
    """1: steps and updates of a kernel are in proportion to its own weights; 0: alike in the whole layer."""

    def __post_init__(self) -> None:
        matrices = self.matrices()
        if len(matrices) != len(self.layers):
            raise BadPlan(f"{len(self.layers)} sets of constants for {len(matrices)} layers with weights")
        if any(matrix.fan_in >= FAN_IN_MAX for matrix in matrices):
            raise BadPlan(f"a fan-in of {FAN_IN_MAX} or more could overflow")
        _require(1 <= self.n_rounds <= ROUNDS_MAX, "n_rounds", f"from 1 to {ROUNDS_MAX}", self.n_rounds)
        _require(1 <= self.n_votes <= VOTES_MAX, "n_votes", f"from 1 to {VOTES_MAX}", self.n_votes)
        _require(0 <= self.guidance <= GUIDANCE_MAX, "guidance", f"from 0 to {GUIDANCE_MAX}", self.guidance)
        _require(0 <= self.kernelwise <= 1, "kernelwise", "0 or 1", self.kernelwise)
        _refuse_unknown_order(self.network)

    @property
    def climbs(self) -> bool:
        """Whether votes are cast uphill of the weights."""
        return any(layer.ascent for layer in self.layers)

    @property
    def n_forwards(self) -> int:
        """Forward passes of one device in one round."""
        return (4 if self.climbs else 2) * self.n_votes

    @property
    def n_weights(self) -> int:
        return self.matrices()[-1].stop

    def matrices(self) -> tuple[Matrix, ...]:
        """Of every layer with weights, in order."""
        return tuple(_matrices(self.network))

    def update_at(self, layer: int, step: int) -> int:
        """U of a layer after `step` of T updates: U * R[t] rounded, R[t] = floor(2^16 (T - t) / T)."""
        remaining = ((self.n_rounds - min(step, self.n_rounds)) << 16) // self.n_rounds
        return (self.layers[layer].update * remaining + (1 << 15)) >> 16

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a manifest or JSON; `from_dict` reads them again. What is 0 by default is left out."""
        options = {"guidance": self.guidance, "kernelwise": self.kernelwise}
        return {
            "network": self.network.to_dict(),
            "layers": [_without_zeros(asdict(layer), "ascent") for layer in self.layers],
            "n_rounds": self.n_rounds,
            "n_votes": self.n_votes,
            **_without_zeros(options, *options),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Plan:
        """The plan again, from values that came from outside.

        Raises: BadPlan or BadNetwork for anything that `to_dict` could not have made.
        """
        if not PARTS <= set(plain) <= PARTS | OPTIONS:
            raise BadPlan(f"a plan has {sorted(PARTS)} and may have {sorted(OPTIONS)}, not {sorted(plain)}")
        network, layers = plain["network"], plain["layers"]
        if not isinstance(network, Mapping) or not isinstance(layers, Sequence):
            raise BadPlan("a plan's network is a table and its layers are a list")
        return cls(
            network=Network.from_dict(network),
            layers=tuple(_layer_from_dict(layer) for layer in layers),
            n_rounds=plain["n_rounds"],
            n_votes=plain["n_votes"],
            **{name: plain[name] for name in OPTIONS & set(plain)},
        )


PARTS: Final = frozenset({"network", "layers", "n_rounds", "n_votes"})
OPTIONS: Final = frozenset({"guidance", "kernelwise"})
KNOWN: Final = frozenset(field.name for field in fields(LayerPlan))


def _matrices(network: Network) -> Iterator[Matrix]:
    start = 0
    for layer in network.layers:
        if isinstance(layer, Linear | Conv):
            fan_in = layer.n_in * (layer.kernel**2 if isinstance(layer, Conv) else 1)
            matrix = Matrix(layer=layer, start=start, fan_in=fan_in)
            start = matrix.stop
            yield matrix


def _refuse_unknown_order(network: Network) -> None:
    if not isinstance(network.layers[-1], Linear):
        raise BadPlan(f"a fixed-point network ends with a linear layer, not {network.layers[-1]}")
    for layer, following in itertools.pairwise(network.layers):
        if isinstance(layer, Linear | Conv) and not isinstance(following, ReLU):
            raise BadPlan(f"in fixed point {layer} must be followed by ReLU, not by {following}")
        if isinstance(layer, Hardswish):
            raise BadPlan("fixed point has no Hardswish: use ReLU")


def _layer_from_dict(plain: Any) -> LayerPlan:
    if not isinstance(plain, Mapping) or not KNOWN - {"ascent"} <= set(plain) <= KNOWN:
        raise BadPlan(f"a layer's constants are {', '.join(sorted(KNOWN))}, not {plain!r}")
    return LayerPlan(**plain)


def _without_zeros(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != 0 or name not in names}


def _require(condition: bool, name: str, rule: str, value: Any) -> None:
    if type(value) is not int or not condition:
        raise BadPlan(f"{name} must be an integer {rule}, not {value!r}")
