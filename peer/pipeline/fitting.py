"""Which methods the replicas of a stage can exchange by."""

from __future__ import annotations

from ...algorithms import Method, Slots
from ...algorithms.local import Local
from ...protocol.errors import InvalidManifest


def why_unfit(method: Method) -> str:
    """Why stages that exchange gradients in each step cannot use a method; empty: they can."""
    one = Slots.everybody(1)
    if method.overlaps or method.steps(0) != 1 or isinstance(method, Local) or method.name == "sparseloco":
        return "lets replicas drift apart between exchanges, while all stages make each step together"
    if method.name == "baffle":
        return "measures forward passes, and a pipeline passes gradients back"
    if method.shares(0, 2) != (0,) or method.n_shares(one) != 1:
        return "deals samples out by slots, while a pipeline's plan says which microbatches count"
    return "" if method.suffices(one) else "needs more contributions than a stage may have replicas"


def refuse_unfit(method: Method, why: str) -> None:
    """Raises InvalidManifest if there is a reason."""
    if why:
        fit = "use allreduce (mean), demo, terngrad, local or diloco for a pipeline"
        raise InvalidManifest(f"method {method.name!r} {why}: {fit}")
