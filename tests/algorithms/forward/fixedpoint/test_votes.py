"""How votes travel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.algorithms.errors import BadPayload
from gossamer.algorithms.forward.fixedpoint import (
    VotePart,
    VoteReplay,
    decode_votes,
    encode_votes,
)

from ..devices import seed_of


@given(st.lists(st.integers(-1, 1), max_size=40))
def test_votes_come_back_from_a_fifth_of_a_byte_each(votes: list[int]) -> None:
    payload = encode_votes(np.array(votes, np.int8))

    assert len(payload) == (len(votes) + 4) // 5
    assert decode_votes(payload, len(votes)).tolist() == votes


@pytest.mark.parametrize(("payload", "n"), [(b"\xf3", 5), (b"\xff", 5), (b"", 1), (b"\0\0", 5), (b"\x1b", 3)])
def test_payloads_that_are_no_votes_are_refused(payload: bytes, n: int) -> None:
    with pytest.raises(BadPayload):
        decode_votes(payload, n)


@given(st.binary(max_size=80), st.integers(1, 255))
@settings(max_examples=200)
def test_random_bytes_are_no_vote_replay_or_read(data: bytes, n_votes: int) -> None:
    try:
        replay = VoteReplay.from_bytes(data, n_votes=n_votes)
    except BadPayload:
        return
    assert replay.to_bytes() == data


def test_a_vote_replay_survives_the_wire() -> None:
    parts = tuple(
        VotePart(
            round_seed=seed_of(r), round_index=r, n_slots=9, slots=(1, 8), votes=np.array([[1, 0, -1]] * 2, np.int8)
        )
        for r in (3, 4)
    )

    again = VoteReplay.from_bytes(VoteReplay(step=7, parts=parts).to_bytes(), n_votes=3)

    assert again.step == 7
    assert [(p.round_index, p.slots, p.votes.tolist()) for p in again.parts] == [
        (r, (1, 8), [[1, 0, -1]] * 2) for r in (3, 4)
    ]
    swapped = VoteReplay(step=7, parts=parts[::-1]).to_bytes()
    with pytest.raises(BadPayload, match="ascend"):
        VoteReplay.from_bytes(swapped, n_votes=3)
