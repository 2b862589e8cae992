"""What a decision says of a pipeline's stages besides the step: who moves to another, and which was lost and restored.

docs/design/0004-pipelines.md, "Moves" and "A lost stage".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import InvalidMessage
from .roster import NO_STAGE, STAGES_MAX, WHOLE, Roster

DIGEST_BYTES = 32
STEPS_MAX = 1 << 48


@dataclass(frozen=True, kw_only=True)
class Move:
    """A replica leaves the roster, and comes back in another stage once it has that stage's state."""

    slot: int
    stage: int
    """The new one."""

    def to_wire(self) -> pb.Move:
        return pb.Move(slot=self.slot, stage=self.stage)

    @classmethod
    def from_wire(cls, message: pb.Move) -> Move:
        return cls(slot=message.slot, stage=message.stage)


@dataclass(frozen=True, kw_only=True)
class Restoration:
    """A stage without living replicas goes on with what its new ones bring."""

    stage: int
    state: bytes
    """Digest of it, counted as the run's present version."""
    from_step: int
    """Updates that it has really seen."""
    step: int
    """Updates of the run."""

    @property
    def n_lost(self) -> int:
        """Updates of the stage that nobody has any more: `from_step` + 1 up to `step`."""
        return self.step - self.from_step

    def to_wire(self) -> pb.Restoration:
        return pb.Restoration(stage=self.stage, state=self.state, from_step=self.from_step, step=self.step)

    @classmethod
    def from_wire(cls, message: pb.Restoration) -> Restoration:
        if len(message.state) != DIGEST_BYTES or not message.from_step <= message.step <= STEPS_MAX:
            raise InvalidMessage("a stage that would be restored to a state that cannot be: refused")
        return cls(stage=message.stage, state=message.state, from_step=message.from_step, step=message.step)


def check_changes(
    moves: Sequence[Move], restored: Sequence[Restoration], roster: Roster, removed: Sequence[int], after: Roster
) -> None:
    """Refuse moves of who stays, or nowhere, and restorations of stages that are still there.

    Args:
        removed: slots of `roster` that the decision takes off it.
        after: the next roster.
    Raises: InvalidMessage.
    """
    slots = [move.slot for move in moves]
    if slots != sorted(set(slots)) or not set(slots) <= set(removed):
        raise InvalidMessage("a decision that moves members which it leaves where they are: refused")
    if any(
        move.stage >= STAGES_MAX or roster.members[move.slot].stage in (WHOLE, NO_STAGE, move.stage) for move in moves
    ):
        raise InvalidMessage("a decision that moves a member to where it is, or to no stage: refused")
    stages = [one.stage for one in restored]
    if stages != sorted(set(stages)):
        raise InvalidMessage("a decision that restores a stage twice: refused")
    new = set(after.members) - set(roster.members)
    for stage in stages:
        members = {member for member in after.members if member.stage == stage}
        if not members or not members <= new:
            raise InvalidMessage(f"a decision that restores stage {stage}, which is not lost: refused")
