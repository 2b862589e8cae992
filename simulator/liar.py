"""A replica that contributes what it should not: the attacks of `faults.Lie`.

It lies as late as it can, so that nothing honest in its own method undoes the lie: a dense contribution is altered when
it is encoded, and the books that the method keeps of it stay honest. A sparse one is of a momentum or an error that the
method takes off again what it sent, so there the gradient is altered, which the liar has clipped as the others do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from ..algorithms import Method
from ..algorithms.allreduce import AllReduce
from ..algorithms.demo import DecoupledMomentum
from ..algorithms.dense import DenseFormat
from ..algorithms.local import Local
from ..algorithms.method import F32
from . import faults

GRADIENT_LIE_MAX: Final = 1e24
"""Methods refuse gradients whose sums or norms are above 1e30."""

Gradients = Mapping[str, torch.Tensor | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """One lie, and what its noise is drawn from."""

    fault: faults.Lie
    key: int

    def of(self, honest: F32) -> F32:
        """The lie in place of an honest vector."""
        fault = self.fault
        if fault.attack == "sign_flip":
            return -honest
        if fault.attack == "scale":
            return honest * np.float32(fault.factor)
        if fault.attack == "noise":
            return self._noise(honest)
        if fault.attack == "zero":
            return np.zeros_like(honest)
        return np.full_like(honest, fault.value) if fault.attack == "constant" else honest

    @property
    def n_times(self) -> int:
        """So many times the samples are claimed."""
        return round(self.fault.factor) if self.fault.attack == "claim" else 1

    def _noise(self, honest: F32) -> F32:
        """As long as the vector, and other noise for another vector."""
        digest = hashlib.sha256(self.key.to_bytes(8, "little") + honest.tobytes()).digest()
        generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
        noise = generator.standard_normal(len(honest), dtype=np.float32)
        return noise * np.float32(_norm(honest) / max(_norm(noise), 1e-30))


class Liar:
    """Stands in for a method's `accumulate`, `encode` and `combine` from its first lie on."""

    def __init__(self, method: Method) -> None:
        self.told: list[Told] = []
        """Lies that it tells now, the later on top of the earlier."""
        self._method = method
        self._format: DenseFormat | None = method.format if isinstance(method, AllReduce | Local) else None
        self._honest = {name: getattr(method, name) for name in ("accumulate", "encode", "combine")}
        self._is_combining = False
        for name in self._honest:
            setattr(method, name, getattr(self, name))

    @classmethod
    def of(cls, method: Method) -> Liar:
        """The liar that a method's replica is already, or becomes."""
        known = getattr(method.encode, "__self__", None)
        return known if isinstance(known, Liar) else cls(method)

    def stop(self, told: Told) -> None:
        """Tell this lie no more. What of it is pending goes."""
        self.told.remove(told)
        if self._format is None:
            self._method.forget_local()

    def accumulate(self, gradients: Gradients, n_samples: int) -> None:
        if not self.told or self._format is not None:
            self._honest["accumulate"](gradients, n_samples)
            return
        lies = self._altered(gradients)
        for told in self.told:
            n_samples *= told.n_times
        if not isinstance(self._method, DecoupledMomentum):
            self._honest["accumulate"](lies, n_samples)
            return
        clip, self._method.clip = self._method.clip, 0.0
        try:
            self._honest["accumulate"](lies, n_samples)
        finally:
            self._method.clip = clip

    def encode(self, agreed: F32) -> bytes:
        payload: bytes = self._honest["encode"](agreed)
        if self._is_combining:
            return payload
        if any(told.fault.attack == "garbage" for told in self.told):
            return b"\xff" * len(payload)
        return self._retold(payload, self._format) if self.told and self._format is not None else payload

    def combine(self, payloads: Sequence[bytes], **others: Any) -> tuple[int, ...]:
        self._is_combining = True  # what a method takes off its books is what it should have sent
        try:
            dropped: tuple[int, ...] = self._honest["combine"](payloads, **others)
            return dropped
        finally:
            self._is_combining = False

    def _retold(self, payload: bytes, form: DenseFormat) -> bytes:
        """A dense contribution, altered. A count stands behind its values."""
        vector = form.decode(payload).copy()
        for told in self.told:
            vector[: form.dim] = told.of(vector[: form.dim])
            if form.counted:
                vector *= np.float32(told.n_times)
        return form.encode(vector)

    def _altered(self, gradients: Gradients) -> Gradients:
        present = {name: gradient for name, gradient in gradients.items() if gradient is not None}
        if not present:
            return gradients
        honest = torch.cat([gradient.detach().to("cpu", torch.float32).flatten() for gradient in present.values()])
        vector: F32 = honest.numpy()
        if isinstance(self._method, DecoupledMomentum) and 0 < self._method.clip < _norm(vector):
            vector = vector * np.float32(self._method.clip / _norm(vector))
        for told in self.told:
            vector = np.clip(told.of(vector), -GRADIENT_LIE_MAX, GRADIENT_LIE_MAX)
        parts = torch.split(torch.from_numpy(vector), [gradient.numel() for gradient in present.values()])
        lies = {name: part.view_as(g).to(g.device) for (name, g), part in zip(present.items(), parts, strict=True)}
        return {name: lies.get(name) for name in gradients}


def _norm(vector: F32) -> float:
    return float(np.linalg.norm(vector.astype(np.float64)))
