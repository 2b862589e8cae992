from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Member(_message.Message):
    __slots__ = ("peer", "incarnation", "stage", "replica_only")
    PEER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ONLY_FIELD_NUMBER: _ClassVar[int]
    peer: str
    incarnation: int
    stage: int
    replica_only: bool
    def __init__(self, peer: _Optional[str] = ..., incarnation: _Optional[int] = ..., stage: _Optional[int] = ..., replica_only: _Optional[bool] = ...) -> None: ...

class Roster(_message.Message):
    __slots__ = ("members",)
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("hash", "length")
    HASH_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    hash: bytes
    length: int
    def __init__(self, hash: _Optional[bytes] = ..., length: _Optional[int] = ...) -> None: ...

class Exclusion(_message.Message):
    __slots__ = ("slot", "reason")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    slot: int
    reason: str
    def __init__(self, slot: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("lineage", "round", "base", "contributors", "items", "excluded", "removed", "added", "stop", "snapshot", "counts", "stage_digests", "moves", "restored", "turns", "routes")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTORS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    STAGE_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    RESTORED_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    round: int
    base: bytes
    contributors: _containers.RepeatedScalarFieldContainer[int]
    items: _containers.RepeatedCompositeFieldContainer[Item]
    excluded: _containers.RepeatedCompositeFieldContainer[Exclusion]
    removed: _containers.RepeatedScalarFieldContainer[int]
    added: _containers.RepeatedCompositeFieldContainer[Member]
    stop: bool
    snapshot: bool
    counts: _containers.RepeatedCompositeFieldContainer[Count]
    stage_digests: _containers.RepeatedScalarFieldContainer[bytes]
    moves: _containers.RepeatedCompositeFieldContainer[Move]
    restored: _containers.RepeatedCompositeFieldContainer[Restoration]
    turns: _containers.RepeatedScalarFieldContainer[int]
    routes: _containers.RepeatedCompositeFieldContainer[Route]
    def __init__(self, lineage: _Optional[bytes] = ..., round: _Optional[int] = ..., base: _Optional[bytes] = ..., contributors: _Optional[_Iterable[int]] = ..., items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ..., excluded: _Optional[_Iterable[_Union[Exclusion, _Mapping]]] = ..., removed: _Optional[_Iterable[int]] = ..., added: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., stop: _Optional[bool] = ..., snapshot: _Optional[bool] = ..., counts: _Optional[_Iterable[_Union[Count, _Mapping]]] = ..., stage_digests: _Optional[_Iterable[bytes]] = ..., moves: _Optional[_Iterable[_Union[Move, _Mapping]]] = ..., restored: _Optional[_Iterable[_Union[Restoration, _Mapping]]] = ..., turns: _Optional[_Iterable[int]] = ..., routes: _Optional[_Iterable[_Union[Route, _Mapping]]] = ...) -> None: ...

class Move(_message.Message):
    __slots__ = ("slot", "stage")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    slot: int
    stage: int
    def __init__(self, slot: _Optional[int] = ..., stage: _Optional[int] = ...) -> None: ...

class Restoration(_message.Message):
    __slots__ = ("stage", "state", "from_step", "step")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FROM_STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    stage: int
    state: bytes
    from_step: int
    step: int
    def __init__(self, stage: _Optional[int] = ..., state: _Optional[bytes] = ..., from_step: _Optional[int] = ..., step: _Optional[int] = ...) -> None: ...

class Route(_message.Message):
    __slots__ = ("index", "slots", "takes")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    TAKES_FIELD_NUMBER: _ClassVar[int]
    index: int
    slots: _containers.RepeatedScalarFieldContainer[int]
    takes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, index: _Optional[int] = ..., slots: _Optional[_Iterable[int]] = ..., takes: _Optional[_Iterable[int]] = ...) -> None: ...

class Count(_message.Message):
    __slots__ = ("slot", "indices", "takes")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    TAKES_FIELD_NUMBER: _ClassVar[int]
    slot: int
    indices: _containers.RepeatedScalarFieldContainer[int]
    takes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, slot: _Optional[int] = ..., indices: _Optional[_Iterable[int]] = ..., takes: _Optional[_Iterable[int]] = ...) -> None: ...

class Vote(_message.Message):
    __slots__ = ("slot", "signature")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    slot: int
    signature: bytes
    def __init__(self, slot: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Certificate(_message.Message):
    __slots__ = ("lineage", "round", "ballot", "decision_hash", "votes")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    DECISION_HASH_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    round: int
    ballot: int
    decision_hash: bytes
    votes: _containers.RepeatedCompositeFieldContainer[Vote]
    def __init__(self, lineage: _Optional[bytes] = ..., round: _Optional[int] = ..., ballot: _Optional[int] = ..., decision_hash: _Optional[bytes] = ..., votes: _Optional[_Iterable[_Union[Vote, _Mapping]]] = ...) -> None: ...

class Genesis(_message.Message):
    __slots__ = ("run_id", "epoch", "round", "digest", "roster")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    epoch: int
    round: int
    digest: bytes
    roster: Roster
    def __init__(self, run_id: _Optional[str] = ..., epoch: _Optional[int] = ..., round: _Optional[int] = ..., digest: _Optional[bytes] = ..., roster: _Optional[_Union[Roster, _Mapping]] = ...) -> None: ...

class SignedGenesis(_message.Message):
    __slots__ = ("genesis", "signature")
    GENESIS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    genesis: bytes
    signature: bytes
    def __init__(self, genesis: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class OfferHeader(_message.Message):
    __slots__ = ("lineage", "round", "base", "item", "attempt")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    round: int
    base: bytes
    item: Item
    attempt: int
    def __init__(self, lineage: _Optional[bytes] = ..., round: _Optional[int] = ..., base: _Optional[bytes] = ..., item: _Optional[_Union[Item, _Mapping]] = ..., attempt: _Optional[int] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("header", "signature", "payload")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    signature: bytes
    payload: bytes
    def __init__(self, header: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Hold(_message.Message):
    __slots__ = ("lineage", "round", "ballot", "base", "items", "ready", "attempt", "leaving", "refused", "lost", "bytes_per_s", "routes", "state", "patience_s")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_S_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    round: int
    ballot: int
    base: bytes
    items: _containers.RepeatedCompositeFieldContainer[HeldItem]
    ready: bool
    attempt: int
    leaving: bool
    refused: _containers.RepeatedScalarFieldContainer[int]
    lost: _containers.RepeatedScalarFieldContainer[int]
    bytes_per_s: float
    routes: _containers.RepeatedCompositeFieldContainer[Route]
    state: bytes
    patience_s: float
    def __init__(self, lineage: _Optional[bytes] = ..., round: _Optional[int] = ..., ballot: _Optional[int] = ..., base: _Optional[bytes] = ..., items: _Optional[_Iterable[_Union[HeldItem, _Mapping]]] = ..., ready: _Optional[bool] = ..., attempt: _Optional[int] = ..., leaving: _Optional[bool] = ..., refused: _Optional[_Iterable[int]] = ..., lost: _Optional[_Iterable[int]] = ..., bytes_per_s: _Optional[float] = ..., routes: _Optional[_Iterable[_Union[Route, _Mapping]]] = ..., state: _Optional[bytes] = ..., patience_s: _Optional[float] = ...) -> None: ...

class HeldItem(_message.Message):
    __slots__ = ("key", "item")
    KEY_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    key: int
    item: Item
    def __init__(self, key: _Optional[int] = ..., item: _Optional[_Union[Item, _Mapping]] = ...) -> None: ...

class Floats(_message.Message):
    __slots__ = ("lineage", "round", "base", "values")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    round: int
    base: bytes
    values: bytes
    def __init__(self, lineage: _Optional[bytes] = ..., round: _Optional[int] = ..., base: _Optional[bytes] = ..., values: _Optional[bytes] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("lineage", "round", "attempt", "contributors", "parts")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTORS_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    round: int
    attempt: int
    contributors: _containers.RepeatedScalarFieldContainer[int]
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    def __init__(self, lineage: _Optional[bytes] = ..., round: _Optional[int] = ..., attempt: _Optional[int] = ..., contributors: _Optional[_Iterable[int]] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("reducer", "start", "stop")
    REDUCER_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    reducer: int
    start: int
    stop: int
    def __init__(self, reducer: _Optional[int] = ..., start: _Optional[int] = ..., stop: _Optional[int] = ...) -> None: ...

class PartHeader(_message.Message):
    __slots__ = ("lineage", "round", "attempt", "part", "contributes", "offset")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    round: int
    attempt: int
    part: int
    contributes: bool
    offset: int
    def __init__(self, lineage: _Optional[bytes] = ..., round: _Optional[int] = ..., attempt: _Optional[int] = ..., part: _Optional[int] = ..., contributes: _Optional[bool] = ..., offset: _Optional[int] = ...) -> None: ...

class Prepare(_message.Message):
    __slots__ = ("lineage", "round", "ballot")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    round: int
    ballot: int
    def __init__(self, lineage: _Optional[bytes] = ..., round: _Optional[int] = ..., ballot: _Optional[int] = ...) -> None: ...

class Promise(_message.Message):
    __slots__ = ("granted", "promised", "has_accepted", "accepted_ballot", "accepted", "hold", "signature")
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    PROMISED_FIELD_NUMBER: _ClassVar[int]
    HAS_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_BALLOT_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    granted: bool
    promised: int
    has_accepted: bool
    accepted_ballot: int
    accepted: bytes
    hold: Hold
    signature: bytes
    def __init__(self, granted: _Optional[bool] = ..., promised: _Optional[int] = ..., has_accepted: _Optional[bool] = ..., accepted_ballot: _Optional[int] = ..., accepted: _Optional[bytes] = ..., hold: _Optional[_Union[Hold, _Mapping]] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Accept(_message.Message):
    __slots__ = ("lineage", "round", "ballot", "decision", "signature")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BALLOT_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    round: int
    ballot: int
    decision: bytes
    signature: bytes
    def __init__(self, lineage: _Optional[bytes] = ..., round: _Optional[int] = ..., ballot: _Optional[int] = ..., decision: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("granted", "promised", "vote")
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    PROMISED_FIELD_NUMBER: _ClassVar[int]
    VOTE_FIELD_NUMBER: _ClassVar[int]
    granted: bool
    promised: int
    vote: Vote
    def __init__(self, granted: _Optional[bool] = ..., promised: _Optional[int] = ..., vote: _Optional[_Union[Vote, _Mapping]] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("decision", "certificate")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    decision: bytes
    certificate: Certificate
    def __init__(self, decision: _Optional[bytes] = ..., certificate: _Optional[_Union[Certificate, _Mapping]] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("hash",)
    HASH_FIELD_NUMBER: _ClassVar[int]
    hash: bytes
    def __init__(self, hash: _Optional[bytes] = ...) -> None: ...

class LogRequest(_message.Message):
    __slots__ = ("lineage", "from_round")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    FROM_ROUND_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    from_round: int
    def __init__(self, lineage: _Optional[bytes] = ..., from_round: _Optional[int] = ...) -> None: ...

class Log(_message.Message):
    __slots__ = ("first_round", "entries", "items")
    FIRST_ROUND_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    first_round: int
    entries: _containers.RepeatedCompositeFieldContainer[Commit]
    items: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, first_round: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[Commit, _Mapping]]] = ..., items: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("member", "lineage", "round", "step", "samples", "digest", "roster", "active", "ticket", "decides")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    DECIDES_FIELD_NUMBER: _ClassVar[int]
    member: Member
    lineage: bytes
    round: int
    step: int
    samples: int
    digest: bytes
    roster: Roster
    active: bool
    ticket: bytes
    decides: bool
    def __init__(self, member: _Optional[_Union[Member, _Mapping]] = ..., lineage: _Optional[bytes] = ..., round: _Optional[int] = ..., step: _Optional[int] = ..., samples: _Optional[int] = ..., digest: _Optional[bytes] = ..., roster: _Optional[_Union[Roster, _Mapping]] = ..., active: _Optional[bool] = ..., ticket: _Optional[bytes] = ..., decides: _Optional[bool] = ...) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("member", "lineage", "round", "base", "state", "n_lost")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    N_LOST_FIELD_NUMBER: _ClassVar[int]
    member: Member
    lineage: bytes
    round: int
    base: bytes
    state: bytes
    n_lost: int
    def __init__(self, member: _Optional[_Union[Member, _Mapping]] = ..., lineage: _Optional[bytes] = ..., round: _Optional[int] = ..., base: _Optional[bytes] = ..., state: _Optional[bytes] = ..., n_lost: _Optional[int] = ...) -> None: ...

class SnapshotInfo(_message.Message):
    __slots__ = ("lineage", "round", "digest", "length", "chunks", "roster", "hash", "rounded", "stage", "step", "samples", "unsettled")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    ROUNDED_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    UNSETTLED_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    round: int
    digest: bytes
    length: int
    chunks: _containers.RepeatedScalarFieldContainer[bytes]
    roster: Roster
    hash: bytes
    rounded: bool
    stage: int
    step: int
    samples: int
    unsettled: bytes
    def __init__(self, lineage: _Optional[bytes] = ..., round: _Optional[int] = ..., digest: _Optional[bytes] = ..., length: _Optional[int] = ..., chunks: _Optional[_Iterable[bytes]] = ..., roster: _Optional[_Union[Roster, _Mapping]] = ..., hash: _Optional[bytes] = ..., rounded: _Optional[bool] = ..., stage: _Optional[int] = ..., step: _Optional[int] = ..., samples: _Optional[int] = ..., unsettled: _Optional[bytes] = ...) -> None: ...

class SnapshotRequest(_message.Message):
    __slots__ = ("lineage", "digest", "renew")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    RENEW_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    digest: bytes
    renew: bool
    def __init__(self, lineage: _Optional[bytes] = ..., digest: _Optional[bytes] = ..., renew: _Optional[bool] = ...) -> None: ...

class ChunkRequest(_message.Message):
    __slots__ = ("hash", "index")
    HASH_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    hash: bytes
    index: int
    def __init__(self, hash: _Optional[bytes] = ..., index: _Optional[int] = ...) -> None: ...

class Fork(_message.Message):
    __slots__ = ("lineage", "round", "base", "roster")
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    lineage: bytes
    round: int
    base: bytes
    roster: Roster
    def __init__(self, lineage: _Optional[bytes] = ..., round: _Optional[int] = ..., base: _Optional[bytes] = ..., roster: _Optional[_Union[Roster, _Mapping]] = ...) -> None: ...

class ForkVote(_message.Message):
    __slots__ = ("peer", "signature")
    PEER_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    peer: str
    signature: bytes
    def __init__(self, peer: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class ForkCertificate(_message.Message):
    __slots__ = ("fork", "votes")
    FORK_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    fork: Fork
    votes: _containers.RepeatedCompositeFieldContainer[ForkVote]
    def __init__(self, fork: _Optional[_Union[Fork, _Mapping]] = ..., votes: _Optional[_Iterable[_Union[ForkVote, _Mapping]]] = ...) -> None: ...
