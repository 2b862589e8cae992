"""Who works through whose samples, and how their sum comes back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gossamer.algorithms.gradient_coding import (
    cyclic_code,
    cyclic_shares,
    decoding_weights,
    subgroup_of,
    subgroups,
)

SIZES = [(n, s) for n in range(1, 10) for s in range(1, 4)]


@pytest.mark.parametrize(("n", "s"), SIZES)
def test_every_slot_is_in_one_subgroup_that_survives_s_stragglers(n: int, s: int) -> None:
    groups = subgroups(n, s)

    assert [slot for group in groups for slot in group] == list(range(n))
    assert all(len(group) > s for group in groups) or (len(groups) == 1 and n <= s)
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    assert all(slot in groups[subgroup_of(slot, n, s)] for slot in range(n))


def test_subgroups_that_divide_are_of_the_papers_size() -> None:
    assert [len(group) for group in subgroups(12, 2)] == [3, 3, 3, 3]


@pytest.mark.parametrize(("n", "s"), SIZES)
def test_the_cyclic_code_decodes_every_set_of_survivors(n: int, s: int) -> None:
    code = cyclic_code(n, s)

    for slot in range(n):
        assert np.flatnonzero(code[slot]).tolist() == sorted(cyclic_shares(slot, n, s))
    for missing in range(min(s, n - 1) + 1):
        for survivors in itertools.combinations(range(n), n - missing):
            weights = decoding_weights(code, survivors)
            assert weights is not None
            assert np.allclose(weights @ code[list(survivors)], 1, atol=1e-6)


@pytest.mark.parametrize(("n", "s"), [(4, 1), (5, 2), (7, 3)])
def test_the_cyclic_code_says_so_when_one_too_many_is_missing(n: int, s: int) -> None:
    code = cyclic_code(n, s)

    for survivors in itertools.combinations(range(n), n - s - 1):
        assert decoding_weights(code, survivors) is None
    assert decoding_weights(code, ()) is None
