"""The privacy that a run's devices have spent, for status and summary."""

from __future__ import annotations

from typing import Any

from ...algorithms.baffle import Baffle
from ...algorithms.forward.privacy import epsilon_spent
from ...algorithms.forward.residues import privacy
from ...algorithms.method import Method


def privacy_spent(method: Method, n_rounds: int) -> dict[str, Any] | None:
    """What a device that took part in every one of so many rounds has spent; None without differential privacy.

    "epsilon" is None where dp-accounting is not installed (`pip install gossamer[privacy]`).
    """
    terms = privacy(method.options, 1) if isinstance(method, Baffle) else None
    if terms is None or not isinstance(method, Baffle):
        return None
    delta = method.options.dp_delta
    try:
        epsilon = epsilon_spent(terms, n_rounds=n_rounds, delta=delta) if n_rounds else 0.0
    except ImportError:
        epsilon = None
    return {
        "epsilon": epsilon,
        "delta": delta,
        "rounds": n_rounds,
        "noise_multiplier": terms.noise_multiplier,
        "sums_only": method.options.secure,
    }
