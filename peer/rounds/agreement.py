"""A few floats that the members of a round agree on before they encode: the maximum over all of them.

Everybody tells everybody, in a pipeline every contributor of a stage the others of it. Who has heard of all that are
living, or has waited for the round's deadline, takes the maximum of what is there. Members may come to different
results when somebody dies meanwhile; that costs quality and never correctness, since every payload says what it was
encoded with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import InvalidMessage

if TYPE_CHECKING:
    from .round import Round

F32 = npt.NDArray[np.float32]
FLOATS_MAX = 1 << 16


class Agreement:
    """One member's side of agreeing on the floats of one round."""

    def __init__(self, round_: Round) -> None:
        self._round = round_
        self._heard: dict[int, F32] = {}
        self._changed = asyncio.Event()

    async def maximum(self, mine: F32, among: Sequence[int] | None = None) -> F32:
        """The elementwise maximum over the members that could be heard, float32 [n].

        Args:
            among: slots that agree; None: all members.
        """
        if len(mine) == 0:
            return mine
        place = self._round.place
        others = place.others if among is None else [slot for slot in among if slot != place.slot]
        self._heard[place.slot] = mine
        message = pb.Floats(
            lineage=place.lineage, round=place.index, base=place.base, values=mine.astype("<f4").tobytes()
        ).SerializeToString()
        for slot in others:
            self._round.spawn(self._tell(slot, message))
        await self._hear_all(others)
        heard = [self._heard[slot] for slot in sorted({*others, place.slot}) if slot in self._heard]
        fitting = [floats for floats in heard if len(floats) == len(mine)]
        agreed: F32 = np.stack(fitting).max(axis=0)
        return agreed

    async def _tell(self, slot: int, message: bytes) -> None:
        n_tries = 0
        while await self._round.ask(slot, "round/agree", message) is None:
            self._changed.set()  # the member may be out of reach now
            await self._round.pause(n_tries)
            n_tries += 1

    async def _hear_all(self, others: Sequence[int]) -> None:
        try:
            async with asyncio.timeout_at(self._round.started_s + self._round.patience_s):
                while not all(slot in self._heard or slot not in self._round.live() for slot in others):
                    await self._changed.wait()
                    self._changed.clear()
        except TimeoutError:
            return

    def hear(self, slot: int, message: pb.Floats) -> None:
        """A member's floats have come in. Raises InvalidMessage."""
        peer = self._round.place.roster.members[slot].peer
        if message.base != self._round.place.base:
            raise InvalidMessage(f"{peer} agrees on floats from another state than this peer's: refused")
        if len(message.values) % 4 or len(message.values) > 4 * FLOATS_MAX:
            raise InvalidMessage(f"{peer} sends {len(message.values)} bytes of floats to agree on: refused")
        floats = np.frombuffer(message.values, "<f4").astype(np.float32)
        if not np.isfinite(floats).all():
            raise InvalidMessage(f"{peer} sends NaN or infinity to agree on: refused")
        self._round.heard(slot)
        self._heard[slot] = floats
        self._changed.set()
