"""A fingerprint of everything that was delivered in a run."""

from __future__ import annotations

import hashlib


class Trace:
    """SHA-256 over all deliveries in order. Equal seeds give equal traces, whatever the process or its hash seed."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.n_deliveries = 0

    def record(self, time_s: float, source: str, target: str, method: str, payload: bytes) -> None:
        content = hashlib.sha256(payload).hexdigest()
        self._hash.update(f"{time_s.hex()} {source} {target} {method} {len(payload)} {content}\n".encode())
        self.n_deliveries += 1

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
