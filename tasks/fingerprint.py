"""The hash by which the members of a run know that they train the same thing."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..algorithms import OptionValue


def fingerprint(
    *, sources: Iterable[object], options: Mapping[str, OptionValue], data: Iterable[bytes | memoryview]
) -> str:
    """SHA-256 (hex) over source files, options and data, each part framed by its length.

    Args:
        sources: classes, functions or modules; the bytes of the files that define them are hashed, in this order.
        options: by name; order does not matter.
        data: whatever the samples are made of; a memoryview is one of bytes (`cast("B")`).
    Raises: OSError, TypeError if a source has no file.
    """
    digest = hashlib.sha256(b"gossamer/task/v1")
    for part in (*map(_source_bytes, sources), json.dumps(dict(options), sort_keys=True).encode(), *data):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _source_bytes(source: object) -> bytes:
    return Path(inspect.getfile(source)).read_bytes()  # type: ignore[arg-type]
