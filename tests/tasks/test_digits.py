"""The task `digits`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from gossamer.tasks import BadData, Task, build_task, shard


def test_a_short_training_reads_most_digits() -> None:
    task = build_task("digits", {})
    model = task.build_model(0)

    train(task, model, n_steps=150)

    accuracy = task.evaluate(model).accuracy
    assert accuracy is not None
    assert accuracy > 0.9


def test_a_fifth_is_held_out() -> None:
    assert build_task("digits", {}).n_train == 1797 - 1797 // 5


def test_fingerprints_tell_options_apart() -> None:
    prints = [build_task("digits", {"hidden": hidden}).fingerprint() for hidden in (32, 32, 33)]

    assert prints[0] == prints[1] != prints[2]


def test_a_file_is_refused_since_it_would_not_be_used(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="leave it out"):
        build_task("digits", {}, data=tmp_path)


def test_the_samples_are_those_of_scikit_learn() -> None:
    task, (images, labels) = build_task("digits", {}), load_digits(return_X_y=True)
    held_out = np.arange(len(labels)) % 5 == 4

    for part, chosen in ((task.train, ~held_out), (task.held_out, held_out)):  # type: ignore[attr-defined]
        assert np.array_equal(part.inputs.numpy(), (images[chosen] / 8 - 1).astype(np.float32))
        assert np.array_equal(part.labels.numpy(), labels[chosen])


def train(task: Task, model: torch.nn.Module, *, n_steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(n_steps):
        optimizer.zero_grad()
        batch = shard(seed=0, round_index=step, n_members=1, slot=0, batch_size=32, n_train=task.n_train)
        task.loss(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
