"""One peer's copy of a stage: passes of microbatches, and the gradients that they leave until a step takes them in.

Forward passes keep nothing; a backward pass brings its input along and recomputes the activations with the same random
numbers. So a replica can be asked for a microbatch whose forward pass another replica did, and a dead replica takes
nothing with it but the gradients that it held.

A gradient is *held* under its microbatch's name until the step is decided, and only the names that the decision lists
are summed, in their order: it does not matter in which order they came, how often they were sent, or whether somebody
else holds them as well. Every pass names the stage's version, the number of updates behind its weights; another
version is refused.

Pure computation, no I/O. Tensors that come in are finite: who decodes them has seen to that (`activations.py`). Their
kind is checked here once more, for a peer may go over to another stage while a pass waits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ...algorithms.pipeline.splitting import split_backward, whole_backward
from ...protocol.errors import BadTensor, Busy, DuplicateMicrobatch, MissingMicrobatch, StaleStage
from ...tasks import Stage
from ..buffers import Buffers
from .microbatches import Boundaries, MicrobatchId, content_hash, seeded

Gradients = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Passed:
    """Result of a backward pass."""

    input_gradient: Tensor | None
    """For the stage before; None at the first stage."""
    loss: float | None
    """Mean over the microbatch; None but at the last stage."""
    counted: bool
    """False: this microbatch's gradient was held already, so nothing was added."""


@dataclass(frozen=True, kw_only=True)
class Summed:
    """Gradients of the microbatches that count."""

    gradients: Gradients
    """Mean over all their samples, by the parameter's name in the whole model; owned and borrowed."""
    n_samples: int
    loss: float | None
    """Mean over all their samples; None but at the last stage."""


@dataclass(eq=False)
class _Held:
    content: bytes
    n_samples: int
    loss: float | None
    gradients: Gradients | None
    """Of the mean loss over the microbatch; None: `finish` is still to be called."""
    finish: Callable[[], Gradients] | None = None


class Meant(NamedTuple):
    """The weights that a pass means, and the buffers that it leaves as they were."""

    stage: Stage
    buffers: Buffers


class StageReplica:
    """A stage at one version of its weights.

    `stage`, `version`, `n_deferred` and `is_deferred` may be read while another thread computes a pass; all else is
    done in turns.

    Args:
        run_seed: random layers follow from it.
        held_max: so many microbatches' gradients at most; each is as large as the stage's weights.
    """

    def __init__(self, stage: Stage, boundaries: Boundaries, *, run_seed: int, held_max: int, version: int = 0) -> None:
        self.stage = stage
        self.boundaries = boundaries
        self._run_seed = run_seed
        self._held_max = held_max
        self._version = version
        self._held: dict[MicrobatchId, _Held] = {}
        self._put_off: dict[MicrobatchId, _Held] = {}
        """Of these, whose `finish` is still to be called: looked at between any two passes, so not searched for."""
        self.n_repeated = 0
        """Gradients that came for a name that is held already."""
        self._buffers = Buffers(stage.body)

    @property
    def version(self) -> int:
        """Updates behind the weights."""
        return self._version

    @property
    def held(self) -> tuple[MicrobatchId, ...]:
        """Whose gradients are here, ascending."""
        return tuple(sorted(self._held))

    def forward(self, microbatch: MicrobatchId, version: int, x: Tensor) -> Tensor:
        """The stage's output, without a graph. Nothing is kept.

        Raises: StaleStage, BadTensor.
        """
        meant = self._meant(microbatch, version)
        self.boundaries.input.check(x, "the stage's input")
        with torch.no_grad():
            if meant.stage.derive is not None:
                return self._run(meant.stage, x)
            with seeded(self._run_seed, self.stage.index, microbatch):
                out = self._run(meant.stage, x)
        meant.buffers.restore()
        return out

    def backward(
        self,
        microbatch: MicrobatchId,
        version: int,
        x: Tensor,
        arrived: Tensor,
        *,
        content: bytes | None = None,
        defer_weights: bool = False,
    ) -> Passed:
        """Recompute the activations, hold the parameters' gradient, and give the input's.

        Args:
            x: the stage's input, as for `forward`.
            arrived: the gradient of the stage's output (of the mean loss over the microbatch), or at the last stage the
                targets.
            content: a hash that tells this input and gradient from others; None: it is made here.
            defer_weights: leave the parameters' part to `finish_weights`, after the answer is on its way.
        A repeated call gives the same answer and adds nothing.
        Raises: StaleStage, BadTensor, DuplicateMicrobatch for the same name with another content, Busy.
        """
        meant = self._meant(microbatch, version)
        self.boundaries.input.check(x, "the stage's input")
        self.boundaries.output.check(arrived, "the targets" if self.stage.is_last else "the gradient of the output")
        if x.shape[0] != arrived.shape[0]:
            raise BadTensor(f"{len(x)} samples came with gradients or targets of {len(arrived)}: send the same ones")
        content = content or content_hash(x, arrived)
        known = self._held.get(microbatch)
        self.n_repeated += known is not None
        if known is not None and known.content != content:
            raise DuplicateMicrobatch(
                f"microbatch {microbatch.index} of step {microbatch.step} is held with another content: it counts "
                "as it came first"
            )
        if known is None and len(self._held) >= self._held_max:
            raise Busy(
                f"gradients of {len(self._held)} microbatches wait for the step to be taken: ask another replica"
            )
        trained = meant.stage.trained if known is None else {}
        input_gradient, held = self._differentiate(meant, microbatch, x, arrived, content, trained, defer_weights)
        if known is None:
            self._held[microbatch] = held
            if held.finish is not None:
                self._put_off[microbatch] = held
        return Passed(input_gradient=input_gradient, loss=held.loss, counted=known is None)

    def evaluate(self, version: int, x: Tensor) -> Tensor:
        """The stage's output as the model is used, not trained. Raises: as `forward`."""
        self._check_version(version)
        self.boundaries.input.check(x, "the stage's input")
        self.stage.eval()
        try:
            with torch.no_grad():
                return self._run(self.stage, x)
        finally:
            self.stage.train()

    @property
    def n_deferred(self) -> int:
        """Parts that `finish_weights` has still to do; each keeps its microbatch's activations."""
        return len(self._deferred(None))

    def finish_weights(self, of: Collection[MicrobatchId] | None = None) -> bool:
        """Do one deferred part of a backward pass, of these microbatches (None: of any); False if there is none."""
        for name in self._deferred(of):
            held = self._put_off.get(name)
            if held is not None and held.finish is not None:
                held.gradients, held.finish = held.finish(), None
                self._put_off.pop(name, None)  # other weights may have come meanwhile, and all was dropped
                return True
        return False

    def is_deferred(self, of: Collection[MicrobatchId] | None = None) -> bool:
        """Whether `finish_weights` has anything to do."""
        return bool(self._deferred(of))

    def _deferred(self, of: Collection[MicrobatchId] | None) -> list[MicrobatchId]:
        # Asked between passes, while other work may add to what is held: hence the copy.
        return [name for name in list(self._put_off) if of is None or name in of]

    def collect(self, microbatches: Iterable[MicrobatchId]) -> Summed:
        """The mean gradient over exactly these microbatches, summed in ascending order. Changes nothing.

        Raises: MissingMicrobatch if one of them is not held, DuplicateMicrobatch for two takes of one microbatch.
        """
        names = sorted(set(microbatches))
        for one, next_one in pairwise(names):
            if (one.step, one.index) == (next_one.step, next_one.index):
                raise DuplicateMicrobatch(
                    f"microbatch {one.index} of step {one.step} shall count in takes {one.take} and {next_one.take}: "
                    "one of them must go"
                )
        missing = [name for name in names if name not in self._held]
        if missing:
            raise MissingMicrobatch(
                f"{len(missing)} of {len(names)} gradients are not held here, the first of microbatch "
                f"{missing[0].index} of step {missing[0].step}: another replica must pass them"
            )
        while self.finish_weights(names):
            pass
        counting = [self._held[name] for name in names]
        n_samples = sum(held.n_samples for held in counting)
        gradients = {name: torch.zeros_like(parameter) for name, parameter in self.stage.trained.items()}
        for held in counting:
            assert held.gradients is not None
            for name, gradient in held.gradients.items():
                gradients[name].add_(gradient, alpha=held.n_samples / n_samples)
        losses = [held.loss * held.n_samples for held in counting if held.loss is not None]
        return Summed(
            gradients=gradients, n_samples=n_samples, loss=sum(losses) / n_samples if self.stage.is_last else None
        )

    def advance(self, version: int) -> tuple[MicrobatchId, ...]:
        """The weights were updated: from now on they have this version, and what was held for the old ones is dropped.

        Returns: the dropped names, those that were collected among them.
        """
        assert version > self._version
        dropped = self.held
        self._version = version
        self._keep(lambda name: False)
        return dropped

    def renew(self, version: int) -> None:
        """Other weights were put in place of these."""
        self._version = version
        self._keep(lambda name: False)

    def forget(self, unless: Callable[[MicrobatchId], bool]) -> None:
        """Drop what is held for microbatches that can no longer count."""
        self._keep(unless)

    def _keep(self, wanted: Callable[[MicrobatchId], bool]) -> None:
        self._held = {name: held for name, held in list(self._held.items()) if wanted(name)}
        self._put_off = {name: held for name, held in list(self._put_off.items()) if name in self._held}

    def _meant(self, microbatch: MicrobatchId, version: int) -> Meant:
        """Raises StaleStage."""
        self._check_version(version)
        return Meant(self.stage, self._buffers)

    def _differentiate(
        self,
        meant: Meant,
        microbatch: MicrobatchId,
        x: Tensor,
        arrived: Tensor,
        content: bytes,
        trained: Mapping[str, Tensor],
        defer_weights: bool,
    ) -> tuple[Tensor | None, _Held]:
        wants_input_gradient = not self.stage.is_first
        if meant.stage.derive is not None:
            return self._derived(meant.stage, x, arrived, content, trained, defer_weights and wants_input_gradient)
        x = x.detach().requires_grad_(wants_input_gradient)
        with torch.enable_grad(), seeded(self._run_seed, self.stage.index, microbatch):
            out = self._run(meant.stage, x)
            loss = self._loss(meant.stage, out, arrived)
        meant.buffers.restore()
        held = _Held(
            content=content, n_samples=x.shape[0], loss=None if loss is None else float(loss.detach()), gradients=None
        )
        target, gradient = (out, arrived) if loss is None else (loss, None)
        if not target.requires_grad:  # a stage without weights, or a repeated call at the first stage
            return None, replace(held, gradients={})
        if defer_weights and wants_input_gradient and trained:
            split = split_backward(target, gradient, x, trained)
            return split.input_gradient, replace(held, finish=split.weight_gradients)
        input_gradient, gradients = whole_backward(target, gradient, x if wants_input_gradient else None, trained)
        return input_gradient, replace(held, gradients=gradients)

    @staticmethod
    def _derived(
        stage: Stage, x: Tensor, arrived: Tensor, content: bytes, trained: Mapping[str, Tensor], defer_weights: bool
    ) -> tuple[Tensor | None, _Held]:
        """By the task's own derivatives. What others would put off is put off here as well."""
        assert stage.derive is not None
        with torch.no_grad():
            found = stage.derive(stage, x, arrived)
        gradients = {name: found.gradients[name] for name in trained}
        held = _Held(content=content, n_samples=x.shape[0], loss=found.loss, gradients=gradients)
        if defer_weights and trained:
            held.gradients, held.finish = None, lambda: gradients
        return found.input_gradient, held

    @staticmethod
    def _run(stage: Stage, x: Tensor) -> Tensor:
        try:
            out: Tensor = stage(x)
        except IndexError as error:
            raise BadTensor(f"the stage's input holds an index that it has no entry for ({error})") from None
        return out

    @staticmethod
    def _loss(stage: Stage, out: Tensor, targets: Tensor) -> Tensor | None:
        if stage.loss is None:
            return None
        try:
            return stage.loss(out, targets)
        except IndexError as error:
            raise BadTensor(f"the targets hold a class that does not exist ({error})") from None

    def _check_version(self, version: int) -> None:
        if version != self._version:
            raise StaleStage(
                f"stage {self.stage.index} is at version {self._version} here, the tensor at {version}: pass the "
                "microbatch anew"
            )
