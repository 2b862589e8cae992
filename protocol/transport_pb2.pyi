from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Contact(_message.Message):
    __slots__ = ("host", "grpc_port", "certificate", "multiaddrs", "dialable")
    HOST_FIELD_NUMBER: _ClassVar[int]
    GRPC_PORT_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    MULTIADDRS_FIELD_NUMBER: _ClassVar[int]
    DIALABLE_FIELD_NUMBER: _ClassVar[int]
    host: str
    grpc_port: int
    certificate: bytes
    multiaddrs: _containers.RepeatedScalarFieldContainer[str]
    dialable: bool
    def __init__(self, host: _Optional[str] = ..., grpc_port: _Optional[int] = ..., certificate: _Optional[bytes] = ..., multiaddrs: _Optional[_Iterable[str]] = ..., dialable: _Optional[bool] = ...) -> None: ...

class Challenge(_message.Message):
    __slots__ = ("nonce", "run_id")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    run_id: str
    def __init__(self, nonce: _Optional[bytes] = ..., run_id: _Optional[str] = ...) -> None: ...

class Proof(_message.Message):
    __slots__ = ("peer", "signature", "contact")
    PEER_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    CONTACT_FIELD_NUMBER: _ClassVar[int]
    peer: str
    signature: bytes
    contact: bytes
    def __init__(self, peer: _Optional[str] = ..., signature: _Optional[bytes] = ..., contact: _Optional[bytes] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("token", "lifetime_s")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_S_FIELD_NUMBER: _ClassVar[int]
    token: bytes
    lifetime_s: float
    def __init__(self, token: _Optional[bytes] = ..., lifetime_s: _Optional[float] = ...) -> None: ...

class Opening(_message.Message):
    __slots__ = ("method", "streaming")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    STREAMING_FIELD_NUMBER: _ClassVar[int]
    method: str
    streaming: bool
    def __init__(self, method: _Optional[str] = ..., streaming: _Optional[bool] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
