"""English text to learn from: Python's own documentation, or a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from .errors import BadData, MissingData

FILE_BYTES_MAX: Final = 2**28
N_VOCABULARY_MAX: Final = 4096


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A text as numbers."""

    characters: str
    """The vocabulary, sorted; a token is an index into it."""
    tokens: npt.NDArray[np.int64]

    def decode(self, tokens: npt.NDArray[np.int64]) -> str:
        return "".join(self.characters[token] for token in tokens)


def read_text(path: Path | None) -> str:
    """The text of a UTF-8 file, or of `pydoc_data.topics` if there is none.

    Raises: MissingData, BadData.
    """
    return _python_topics() if path is None else _file_text(path)


def build_corpus(text: str) -> Corpus:
    """Number the characters of a text.

    Raises: BadData if it has more than N_VOCABULARY_MAX different ones.
    """
    codes, tokens = np.unique(np.frombuffer(text.encode("utf-32-le"), "<u4"), return_inverse=True)
    if len(codes) > N_VOCABULARY_MAX:
        raise BadData(f"the text has {len(codes)} different characters, at most {N_VOCABULARY_MAX} are allowed")
    return Corpus(characters="".join(map(chr, codes)), tokens=tokens.astype(np.int64))


def _python_topics() -> str:
    try:
        from pydoc_data import topics
    except ImportError as error:
        raise MissingData(
            "this Python comes without pydoc_data.topics: pass a text file (--data FILE), or install all of Python's "
            "standard library"
        ) from error
    return "\n".join(topics.topics[name] for name in sorted(topics.topics))


def _file_text(path: Path) -> str:
    if not path.is_file():
        raise MissingData(f"there is no text file {path}: pass an existing one (--data FILE)")
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise MissingData(f"cannot read {path} ({error.strerror}): make it readable, or pass another file") from error
    if len(content) > FILE_BYTES_MAX:
        raise BadData(f"{path} is larger than {FILE_BYTES_MAX} bytes: pass a part of it")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadData(f"{path} is not UTF-8 (byte {error.start}): convert it, e.g. with iconv") from error
