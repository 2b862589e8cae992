"""The integer cross-entropy against its vectors and the exact one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.algorithms.forward.fixedpoint.loss import cross_entropies
from gossamer.algorithms.forward.fixedpoint.tables import SHA256, tables


def test_the_tables_are_the_specified_ones() -> None:
    assert tables().digest() == SHA256


@pytest.mark.parametrize(
    ("logits", "label", "loss"),
    [([4096, 0, -4096], 0, 26_712), ([40_960, -40_960, 0], 1, 1_310_723), ([0, 0, 0], 2, 71_999)],
)
def test_loss_vectors(logits: list[int], label: int, loss: int) -> None:
    assert cross_entropies(np.array([logits]), np.array([label])).tolist() == [loss]


@given(st.lists(st.integers(-(2**17), 2**17), min_size=2, max_size=12), st.data())
def test_the_integer_loss_is_within_4e_5_nats(logits: list[int], data: st.DataObject) -> None:
    label = data.draw(st.integers(0, len(logits) - 1))

    found = int(cross_entropies(np.array([logits]), np.array([label]))[0]) / 2**16

    z = [logit / 2**12 for logit in logits]
    exact = max(z) + math.log(math.fsum(math.exp(value - max(z)) for value in z)) - z[label]
    assert abs(found - exact) <= 4e-5
