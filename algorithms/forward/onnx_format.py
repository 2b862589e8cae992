"""Small ONNX models as bytes, without the `onnx` package: devices have onnxruntime alone.

ONNX is protobuf (onnx/onnx.proto3 in its repository); the few messages of a plain graph are written here by field
number. The tests read the result with the official package and have it checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

FLOAT: Final = 1
UINT8: Final = 2
INT8: Final = 3
INT32: Final = 6
"""Element types (TensorProto.DataType)."""

_IR_VERSION: Final = 8
_OPSET: Final = 17
_ATTRIBUTE_INT: Final = 2
_ATTRIBUTE_STRING: Final = 3
_ATTRIBUTE_INTS: Final = 7

Attribute = int | str | tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Value:
    """An input or output of a graph; a dimension that is a name may have any size."""

    name: str
    element: int
    shape: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Attribute] = field(default_factory=dict)
    domain: str = ""
    """Empty for ONNX's own operators; others are taken in version 1."""


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A float32 tensor that is part of the graph (an initialiser)."""

    name: str
    shape: tuple[int, ...]
    data: bytes
    """Little-endian, C order."""


def model_bytes(
    nodes: Sequence[Node], inputs: Sequence[Value], outputs: Sequence[Value], constants: Sequence[Constant] = ()
) -> bytes:
    """A ModelProto of opset 17: nodes in an order in which they can run."""
    graph = b"".join(_message(1, _node(node)) for node in nodes) + _text(2, "gossamer")
    graph += b"".join(_message(5, _constant(constant)) for constant in constants)
    graph += b"".join(_message(11, _value(value)) for value in inputs)
    graph += b"".join(_message(12, _value(value)) for value in outputs)
    versions = {"": _OPSET} | {node.domain: 1 for node in nodes if node.domain}
    opsets = b"".join(_message(8, _text(1, domain) + _integer(2, version)) for domain, version in versions.items())
    return _integer(1, _IR_VERSION) + _text(2, "gossamer") + _message(7, graph) + opsets


def _node(node: Node) -> bytes:
    names = b"".join(_text(1, name) for name in node.inputs) + _text(2, node.output)
    attributes = b"".join(_message(5, _attribute(name, value)) for name, value in node.attributes.items())
    return names + _text(3, node.output) + _text(4, node.operator) + attributes + _text(7, node.domain)


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, int):
        return _text(1, name) + _integer(3, value) + _integer(20, _ATTRIBUTE_INT)
    if isinstance(value, str):
        return _text(1, name) + _text(4, value) + _integer(20, _ATTRIBUTE_STRING)
    return _text(1, name) + b"".join(_integer(8, item) for item in value) + _integer(20, _ATTRIBUTE_INTS)


def _constant(constant: Constant) -> bytes:
    dims = b"".join(_integer(1, size) for size in constant.shape)
    return dims + _integer(2, FLOAT) + _text(8, constant.name) + _message(9, constant.data)


def _value(value: Value) -> bytes:
    sizes = (_integer(1, size) if isinstance(size, int) else _text(2, size) for size in value.shape)
    shape = b"".join(_message(1, size) for size in sizes)
    tensor = _integer(1, value.element) + _message(2, shape)
    return _text(1, value.name) + _message(2, _message(1, tensor))


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _text(number: int, text: str) -> bytes:
    return _message(number, text.encode())


def _integer(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
