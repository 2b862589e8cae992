"""The rules for dense contributions by name, and why those for sparse ones are others."""

from __future__ import annotations

from typing import Final

from ..options import BadOption
from .centered_clipping import CenteredClipping
from .krum import Krum, MultiKrum
from .norm_clipping import NormClipping
from .rule import Rule
from .trimmed_mean import Median, TrimmedMean

DENSE_RULES: Final = ("trimmed", "median", "krum", "multikrum", "clip", "centered")
SPARSE_RULES: Final = ("normclip", "reject", "vote", "senders")


def build_rule(name: str, *, n_liars: int, radius: float = 0.0, n_repeats: int = 1) -> Rule:
    """A rule for dense contributions.

    Raises: BadOption for a name that is not in DENSE_RULES.
    """
    plain: dict[str, type[Rule]] = {
        "trimmed": TrimmedMean,
        "median": Median,
        "krum": Krum,
        "multikrum": MultiKrum,
        "clip": NormClipping,
    }
    if name == "centered":
        return CenteredClipping(n_liars, radius=radius, n_repeats=n_repeats)
    if name not in plain:
        raise BadOption(f"there is no rule {name!r} for dense contributions: choose one of {', '.join(DENSE_RULES)}")
    return plain[name](n_liars)


def refuse_dense_rule(name: str) -> None:
    """Refuse to use a rule for dense contributions on sparse ones. Raises BadOption with the reason."""
    why = {
        "trimmed": "peers hardly send the same coefficients, so trimming leaves zeros, or a liar's values",
        "median": "peers hardly send the same coefficients, so the median of nearly every coordinate is 0",
        "krum": "peers hardly send the same coefficients, so all are equally far from each other",
        "multikrum": "peers hardly send the same coefficients, so all are equally far from each other",
        "centered": "what a peer sent last is what it does not send next, so the last result is no center",
        "clip": "of sparse contributions tensors are clipped one by one, which is called normclip",
    }
    if name in why:
        raise BadOption(
            f"option 'combine' cannot be {name!r} for sparse contributions: {why[name]}; "
            f"choose one of {', '.join(SPARSE_RULES)}"
        )


def refuse_sparse_rule(name: str) -> None:
    """Refuse to use a rule for sparse contributions on dense ones. Raises BadOption with the reason."""
    if name in SPARSE_RULES:
        raise BadOption(
            f"option 'aggregate' cannot be {name!r}: that is for sparse contributions; "
            f"choose mean or one of {', '.join(DENSE_RULES)}"
        )
