"""The perturbation stream against the vectors that other implementations check themselves with."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from gossamer.algorithms.forward import BadCoordinate, PerturbationStream
from gossamer.algorithms.forward.stream import BLOCK, PERTURBATIONS_MAX, ROUNDS_MAX, SLOTS_MAX, nonces

V1 = PerturbationStream(bytes(range(32)), bytes(range(32, 64)))
V2 = PerturbationStream(b"\xa5" * 32, hashlib.sha256(b"gossamer test run").digest())


def test_vector_1() -> None:
    bits = V1.bits(round_index=0, slot=0, ks=range(1), n=256)
    signs = V1.signs(round_index=0, slot=0, ks=range(1), n=64)[0]

    assert V1.key.hex() == "d21236bd26f13da8e84472df524e7b7a898efa43987eddcda25aa8c17bb480dd"
    assert bits.tobytes().hex() == "a0adf5493eae1c2d732bd45fe3e1378aed5a9d401457c7f2e0dde7587bac5c58"
    assert "".join("+" if sign > 0 else "-" for sign in signs[:8]) == "+++++-+-"
    assert signs.sum() == -2
    digest = "53d5a2778ad9902457b592546c838725346229ec37bd7fbfe778033727c4b25d"
    assert hashlib.sha256(signs.tobytes()).hexdigest() == digest


def test_vector_2() -> None:
    bits = V2.bits(round_index=7, slot=3, ks=range(499, 500), n=256)
    signs = V2.signs(round_index=7, slot=3, ks=range(499, 500), n=26_730)[0]

    assert V2.key.hex() == "0bd8c3f22726dd18b84885ca9219d0f43dd912801398bd60ab0f1b1351dddf9d"
    assert [nonce.hex() for nonce in nonces(round_index=7, slot=3, ks=range(499, 500))] == [
        "000000000700000003000000f3010000"
    ]
    assert bits.tobytes().hex() == "fdcdf762904fd5864ff9168d069e2b0cdcfcc4fa43b3ac383721a8442f601737"
    assert signs.sum(dtype=np.int64) == -16
    digest = "21cc4e73b6d769d7fd89fd3c6bf57ad725682013f99fcd4164ef7e4346fe2728"
    assert hashlib.sha256(signs.tobytes()).hexdigest() == digest


def test_the_reused_cipher_gives_what_a_fresh_one_gives() -> None:
    n = 1001
    rows = V2.bits(round_index=9, slot=2, ks=range(5, 8), n=n)

    for k, row in zip(range(5, 8), rows, strict=True):
        nonce = next(nonces(round_index=9, slot=2, ks=range(k, k + 1)))
        fresh = Cipher(algorithms.ChaCha20(V2.key, nonce), mode=None).encryptor().update(bytes((n + 7) // 8))
        assert row.tobytes() == fresh


@pytest.mark.parametrize("n", [1, 7, 2410, BLOCK, BLOCK + 9, 3 * BLOCK])
def test_perturbing_in_blocks_equals_adding_the_signs(n: int) -> None:
    weights = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    directions = V1.at(round_index=1, slot=4, n=n)
    before, out = weights.copy(), np.empty((3, n), np.float32)

    directions.perturb(weights, range(2, 5), 1e-3, out)

    signs = V1.signs(round_index=1, slot=4, ks=range(2, 5), n=n).astype(np.float32)
    np.testing.assert_array_equal(out, weights + np.float32(1e-3) * signs)
    assert weights.tobytes() == before.tobytes()


def test_other_rounds_slots_and_numbers_give_other_signs() -> None:
    where = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]

    rows = [V1.bits(round_index=r, slot=s, ks=range(k, k + 1), n=256).tobytes() for r, s, k in where]

    assert len(set(rows)) == len(where)


@pytest.mark.parametrize(
    ("round_index", "slot", "ks", "n"),
    [
        (-1, 0, range(1), 8),
        (ROUNDS_MAX, 0, range(1), 8),
        (0, -1, range(1), 8),
        (0, SLOTS_MAX, range(1), 8),
        (0, 0, range(-1, 1), 8),
        (0, 0, range(PERTURBATIONS_MAX, PERTURBATIONS_MAX + 1), 8),
        (0, 0, range(1), -1),
        (0, 0, range(1), 2**31 + 1),
    ],
)
def test_coordinates_out_of_bounds_are_refused(round_index: int, slot: int, ks: range, n: int) -> None:
    with pytest.raises(BadCoordinate):
        V1.bits(round_index=round_index, slot=slot, ks=ks, n=n)
    with pytest.raises(BadCoordinate):
        list(V1.blocks(round_index=round_index, slot=slot, k=ks[0], n=n))


@pytest.mark.parametrize(("seed", "run_id"), [(bytes(31), bytes(32)), (bytes(32), bytes(33)), (b"", b"")])
def test_seeds_of_another_length_are_refused(seed: bytes, run_id: bytes) -> None:
    with pytest.raises(BadCoordinate):
        PerturbationStream(seed, run_id)
