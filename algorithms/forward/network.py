"""A small network as data: what float and fixed-point engines, ONNX graphs and manifests share.

    Network(input_shape=(1, 28, 28), layers=(Conv(1, 16, 5), Hardswish(), MaxPool(2), ...))

Weights are one flat vector: every layer's weight, then its bias, in C order, without padding. That order is the one
that the perturbation stream counts in.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from .errors import BadNetwork

Shape = tuple[int, ...]

WIDTH_MAX: Final = 2**20
"""Largest number of features, channels, or pixels along a side."""
N_LAYERS_MAX: Final = 256
N_PARAMETERS_MAX: Final = 2**28


@dataclass(frozen=True)
class Linear:
    """y = x W^T + b, W [n_out, n_in]."""

    n_in: int
    n_out: int


@dataclass(frozen=True)
class Conv:
    """2-D convolution with bias, stride 1, W [n_out, n_in, kernel, kernel], zero padding at every side."""

    n_in: int
    n_out: int
    kernel: int
    padding: int = 0


@dataclass(frozen=True)
class MaxPool:
    """Maximum over size x size windows that do not overlap; rows and columns that are left over are dropped."""

    size: int


@dataclass(frozen=True)
class GlobalAveragePool:
    """Mean over height and width: [channels, h, w] -> [channels]."""


@dataclass(frozen=True)
class Flatten:
    """[channels, h, w] -> [channels * h * w]."""


@dataclass(frozen=True)
class ReLU:
    """max(x, 0)."""


@dataclass(frozen=True)
class Hardswish:
    """x * min(max(x + 3, 0), 6) / 6 (Howard et al. 2019, arXiv:1905.02244)."""


Layer = Linear | Conv | MaxPool | GlobalAveragePool | Flatten | ReLU | Hardswish
KINDS: Final[Mapping[str, type[Layer]]] = {
    kind.__name__: kind for kind in (Linear, Conv, MaxPool, GlobalAveragePool, Flatten, ReLU, Hardswish)
}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One tensor of the flat weight vector."""

    name: str
    """Layer's position and role, e.g. `0.weight`."""
    shape: Shape
    start: int
    """Its first element's position in the flat vector."""

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        return self.start + self.size


@dataclass(frozen=True, kw_only=True)
class Network:
    """Layers that fit one another; the last one's output are the logits.

    Raises: BadNetwork.
    """

    input_shape: Shape
    """Of one sample: (features,) or (channels, height, width)."""
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.layers) <= N_LAYERS_MAX:
            raise BadNetwork(f"a network has 1 to {N_LAYERS_MAX} layers, not {len(self.layers)}")
        if len(self.input_shape) not in (1, 3) or not all(_is_width(size) for size in self.input_shape):
            raise BadNetwork(f"a sample is (features,) or (channels, height, width), not {self.input_shape!r}")
        if len(self.shapes()[-1]) != 1:
            raise BadNetwork(f"the last layer leaves {self.shapes()[-1]}: end with a flat vector of logits")
        if self.n_parameters > N_PARAMETERS_MAX:
            raise BadNetwork(f"{self.n_parameters} parameters are more than {N_PARAMETERS_MAX}")

    @property
    def n_classes(self) -> int:
        return self.shapes()[-1][0]

    @property
    def n_parameters(self) -> int:
        parameters = self.parameters()
        return parameters[-1].stop if parameters else 0

    def shapes(self) -> tuple[Shape, ...]:
        """Shape of one sample before the first layer and after each."""
        shapes = [self.input_shape]
        for index, layer in enumerate(self.layers):
            shapes.append(_shape_after(layer, shapes[-1], index))
        return tuple(shapes)

    def parameters(self) -> tuple[Parameter, ...]:
        """The tensors of the flat weight vector, in its order."""
        return tuple(_parameters(self.layers))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a manifest or JSON; `from_dict` reads them again."""
        layers = [{"kind": type(layer).__name__, **asdict(layer)} for layer in self.layers]
        return {"input_shape": list(self.input_shape), "layers": layers}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Network:
        """The network again, from values that came from outside.

        Raises: BadNetwork for anything that `to_dict` could not have made.
        """
        if set(plain) != {"input_shape", "layers"}:
            raise BadNetwork(f"a network has input_shape and layers, not {sorted(plain)}")
        shape, layers = plain["input_shape"], plain["layers"]
        if not isinstance(shape, Sequence) or not isinstance(layers, Sequence) or len(layers) > N_LAYERS_MAX:
            raise BadNetwork(f"input_shape and layers are lists, of at most {N_LAYERS_MAX} layers")
        return cls(input_shape=tuple(shape), layers=tuple(_layer_from_dict(layer) for layer in layers))


def mlp(*widths: int) -> Network:
    """Fully connected layers with ReLU between, e.g. mlp(64, 32, 10)."""
    if len(widths) < 2:
        raise BadNetwork(f"an MLP has at least an input and an output width, not {widths}")
    layers: list[Layer] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [Linear(n_in, n_out), ReLU()]
    return Network(input_shape=(widths[0],), layers=tuple(layers[:-1]))


def lenet_b(side: int = 28) -> Network:
    """BAFFLE's small convolutional network for square grey images of `side` pixels: 26,730 parameters."""
    layers = (
        Conv(1, 16, 5),
        Hardswish(),
        MaxPool(2),
        Conv(16, 64, 5),
        Hardswish(),
        GlobalAveragePool(),
        Linear(64, 10),
    )
    return Network(input_shape=(1, side, side), layers=layers)


def _parameters(layers: Sequence[Layer]) -> Iterator[Parameter]:
    start = 0
    for index, layer in enumerate(layers):
        if isinstance(layer, Linear):
            shape: Shape = (layer.n_out, layer.n_in)
        elif isinstance(layer, Conv):
            shape = (layer.n_out, layer.n_in, layer.kernel, layer.kernel)
        else:
            continue
        weight = Parameter(name=f"{index}.weight", shape=shape, start=start)
        bias = Parameter(name=f"{index}.bias", shape=shape[:1], start=weight.stop)
        start = bias.stop
        yield from (weight, bias)


def _shape_after(layer: Layer, shape: Shape, index: int) -> Shape:
    """Shape of one sample after the layer, after its own numbers have been checked."""
    for name, value in asdict(layer).items():
        if not (_is_width(value) or (name == "padding" and value == 0)):
            raise BadNetwork(f"layer {index} ({layer}): {name} must be 1 to {WIDTH_MAX}")
    match layer:
        case Linear() if shape == (layer.n_in,):
            return (layer.n_out,)
        case Conv() if len(shape) == 3 and shape[0] == layer.n_in:
            sides = [side + 2 * layer.padding - layer.kernel + 1 for side in shape[1:]]
            after: Shape = (layer.n_out, *sides)
        case MaxPool() if len(shape) == 3:
            after = (shape[0], *(side // layer.size for side in shape[1:]))
        case GlobalAveragePool() if len(shape) == 3:
            return shape[:1]
        case Flatten() if len(shape) == 3:
            return (math.prod(shape),)
        case ReLU() | Hardswish():
            return shape
        case _:
            raise BadNetwork(f"layer {index} ({layer}) does not fit samples of shape {shape}")
    if min(after) < 1:
        raise BadNetwork(f"layer {index} ({layer}) leaves nothing of samples of shape {shape}")
    return after


def _layer_from_dict(plain: Any) -> Layer:
    if not isinstance(plain, Mapping) or str(plain.get("kind")) not in KINDS:
        raise BadNetwork(f"a layer names its kind, one of {', '.join(KINDS)}: {plain!r}")
    kind = KINDS[plain["kind"]]
    fields = {name: value for name, value in plain.items() if name != "kind"}
    try:
        return kind(**fields)
    except TypeError as error:
        raise BadNetwork(f"a {kind.__name__} layer cannot be made of {fields}: {error}") from error


def _is_width(value: Any) -> bool:
    return type(value) is int and 1 <= value <= WIDTH_MAX
