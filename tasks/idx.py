"""IDX files, the format of MNIST and its relatives, plain or gzipped.

two zero bytes, type u8 (8: unsigned byte), number of dimensions u8, each dimension u32 big-endian, then the bytes
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from .errors import BadData, MissingData

ITEMS_MAX: Final = 2**28
N_DIMENSIONS_MAX: Final = 4
_UNSIGNED_BYTE: Final = 8


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes; a name that ends in .gz means gzip.

    Never unpacks more than ITEMS_MAX bytes.
    Raises: MissingData if it cannot be opened, BadData for anything but a whole IDX file.
    """
    content = _read_bounded(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise BadData(f"{path} is not an IDX file of unsigned bytes: fetch it again")
    n_dimensions = content[3]
    start = 4 + 4 * n_dimensions
    if not 1 <= n_dimensions <= N_DIMENSIONS_MAX or len(content) < start:
        raise BadData(f"{path} claims {n_dimensions} dimensions, expected 1 to {N_DIMENSIONS_MAX}: fetch it again")
    shape = tuple(int(d) for d in np.frombuffer(content, ">u4", n_dimensions, offset=4))
    if len(content) - start != math.prod(shape):
        raise BadData(f"{path} holds {len(content) - start} items, expected {shape}: fetch it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read_bounded(path: Path) -> bytes:
    limit = ITEMS_MAX + 4 + 4 * N_DIMENSIONS_MAX
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = bytes(file.read(limit + 1))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadData(f"{path} is not a whole gzip file ({error}): fetch it again") from error
    except OSError as error:
        raise MissingData(f"cannot read {path} ({error.strerror}): make it readable") from error
    if len(content) > limit:
        raise BadData(f"{path} holds more than {ITEMS_MAX} bytes: not a data set that this task knows")
    return content
