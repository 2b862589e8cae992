"""What a daemon has to tell: one frozen dataclass per kind of event. docs/events.md describes them for readers.

Peers are named by their short ids. Times are seconds, sizes bytes; counters in `Traffic` run from the daemon's start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

_SHORT_ID_CHARS = 8


def short_id(peer: str) -> str:
    """The last characters of a peer id: what logs and reports call it. A short id stays as it is."""
    return peer[-_SHORT_ID_CHARS:]


@dataclass(frozen=True, kw_only=True)
class Started:
    """A daemon is up. The first event of every incarnation."""

    kind: ClassVar[str] = "started"
    run_id: str
    task: str
    method: str
    n_params: int
    incarnation: int
    """The unix time of this peer's first start, in whole seconds, and one more after each restart."""
    address: str


@dataclass(frozen=True, kw_only=True)
class Joined:
    """This peer is on the committed roster."""

    kind: ClassVar[str] = "joined"
    round: int
    roster: tuple[str, ...]
    lineage: str
    stages: tuple[int | None, ...] = ()
    """Of a pipeline: what each of the roster serves; None: it only trains."""


@dataclass(frozen=True, kw_only=True)
class Settled:
    """This peer serves a stage of a pipeline from now on, or only trains."""

    kind: ClassVar[str] = "settled"
    stage: int | None
    """None: it only trains."""
    n_stages: int
    step: int
    """Updates behind the stage's weights."""
    how: str
    """Who chose the stage, and where its state is from."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A decision sends this peer to a stage that needs it more; `settled` follows when it has that stage's state."""

    kind: ClassVar[str] = "moved"
    round: int
    from_stage: int
    to_stage: int


@dataclass(frozen=True, kw_only=True)
class StageRestored:
    """A stage of which no replica lived goes on with the newest state that anybody brought. All members tell it."""

    kind: ClassVar[str] = "stage_restored"
    round: int
    stage: int
    step: int
    """Updates of the run."""
    from_step: int
    """Updates that the stage's state has seen: those after it are lost, at this stage alone."""


@dataclass(frozen=True, kw_only=True)
class StepPassed:
    """A pipeline's round is over. Counters are of this peer and this round alone; `counted` is alike for all."""

    kind: ClassVar[str] = "step_passed"
    round: int
    step: int
    """Updates when the round had ended."""
    stage: int | None
    """That this peer serves; None: it only trains."""
    counted: int
    """Microbatches that the update counts, once at each stage; 0 if the round failed."""
    made_up: int = 0
    """Of earlier steps, counted once more at a stage that had lost what they did (local steps)."""
    delay: float = 0.0
    """Updates between the weights that the counted microbatches were passed with and those that the update moves, in
    the mean (asynchronous mode)."""
    expected: int
    """Microbatches of a step."""
    forward_passes: int
    backward_passes: int
    n_waiting_max: int
    """The longest that this replica's queue was."""
    rerouted: int
    """Passes that this peer as a trainer had to ask for again, elsewhere."""
    mended: int
    """Gradients that were passed once more since who held them had died."""
    duplicates_refused: int
    """Gradients that were sent to this replica again, and added nothing."""
    discarded: int
    """Gradients held here that the step did not count: another replica, or another take, did."""
    busy_s: float
    """In which this peer computed."""
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The local gradient of one step is computed."""

    kind: ClassVar[str] = "trained"
    step: int
    loss: float | None
    """Mean over this peer's own samples before the update; None if not finite."""
    samples: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RoundEnded:
    """This peer knows the outcome of a round, or knows that it does not know it."""

    kind: ClassVar[str] = "round_ended"
    round: int
    step: int
    """Updates applied to the model when the round had ended."""
    outcome: Literal["committed", "failed", "goes on", "unknown"]
    """Of a pipeline's step "goes on", if the round has counted a part of it, or has only changed the roster."""
    contributors: tuple[str, ...]
    """In roster order; empty if the round failed."""
    excluded: dict[str, str]
    """Peer -> why its contribution does not count."""
    dropped: tuple[str, ...] = ()
    """Contributors whose payload a robust method left out of the update."""
    payload_bytes: int
    """This peer's own payload, sent once to each other member."""
    duration_s: float
    overhead_s: float
    """The part of the duration that went into neither this peer's mathematics nor waiting for others' training."""
    ballots: int
    leader: str
    digest: str
    """Of the state after the round, hex; empty if unknown."""
    exchange_s: float = 0.0
    """From this peer's contribution being ready until the decided ones were here."""
    update_s: float = 0.0
    """From then until the state was updated and hashed."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The model was tried on held-out samples."""

    kind: ClassVar[str] = "evaluated"
    step: int
    loss: float | None
    """None if not finite."""
    accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Text that the model wrote."""

    kind: ClassVar[str] = "sampled"
    step: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes that this daemon has sent and received since it started, by method ("dht" for records)."""

    kind: ClassVar[str] = "traffic"
    sent: dict[str, int]
    received: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Resynced:
    """This peer took over the group's state."""

    kind: ClassVar[str] = "resynced"
    from_round: int
    to_round: int
    bytes: int
    donors: tuple[str, ...]
    seconds: float
    how: str
    """What vouched for the state, and what made it necessary."""
    lineage: str = ""
    """Whose history the peer goes on with; after a split not the one that it had been on."""


@dataclass(frozen=True, kw_only=True)
class Forked:
    """The roster split for good, and this part goes on under a name of its own."""

    kind: ClassVar[str] = "forked"
    round: int
    from_lineage: str
    to_lineage: str
    roster: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PeerRefused:
    """Another peer was turned away, or something that it sent was."""

    kind: ClassVar[str] = "peer_refused"
    refused: str
    """The other peer; the envelope's `peer` is who refused."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Checkpointed:
    kind: ClassVar[str] = "checkpointed"
    step: int
    path: str
    bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Resident memory of this daemon's process, and what is known of its parts."""

    kind: ClassVar[str] = "memory"
    rss_bytes: int
    parts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PrivacySpent:
    """What a device that took part in every round so far has spent, in a run with differential privacy."""

    kind: ClassVar[str] = "privacy_spent"
    rounds: int
    epsilon: float | None
    """None: dp-accounting is not installed where this was written."""
    delta: float
    noise_multiplier: float
    sums_only: bool
    """Whether the noise is in sums alone, under masks; if not, every single answer carries all of it."""


@dataclass(frozen=True, kw_only=True)
class Warned:
    kind: ClassVar[str] = "warned"
    message: str


@dataclass(frozen=True, kw_only=True)
class Left:
    """This peer took leave of the roster."""

    kind: ClassVar[str] = "left"
    reason: str


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The daemon stops. The last event of an incarnation that was not killed."""

    kind: ClassVar[str] = "ended"
    outcome: Literal["finished", "stopped", "failed"]
    """All steps done; asked to stop; an error, told in `message`."""
    step: int
    round: int
    digest: str = ""
    message: str = ""


Event = (
    Started
    | Joined
    | Settled
    | Moved
    | StageRestored
    | StepPassed
    | Trained
    | RoundEnded
    | Evaluated
    | Sampled
    | Traffic
    | Resynced
    | Forked
    | PeerRefused
    | Checkpointed
    | Memory
    | PrivacySpent
    | Warned
    | Left
    | Ended
)

KINDS: dict[str, type[Event]] = {cls.kind: cls for cls in get_args(Event)}
