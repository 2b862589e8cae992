"""What a storm draws from its seed, one fault after the other."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from . import faults

DISABLING = (faults.Crash, faults.Preempt, faults.FlipBits, faults.BadLeader, faults.BadDonor)
"""Of who is struck by these, rounds expect nothing."""


def drawn(storm: faults.Storm, choose: random.Random) -> faults.Fault:
    """The next: short ones mostly, long ones sometimes. Whom it strikes is drawn as the storm has it."""
    for_s = math.exp(choose.uniform(math.log(0.5), math.log(40.0)))
    makers: dict[str, Callable[[], faults.Fault]] = {
        "crash": lambda: faults.Crash(
            silent=choose.random() < 0.4,
            back_after_s=choose.choice((0.0, for_s, for_s)),
            disk=choose.choice(("kept", "kept", "lost")),
        ),
        "partition": lambda: faults.Partition(for_s=for_s, one_way=choose.random() < 0.3),
        "flap": lambda: faults.Flap(for_s=for_s, cut_s=choose.uniform(0.1, 5), whole_s=choose.uniform(0.1, 5)),
        "stall": lambda: faults.Stall(for_s=for_s),
        "slow": lambda: faults.Slow(
            for_s=for_s, line_factor=choose.uniform(0.01, 1), compute_factor=choose.uniform(0.01, 1)
        ),
        "skew": lambda: faults.Skew(by_s=choose.uniform(-2.0, 2.0)),
        "rot_disk": faults.RotDisk,
        "full_disk": lambda: faults.FullDisk(for_s=for_s),
        "bad_donor": lambda: faults.BadDonor(for_s=for_s),
        "bad_leader": lambda: faults.BadLeader(for_s=for_s),
        "preempt": lambda: faults.Preempt(over_s=0.0, back_after_s=for_s),
        "flip_bits": lambda: faults.FlipBits(for_s=for_s, rate=choose.uniform(0.001, 0.1)),
        "lie": lambda: _lie(for_s, choose),
    }
    fault = makers[choose.choice(storm.kinds)]()
    return fault.model_copy(update={"n": storm.n, "share": storm.share, "region": storm.region})


def _lie(for_s: float, choose: random.Random) -> faults.Lie:
    attack = choose.choice(("sign_flip", "scale", "noise", "zero", "constant", "claim", "garbage"))
    size = {"scale": {"factor": choose.choice((1e3, -1e3))}, "claim": {"factor": 1e3}}
    return faults.Lie.model_validate({"attack": attack, "for_s": for_s, **size.get(attack, {})})
