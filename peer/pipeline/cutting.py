"""Where a run's model is cut."""

from __future__ import annotations

from collections.abc import Sequence

from ...protocol.errors import InvalidManifest
from ...protocol.manifest import Manifest
from ...tasks import CannotCut, Cut, LayerCost, Staged, cut_by_cost, estimate_costs


def cut_of(task: Staged, manifest: Manifest, costs: Sequence[LayerCost] | None = None) -> Cut:
    """At the layers that its manifest names, or by cost if it names none.

    Args:
        costs: the task's estimate, where it is known already.
    Raises: InvalidManifest if the model has no such cut.
    """
    costs = tuple(costs or estimate_costs(task))
    asked = manifest.pipeline
    try:
        if not asked.starts:
            return cut_by_cost(task, asked.stages, costs)
        return Cut(starts=tuple(asked.starts), n_layers=len(costs))
    except CannotCut as error:
        raise InvalidManifest(
            f"[pipeline] of the manifest: {error}; {len(costs)} stages at most, which begin at layers 0 to "
            f"{len(costs) - 1}"
        ) from None
