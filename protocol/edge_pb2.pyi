from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TokenBody(_message.Message):
    __slots__ = ("run_id", "gateway", "certificate_hash", "secret")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_HASH_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    run_id: bytes
    gateway: bytes
    certificate_hash: bytes
    secret: bytes
    def __init__(self, run_id: _Optional[bytes] = ..., gateway: _Optional[bytes] = ..., certificate_hash: _Optional[bytes] = ..., secret: _Optional[bytes] = ...) -> None: ...

class EnrolmentRequest(_message.Message):
    __slots__ = ("token", "signature")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    token: bytes
    signature: bytes
    def __init__(self, token: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class RotationRequest(_message.Message):
    __slots__ = ("device", "signature")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    device: str
    signature: bytes
    def __init__(self, device: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class RunCard(_message.Message):
    __slots__ = ("run_id", "task", "network", "options", "steps", "heartbeat_s", "method")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    task: str
    network: str
    options: str
    steps: int
    heartbeat_s: float
    method: str
    def __init__(self, run_id: _Optional[str] = ..., task: _Optional[str] = ..., network: _Optional[str] = ..., options: _Optional[str] = ..., steps: _Optional[int] = ..., heartbeat_s: _Optional[float] = ..., method: _Optional[str] = ...) -> None: ...

class Signed(_message.Message):
    __slots__ = ("body", "signature")
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    signature: bytes
    def __init__(self, body: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class SnapshotRequest(_message.Message):
    __slots__ = ("digest", "offset")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    offset: int
    def __init__(self, digest: _Optional[bytes] = ..., offset: _Optional[int] = ...) -> None: ...

class SnapshotHead(_message.Message):
    __slots__ = ("step", "digest", "length", "offset")
    STEP_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    step: int
    digest: bytes
    length: int
    offset: int
    def __init__(self, step: _Optional[int] = ..., digest: _Optional[bytes] = ..., length: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class DeviceRoster(_message.Message):
    __slots__ = ("round", "devices")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    round: int
    devices: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, round: _Optional[int] = ..., devices: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("step", "digest", "samples", "engine", "rss_bytes")
    STEP_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    step: int
    digest: bytes
    samples: int
    engine: str
    rss_bytes: int
    def __init__(self, step: _Optional[int] = ..., digest: _Optional[bytes] = ..., samples: _Optional[int] = ..., engine: _Optional[str] = ..., rss_bytes: _Optional[int] = ...) -> None: ...

class SubmissionBody(_message.Message):
    __slots__ = ("round", "slot", "base", "loss", "scalars", "attempt", "digest", "length")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    SCALARS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    round: int
    slot: int
    base: bytes
    loss: float
    scalars: bytes
    attempt: int
    digest: bytes
    length: int
    def __init__(self, round: _Optional[int] = ..., slot: _Optional[int] = ..., base: _Optional[bytes] = ..., loss: _Optional[float] = ..., scalars: _Optional[bytes] = ..., attempt: _Optional[int] = ..., digest: _Optional[bytes] = ..., length: _Optional[int] = ...) -> None: ...

class Abandonment(_message.Message):
    __slots__ = ("round", "reason")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    round: int
    reason: str
    def __init__(self, round: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Uplink(_message.Message):
    __slots__ = ("hello", "submission", "abandonment", "sum_keys", "sum_shares", "sum_reveal")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    SUBMISSION_FIELD_NUMBER: _ClassVar[int]
    ABANDONMENT_FIELD_NUMBER: _ClassVar[int]
    SUM_KEYS_FIELD_NUMBER: _ClassVar[int]
    SUM_SHARES_FIELD_NUMBER: _ClassVar[int]
    SUM_REVEAL_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    submission: Signed
    abandonment: Abandonment
    sum_keys: SumKeys
    sum_shares: SumShares
    sum_reveal: SumReveal
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., submission: _Optional[_Union[Signed, _Mapping]] = ..., abandonment: _Optional[_Union[Abandonment, _Mapping]] = ..., sum_keys: _Optional[_Union[SumKeys, _Mapping]] = ..., sum_shares: _Optional[_Union[SumShares, _Mapping]] = ..., sum_reveal: _Optional[_Union[SumReveal, _Mapping]] = ...) -> None: ...

class LongAnswerWord(_message.Message):
    __slots__ = ("offset", "receipt")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    offset: int
    receipt: Receipt
    def __init__(self, offset: _Optional[int] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ...) -> None: ...

class SumKeys(_message.Message):
    __slots__ = ("attempt", "slot", "channel", "mask", "seed_digest", "signature")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    SEED_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    slot: int
    channel: bytes
    mask: bytes
    seed_digest: bytes
    signature: bytes
    def __init__(self, attempt: _Optional[int] = ..., slot: _Optional[int] = ..., channel: _Optional[bytes] = ..., mask: _Optional[bytes] = ..., seed_digest: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class SumRoster(_message.Message):
    __slots__ = ("attempt", "devices", "keys")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    devices: _containers.RepeatedScalarFieldContainer[bytes]
    keys: _containers.RepeatedCompositeFieldContainer[SumKeys]
    def __init__(self, attempt: _Optional[int] = ..., devices: _Optional[_Iterable[bytes]] = ..., keys: _Optional[_Iterable[_Union[SumKeys, _Mapping]]] = ...) -> None: ...

class SlotBytes(_message.Message):
    __slots__ = ("slot", "data")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    slot: int
    data: bytes
    def __init__(self, slot: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class SumShares(_message.Message):
    __slots__ = ("attempt", "sealed")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    sealed: _containers.RepeatedCompositeFieldContainer[SlotBytes]
    def __init__(self, attempt: _Optional[int] = ..., sealed: _Optional[_Iterable[_Union[SlotBytes, _Mapping]]] = ...) -> None: ...

class SumSurvivors(_message.Message):
    __slots__ = ("attempt", "slots")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    slots: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, attempt: _Optional[int] = ..., slots: _Optional[_Iterable[int]] = ...) -> None: ...

class SumReveal(_message.Message):
    __slots__ = ("attempt", "seeds", "keys")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    seeds: _containers.RepeatedCompositeFieldContainer[SlotBytes]
    keys: _containers.RepeatedCompositeFieldContainer[SlotBytes]
    def __init__(self, attempt: _Optional[int] = ..., seeds: _Optional[_Iterable[_Union[SlotBytes, _Mapping]]] = ..., keys: _Optional[_Iterable[_Union[SlotBytes, _Mapping]]] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("learning_rate", "payloads")
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    learning_rate: float
    payloads: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, learning_rate: _Optional[float] = ..., payloads: _Optional[_Iterable[bytes]] = ...) -> None: ...

class AssignmentBody(_message.Message):
    __slots__ = ("round", "step", "base", "slot", "roster_hash", "deadline_s", "attempt")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    ROSTER_HASH_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    round: int
    step: int
    base: bytes
    slot: int
    roster_hash: bytes
    deadline_s: float
    attempt: int
    def __init__(self, round: _Optional[int] = ..., step: _Optional[int] = ..., base: _Optional[bytes] = ..., slot: _Optional[int] = ..., roster_hash: _Optional[bytes] = ..., deadline_s: _Optional[float] = ..., attempt: _Optional[int] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("signed", "steps", "resync")
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    RESYNC_FIELD_NUMBER: _ClassVar[int]
    signed: Signed
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    resync: bool
    def __init__(self, signed: _Optional[_Union[Signed, _Mapping]] = ..., steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., resync: _Optional[bool] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("round", "slot", "verdict")
    class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNSPECIFIED: _ClassVar[Receipt.Verdict]
        COUNTED: _ClassVar[Receipt.Verdict]
        STALE: _ClassVar[Receipt.Verdict]
        REFUSED: _ClassVar[Receipt.Verdict]
    UNSPECIFIED: Receipt.Verdict
    COUNTED: Receipt.Verdict
    STALE: Receipt.Verdict
    REFUSED: Receipt.Verdict
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    round: int
    slot: int
    verdict: Receipt.Verdict
    def __init__(self, round: _Optional[int] = ..., slot: _Optional[int] = ..., verdict: _Optional[_Union[Receipt.Verdict, str]] = ...) -> None: ...

class Finish(_message.Message):
    __slots__ = ("step", "digest", "steps", "resync")
    STEP_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    RESYNC_FIELD_NUMBER: _ClassVar[int]
    step: int
    digest: bytes
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    resync: bool
    def __init__(self, step: _Optional[int] = ..., digest: _Optional[bytes] = ..., steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., resync: _Optional[bool] = ...) -> None: ...

class Downlink(_message.Message):
    __slots__ = ("assignment", "receipt", "finish", "heartbeat", "sum_roster", "sum_shares", "sum_survivors")
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    SUM_ROSTER_FIELD_NUMBER: _ClassVar[int]
    SUM_SHARES_FIELD_NUMBER: _ClassVar[int]
    SUM_SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    assignment: Assignment
    receipt: Receipt
    finish: Finish
    heartbeat: bool
    sum_roster: SumRoster
    sum_shares: SumShares
    sum_survivors: SumSurvivors
    def __init__(self, assignment: _Optional[_Union[Assignment, _Mapping]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., finish: _Optional[_Union[Finish, _Mapping]] = ..., heartbeat: _Optional[bool] = ..., sum_roster: _Optional[_Union[SumRoster, _Mapping]] = ..., sum_shares: _Optional[_Union[SumShares, _Mapping]] = ..., sum_survivors: _Optional[_Union[SumSurvivors, _Mapping]] = ...) -> None: ...

class OpenedRound(_message.Message):
    __slots__ = ("round", "base", "devices")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    round: int
    base: bytes
    devices: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, round: _Optional[int] = ..., base: _Optional[bytes] = ..., devices: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("device", "body", "spent")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    device: bytes
    body: bytes
    spent: bool
    def __init__(self, device: _Optional[bytes] = ..., body: _Optional[bytes] = ..., spent: _Optional[bool] = ...) -> None: ...

class AppliedStep(_message.Message):
    __slots__ = ("step_before", "step_after", "step", "contributors", "members", "base", "digest", "standing", "round", "answered", "payloads_apart")
    STEP_BEFORE_FIELD_NUMBER: _ClassVar[int]
    STEP_AFTER_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTORS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_APART_FIELD_NUMBER: _ClassVar[int]
    step_before: int
    step_after: int
    step: Step
    contributors: _containers.RepeatedScalarFieldContainer[int]
    members: int
    base: bytes
    digest: bytes
    standing: str
    round: int
    answered: _containers.RepeatedCompositeFieldContainer[AnsweredSlots]
    payloads_apart: int
    def __init__(self, step_before: _Optional[int] = ..., step_after: _Optional[int] = ..., step: _Optional[_Union[Step, _Mapping]] = ..., contributors: _Optional[_Iterable[int]] = ..., members: _Optional[int] = ..., base: _Optional[bytes] = ..., digest: _Optional[bytes] = ..., standing: _Optional[str] = ..., round: _Optional[int] = ..., answered: _Optional[_Iterable[_Union[AnsweredSlots, _Mapping]]] = ..., payloads_apart: _Optional[int] = ...) -> None: ...

class AnsweredSlots(_message.Message):
    __slots__ = ("round_seed", "slots")
    ROUND_SEED_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    round_seed: bytes
    slots: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, round_seed: _Optional[bytes] = ..., slots: _Optional[_Iterable[int]] = ...) -> None: ...

class Summed(_message.Message):
    __slots__ = ("round", "base", "mean", "devices")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    round: int
    base: bytes
    mean: bytes
    devices: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, round: _Optional[int] = ..., base: _Optional[bytes] = ..., mean: _Optional[bytes] = ..., devices: _Optional[_Iterable[bytes]] = ...) -> None: ...

class JournalEntry(_message.Message):
    __slots__ = ("opened", "accepted", "applied", "summed", "payload")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    SUMMED_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    opened: OpenedRound
    accepted: Accepted
    applied: AppliedStep
    summed: Summed
    payload: bytes
    def __init__(self, opened: _Optional[_Union[OpenedRound, _Mapping]] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., applied: _Optional[_Union[AppliedStep, _Mapping]] = ..., summed: _Optional[_Union[Summed, _Mapping]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Outbox(_message.Message):
    __slots__ = ("submissions",)
    SUBMISSIONS_FIELD_NUMBER: _ClassVar[int]
    submissions: _containers.RepeatedCompositeFieldContainer[Signed]
    def __init__(self, submissions: _Optional[_Iterable[_Union[Signed, _Mapping]]] = ...) -> None: ...
