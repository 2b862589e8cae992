from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TensorCodec(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TENSOR_CODEC_UNSPECIFIED: _ClassVar[TensorCodec]
    FP32: _ClassVar[TensorCodec]
    FP16: _ClassVar[TensorCodec]
    BF16: _ClassVar[TensorCodec]
    INT8_FP16: _ClassVar[TensorCodec]
    INT8_FP32: _ClassVar[TensorCodec]
    INT64: _ClassVar[TensorCodec]
    INT32: _ClassVar[TensorCodec]
    UINT8: _ClassVar[TensorCodec]
TENSOR_CODEC_UNSPECIFIED: TensorCodec
FP32: TensorCodec
FP16: TensorCodec
BF16: TensorCodec
INT8_FP16: TensorCodec
INT8_FP32: TensorCodec
INT64: TensorCodec
INT32: TensorCodec
UINT8: TensorCodec

class TensorHeader(_message.Message):
    __slots__ = ("name", "codec", "shape", "payload_bytes", "sha256", "blake3")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    BLAKE3_FIELD_NUMBER: _ClassVar[int]
    name: str
    codec: TensorCodec
    shape: _containers.RepeatedScalarFieldContainer[int]
    payload_bytes: int
    sha256: bytes
    blake3: bytes
    def __init__(self, name: _Optional[str] = ..., codec: _Optional[_Union[TensorCodec, str]] = ..., shape: _Optional[_Iterable[int]] = ..., payload_bytes: _Optional[int] = ..., sha256: _Optional[bytes] = ..., blake3: _Optional[bytes] = ...) -> None: ...
