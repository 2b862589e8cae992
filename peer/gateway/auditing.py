"""Recomputing what devices submitted, where the gateway has their samples and the method gives the same bits anywhere.

Which submissions are looked at follows from the gateway's signature over their names: no device can foresee it, and a
restarted gateway decides alike. The samples of a device stand in <folder>/audit/<device>.npz, as the gateway's owner
dealt them out; a device without such a file cannot be audited.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ...algorithms.device_method import Answer
from ...algorithms.fixedpoint import Ballot, FixedPoint
from ...algorithms.forward import PerturbationStream
from ...algorithms.forward.fixedpoint import (
    FloatKernel,
    IntegerBatch,
    IntegerEngine,
    cast_votes,
    pixels_to_activations,
)
from ...algorithms.method import Method
from ...protocol.devices import Submission, chosen_samples, stream_run_id
from ...protocol.errors import UsageError
from ...protocol.identity import Identity, PeerId
from ...protocol.network import Cost, Network

T = TypeVar("T")
State = tuple[npt.NDArray[np.int16], npt.NDArray[np.int32]]
"""Weights, and the momentum of the votes."""
DATA_KEPT_MAX = 32
"""Devices whose samples are held in memory."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What a device was dealt."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


class Auditor:
    """Args:
        rate: share of the submissions that are recomputed.
        states: so many of the model's latest states are kept, for late submissions.
        told: hears of a folder's file that cannot be used.
    Raises: UsageError as `check_auditable` does.
    """

    def __init__(
        self,
        *,
        rate: float,
        folder: Path,
        identity: Identity,
        run_id: str,
        method: Method,
        network: Network,
        states: int,
        told: Callable[[str], None],
    ) -> None:
        self.n_audited = 0
        self._rate, self._folder, self._identity, self._told = rate, folder, identity, told
        self._run_id, self._stream_run_id = run_id, stream_run_id(run_id)
        self._method, self._network = check_auditable(method), network
        self._engine = IntegerEngine(self._method.plan, FloatKernel())
        self._states: OrderedDict[bytes, State] = OrderedDict()
        self._states_max = states
        self._data: OrderedDict[PeerId, Samples | None] = OrderedDict()

    def remember(self, base: bytes) -> None:
        """Keep the model's present weights under the digest of its state."""
        self._states[base] = (self._method.weights.copy(), self._method.momentum.copy())
        while len(self._states) > self._states_max:
            self._states.popitem(last=False)

    async def audit(self, device: PeerId, submission: Submission, answer: Answer, seed: bytes) -> str | None:
        """What is wrong with a submission, or None: also where it was not chosen or cannot be recomputed."""
        assert isinstance(answer, Ballot)
        state = self._states.get(submission.base)
        if state is None or not self._is_chosen(device, submission):
            return None
        samples = await self._network.compute(lambda: self._samples(device), Cost())
        if samples is None:
            return None
        n, size = self._method.plan, self._method.options.batch_size
        cost = Cost(flops=2.0 * n.n_weights * size * n.n_forwards)
        votes = await self._network.compute(lambda: self._recompute(state, samples, submission, seed), cost)
        self.n_audited += 1
        if votes.tobytes() == answer.votes.tobytes():
            return None
        return f"its votes in round {submission.round_index} are not those of its samples: it is shut out"

    def _recompute(self, state: State, samples: Samples, submission: Submission, seed: bytes) -> npt.NDArray[np.int8]:
        chosen = chosen_samples(len(samples.labels), self._method.options.batch_size, seed)
        weights, momentum = state
        inputs = pixels_to_activations(np.ascontiguousarray(samples.pixels[chosen]))
        directions = PerturbationStream(seed, self._stream_run_id).at(
            round_index=submission.round_index, slot=submission.slot, n=len(weights)
        )
        batch = IntegerBatch(inputs=inputs, labels=samples.labels[chosen])
        return cast_votes(self._engine, weights, batch, directions, momentum)

    def _is_chosen(self, device: PeerId, submission: Submission) -> bool:
        name = f"{self._run_id}/{device}/{submission.round_index}/{submission.slot}/".encode() + submission.base
        # Ed25519 signatures are deterministic.
        draw = hashlib.sha256(self._identity.sign("audit", name)).digest()
        return int.from_bytes(draw[:8], "little") < self._rate * 2.0**64

    def _samples(self, device: PeerId) -> Samples | None:
        if device not in self._data:
            self._data[device] = self._load(device)
            while len(self._data) > DATA_KEPT_MAX:
                self._data.popitem(last=False)
        return self._data[device]

    def _load(self, device: PeerId) -> Samples | None:
        path = self._folder / f"{device}.npz"
        if not path.exists():
            return None
        network = self._method.plan.network
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                pixels, labels = arrays["inputs"], arrays["labels"].astype(np.int64)
        except Exception as error:  # noqa: BLE001 - zipfile, zlib, struct and numpy have each their own for damage
            self._told(f"{path} cannot be read ({error}): {device} is not audited")
            return None
        fits = pixels.dtype == np.uint8 and pixels.shape == (labels.size, *network.input_shape)
        if not fits or labels.ndim != 1 or not labels.size or not 0 <= labels.min() <= labels.max() < network.n_classes:
            self._told(f"{path} does not hold samples of this run: {device} is not audited")
            return None
        return Samples(pixels=pixels, labels=labels)


def check_auditable(method: Method) -> FixedPoint:
    """Raise UsageError for a method whose submissions differ from machine to machine."""
    if not isinstance(method, FixedPoint):
        raise UsageError(
            f"answers by {method.name} differ in their last bits from machine to machine and cannot be audited: "
            "only those of fixedpoint can"
        )
    return method
