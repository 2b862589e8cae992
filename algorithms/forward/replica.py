"""The weights that gateway and devices hold alike: they take a replay's step and stay bit-identical.

Only separate numpy ufuncs on float32 (multiply, add, divide, sqrt: each correctly rounded by IEEE 754), no fused
multiply-add, no `pow`, sums in slot, then k order. So the bits do not depend on the CPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..errors import BadPayload
from .baffle import BaffleOptions
from .replay import Replay
from .stream import Directions, PerturbationStream

F32 = npt.NDArray[np.float32]

EPSILON = 1e-8
"""Adam's."""


class Replica:
    """Weights, the moments of Adam, and the average that is evaluated.

    Args:
        weights: float32 [n], copied.
        options: of the run.
        run_id: 32 bytes, for the perturbation stream.
    """

    def __init__(self, weights: F32, options: BaffleOptions, run_id: bytes) -> None:
        self.weights: F32 = weights.astype(np.float32, copy=True)
        self.step = 0
        self._options = options
        self._run_id = run_id
        self._first = np.zeros_like(self.weights)
        self._second = np.zeros_like(self.weights)
        self._average = np.zeros_like(self.weights)
        # Products instead of powers: beta^t and the average's total weight, in float64.
        self._decays = np.array([1.0, 1.0, 0.0])

    def apply(self, replay: Replay) -> None:
        """Take one step.

        Raises: BadPayload if it is not the next one; nothing has changed then.
        """
        if replay.step != self.step:
            raise BadPayload(f"a replay of step {replay.step} cannot follow {self.step} steps: fetch the missing ones")
        self.descend(gradient_of(replay, self._run_id, len(self.weights)), replay.learning_rate)

    def descend(self, gradient: F32, learning_rate: float) -> None:
        """One step of Adam, and of the average, from a gradient float32 [n] that every replica has alike."""
        options = self._options
        beta1, beta2 = np.float32(options.beta1), np.float32(options.beta2)
        total = gradient + np.float32(options.weight_decay) * self.weights
        self._first *= beta1
        self._first += (np.float32(1) - beta1) * total
        total *= total
        self._second *= beta2
        self._second += (np.float32(1) - beta2) * total
        self._decays[:2] *= (options.beta1, options.beta2)
        rate = np.float32(float(np.float32(learning_rate)) / (1 - self._decays[0]))
        spread = np.sqrt(self._second * np.float32(1 / (1 - self._decays[1])))
        spread += np.float32(EPSILON)
        self.weights -= rate * self._first / spread
        self.step += 1
        if self.step % options.ema_every == 0:
            self._follow()

    def averaged(self) -> F32:
        """The weights to evaluate: their exponential average, unbiased from the first step, float32 [n]."""
        average = unbiased(self._average, float(self._decays[2]))
        return self.weights.copy() if average is None else average

    def digest(self) -> str:
        """SHA-256 (hex) of the weights: equal on gateway and devices after equal replays."""
        return weights_digest(self.weights)

    def state(self) -> dict[str, npt.NDArray[np.float32] | npt.NDArray[np.float64]]:
        """Copies of all that a newcomer needs to go on from here; `restore` takes them."""
        return {
            "weights": self.weights.copy(),
            "first": self._first.copy(),
            "second": self._second.copy(),
            "average": self._average.copy(),
            "decays": np.append(self._decays, float(self.step)),
        }

    def moments(self) -> dict[str, npt.NDArray[np.float32] | npt.NDArray[np.float64]]:
        """All of the state but weights and step, as references: for replicas that keep the weights elsewhere."""
        return {"first": self._first, "second": self._second, "average": self._average, "decays": self._decays}

    def restore(self, state: Mapping[str, npt.NDArray[np.float32] | npt.NDArray[np.float64]]) -> None:
        """Go on from the state of another replica of the same run.

        Raises: BadPayload if names, shapes or types are not those of `state()`, or a number is not finite.
        """
        mine = self.state()
        if set(state) != set(mine):
            raise BadPayload(f"a replica's state has {sorted(mine)}, not {sorted(state)}")
        for name, array in state.items():
            if array.shape != mine[name].shape or array.dtype != mine[name].dtype or not np.isfinite(array).all():
                raise BadPayload(f"state {name!r}: expected finite {mine[name].dtype} {mine[name].shape}")
        decays = state["decays"].astype(np.float64)
        if (decays < 0).any() or (decays[:3] > 1).any() or decays[3] != np.floor(decays[3]):
            raise BadPayload(f"state 'decays' holds {decays.tolist()}: expected three fractions and a number of steps")
        for name, array in (("weights", self.weights), ("first", self._first), ("second", self._second)):
            array[:] = state[name]
        self._average[:] = state["average"]
        self._decays[:] = decays[:3]
        self.step = int(decays[3])

    def _follow(self) -> None:
        """One step of the average: w_avg = d * w_avg + (1 - d) * w, d = min(ema, (1 + t) / (4 + t)).

        So an average over few steps forgets their beginning, too (polynomial decay: Shamir and Zhang 2013,
        arXiv:1212.1824, section 4).
        """
        turn = self.step // self._options.ema_every
        ema = np.float32(min(self._options.ema, (1 + turn) / (4 + turn)))
        self._average *= ema
        self._average += (np.float32(1) - ema) * self.weights
        self._decays[2] = self._decays[2] * float(ema) + (1 - float(ema))


def unbiased(average: F32, total: float) -> F32 | None:
    """The average of the weights, float32 [n], from its sum and the weight behind that; None before the first step."""
    return average * np.float32(1 / total) if total > 0 else None


def gradient_of(replay: Replay, run_id: bytes, n: int) -> F32:
    """The gradient that a replay stands for, float32 [n]: g += s * z in slot, then k order, bit for bit."""
    gradient = np.zeros(n, np.float32)
    for part in replay.parts:
        stream = PerturbationStream(part.round_seed, run_id)
        for slot, scalars in zip(part.slots, part.scalars, strict=True):
            _add_scaled(gradient, scalars, stream.at(round_index=part.round_index, slot=slot, n=n))
    return gradient


def _add_scaled(gradient: F32, scalars: F32, directions: Directions) -> None:
    """gradient += s_k * z_k, k by k."""
    for rows, start, signs in directions.tiles(range(len(scalars))):
        # Products of some perturbations at once, sums one after another: their order is the result's.
        terms = signs.astype(np.float32)
        np.multiply(terms, scalars[rows.start : rows.stop, None], out=terms)
        here = gradient[start : start + terms.shape[1]]
        for term in terms:
            np.add(here, term, out=here)


def weights_digest(weights: F32) -> str:
    """SHA-256 (hex) of float32 weights as little-endian bytes."""
    return hashlib.sha256(weights.astype("<f4").tobytes()).hexdigest()
