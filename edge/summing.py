"""A device's side of a secure sum: keys, shares, a masked upload, and what unmasks the sum of all and no single one.

Whatever it is asked for it answers once. What the run's owner signed decides how many devices there must be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..algorithms.forward import BaffleOptions
from ..algorithms.forward.errors import TooFewContributions
from ..algorithms.forward.residues import encode, threshold, to_bytes
from ..algorithms.forward.secure_sum import PublicKeys, SecureDevice, SumRound
from ..protocol import sums
from ..protocol.devices import Submission, Task, sign_submission, stream_run_id
from ..protocol.edge_pb2 import Downlink, SumReveal, SumShares, Uplink
from ..protocol.errors import InvalidMessage
from ..protocol.identity import Identity
from ..protocol.network import Client, Cost

F32 = npt.NDArray[np.float32]
T = TypeVar("T")
Measure = Callable[[], Awaitable[F32]]
FLOPS_PER_KEY = 3e5
"""An X25519 agreement, about."""


class Summing:
    """One attempt.

    Args:
        secret: 32 fresh bytes from the system; call it for each need.
        say: puts a word on the stream.
    """

    def __init__(
        self,
        *,
        client: Client,
        identity: Identity,
        run_id: str,
        options: BaffleOptions,
        task: Task,
        secret: Callable[[], bytes],
        say: Callable[[Uplink], None],
    ) -> None:
        self._client, self._identity, self._run_id, self._options = client, identity, run_id, options
        self._task, self._secret, self._say = task, secret, say
        self._heard: asyncio.Queue[Downlink] = asyncio.Queue()

    def hear(self, word: Downlink) -> None:
        """A word of the gateway about sums."""
        self._heard.put_nowait(word)

    async def run(self, measure: Measure) -> None:
        """The whole attempt. Measuring goes on while keys and shares travel.

        Raises: TooFewContributions where too few take part, BadPayload, InvalidMessage; nothing is revealed then.
        """
        measuring = asyncio.ensure_future(measure())
        try:
            device, n_roster = await self._share()
            sealed = await self._next("sum_shares")
            shares = sums.slots_from_wire(sealed.sum_shares.sealed)
            differences = await measuring
            residues = encode(differences, self._options, n_roster, self._secret())
            cost = Cost(flops=FLOPS_PER_KEY * n_roster)
            masked = await self._client.compute(lambda: device.mask(residues, shares), cost)
            self._upload(to_bytes(masked))
            survivors = await self._next("sum_survivors")
            revealed = device.reveal(list(survivors.sum_survivors.slots))
            seeds, keys = sums.slots_to_wire(revealed.seeds), sums.slots_to_wire(revealed.keys)
            self._say(Uplink(sum_reveal=SumReveal(attempt=self._task.attempt, seeds=seeds, keys=keys)))
        finally:
            measuring.cancel()
            await asyncio.gather(measuring, return_exceptions=True)

    async def _share(self) -> tuple[SecureDevice, int]:
        """Publish keys, see everybody's, and seal a share for each; also the size of the roster."""
        task, base, attempt = self._task, self._task.base, self._task.attempt
        entropy = self._secret()

        def publish() -> PublicKeys:
            # Keys follow from the entropy; who takes part is not known yet.
            alone = SumRound(
                run_id=stream_run_id(self._run_id), round_index=task.round_index, roster=(task.slot,), threshold=1
            )
            return SecureDevice(task.slot, alone, entropy).public

        public = await self._client.compute(publish, Cost(flops=2 * FLOPS_PER_KEY))
        keys = sums.sign_keys(
            self._identity,
            self._run_id,
            base,
            attempt=attempt,
            slot=task.slot,
            keys=(public.channel, public.mask, public.seed_digest),
        )
        self._say(Uplink(sum_keys=keys))
        word = await self._next("sum_roster")
        members = sums.read_roster(word.sum_roster, run_id=self._run_id, base=base, attempt=attempt)
        n = len(members)
        if n < self._options.secure_devices:
            raise TooFewContributions(
                f"a sum over {n} devices would tell too much: {self._options.secure_devices} are needed"
            )
        peers = {
            slot: PublicKeys(channel=theirs.channel, mask=theirs.mask, seed_digest=theirs.seed_digest)
            for slot, (_, theirs) in members.items()
        }
        terms = self._terms(tuple(sorted(peers)), threshold(self._options, n))
        device = SecureDevice(task.slot, terms, entropy)
        sealed = await self._client.compute(lambda: device.share(peers), Cost(flops=FLOPS_PER_KEY * n))
        self._say(Uplink(sum_shares=SumShares(attempt=attempt, sealed=sums.slots_to_wire(sealed))))
        return device, n

    def _terms(self, roster: tuple[int, ...], least: int) -> SumRound:
        run_id = stream_run_id(self._run_id)
        return SumRound(run_id=run_id, round_index=self._task.round_index, roster=roster, threshold=least)

    def _upload(self, scalars: bytes) -> None:
        task = self._task
        submission = Submission(
            round_index=task.round_index,
            slot=task.slot,
            base=task.base,
            loss=0.0,  # a single device's loss is not the gateway's to know
            scalars=scalars,
            attempt=task.attempt,
        )
        self._say(Uplink(submission=sign_submission(self._identity, self._run_id, submission)))

    async def _next(self, kind: str) -> Downlink:
        """The next word, which must be of this kind and attempt."""
        word = await self._heard.get()
        if word.WhichOneof("kind") != kind or getattr(word, kind).attempt != self._task.attempt:
            raise InvalidMessage(
                f"the gateway says {word.WhichOneof('kind')} where {kind} is due: this sum is given up"
            )
        return word
