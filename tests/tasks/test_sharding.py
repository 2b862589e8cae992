"""Which samples a peer uses in a round."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.tasks import Indices, global_batch, shard


def _shard(*, n_members: int, slot: int, batch_size: int, n_train: int = 1000, round_index: int = 0) -> Indices:
    return shard(
        seed=7, round_index=round_index, n_members=n_members, slot=slot, batch_size=batch_size, n_train=n_train
    )


def test_four_members_see_what_one_with_a_batch_four_times_as_large_sees() -> None:
    four = [_shard(n_members=4, slot=slot, batch_size=8) for slot in range(4)]

    one = _shard(n_members=1, slot=0, batch_size=32)

    assert np.array_equal(np.concatenate(four), one)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(1, 300), st.integers(1, 300))
def test_samples_are_in_bounds_and_repeat_only_when_all_are_used(seed: int, turn: int, size: int, n_train: int) -> None:
    batch = global_batch(seed=seed, round_index=turn, size=size, n_train=n_train)

    uses = np.bincount(batch, minlength=n_train)
    assert (len(batch), len(uses), batch.dtype.name) == (size, n_train, "int64")
    assert uses.max() - uses.min() <= 1


def test_rounds_and_seeds_differ_and_repeat_themselves() -> None:
    batches = [global_batch(seed=s, round_index=r, size=16, n_train=500_000).tolist() for s in (0, 1) for r in (0, 1)]

    again = global_batch(seed=0, round_index=0, size=16, n_train=500_000).tolist()

    assert again == batches[0]
    assert len({tuple(batch) for batch in batches}) == 4


def test_the_choice_is_the_same_on_every_machine() -> None:
    few_of_many = _shard(n_members=2, slot=1, batch_size=4, n_train=500_000)
    most_of_few = _shard(n_members=2, slot=1, batch_size=4, n_train=9)

    assert few_of_many.tolist() == [41421, 348316, 148178, 310281]
    assert most_of_few.tolist() == [3, 2, 7, 5]


def test_over_many_rounds_every_sample_is_used_about_equally() -> None:
    uses = np.zeros(100, np.int64)
    for turn in range(1000):
        uses += np.bincount(_shard(n_members=2, slot=0, batch_size=5, n_train=100, round_index=turn), minlength=100)

    # 50 expected with a deviation of 6.9: 5 deviations either way.
    assert uses.min() > 15
    assert uses.max() < 85


@pytest.mark.parametrize(
    "wrong",
    [{"slot": 4}, {"slot": -1}, {"batch_size": 0}, {"n_train": 0}, {"n_train": 2**31}, {"seed": -1}, {"seed": 2**64}],
)
def test_numbers_out_of_bounds_are_refused(wrong: dict[str, int]) -> None:
    right = {"seed": 0, "round_index": 0, "n_members": 4, "slot": 0, "batch_size": 8, "n_train": 100}

    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        shard(**{**right, **wrong})
