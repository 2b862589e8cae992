"""Random layers on machines that must draw alike: dropout can only draw from torch's global generator."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def lent_generator(name: str) -> Iterator[None]:
    """Meanwhile torch's global generator draws what follows from this name, on whatever peer and however often; then
    it is put back."""
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1)
    try:
        yield
    finally:
        generator.set_state(before)
