from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class SignedTicket(_message.Message):
    __slots__ = ("body", "signature")
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    signature: bytes
    def __init__(self, body: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class TicketBody(_message.Message):
    __slots__ = ("run_id", "peer", "role", "expires_at_s", "serial")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_S_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    peer: str
    role: str
    expires_at_s: float
    serial: int
    def __init__(self, run_id: _Optional[str] = ..., peer: _Optional[str] = ..., role: _Optional[str] = ..., expires_at_s: _Optional[float] = ..., serial: _Optional[int] = ...) -> None: ...

class InviteBody(_message.Message):
    __slots__ = ("run_id", "owner", "addresses", "secret")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    owner: bytes
    addresses: _containers.RepeatedScalarFieldContainer[str]
    secret: bytes
    def __init__(self, run_id: _Optional[str] = ..., owner: _Optional[bytes] = ..., addresses: _Optional[_Iterable[str]] = ..., secret: _Optional[bytes] = ...) -> None: ...

class Redemption(_message.Message):
    __slots__ = ("invite", "signature")
    INVITE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    invite: str
    signature: bytes
    def __init__(self, invite: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...
