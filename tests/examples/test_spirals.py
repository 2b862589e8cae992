"""The example of a user's own task."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gossamer.tasks import build_task, shard

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_it_is_found_on_the_path_and_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    task = build_task("spirals:Spirals", {"noise": 0.01})
    model = task.build_model(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    for step in range(300):
        optimizer.zero_grad()
        batch = shard(seed=0, round_index=step, n_members=1, slot=0, batch_size=64, n_train=task.n_train)
        task.loss(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    accuracy = task.evaluate(model).accuracy
    assert accuracy is not None
    assert accuracy > 0.95
    assert len(task.fingerprint()) == 64
