"""Passes of microbatches through replicas of stages."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gossamer.peer.pipeline.microbatches import MicrobatchId
from gossamer.peer.pipeline.stage import StageReplica
from gossamer.protocol.errors import BadTensor, Busy, DuplicateMicrobatch, MissingMicrobatch, StaleStage
from gossamer.tasks import Staged, build_task
from gossamer.tests.peer.pipeline.chains import Chain, batches, replicas, run_microbatch

N = 6
NAMES = [MicrobatchId(step=0, index=i) for i in range(N)]


@pytest.mark.parametrize("n_stages", [1, 2, 3, 6])
@pytest.mark.parametrize("defer_weights", [False, True])
def test_a_global_batch_gives_the_gradient_of_the_single_process_model(n_stages: int, defer_weights: bool) -> None:
    task = build_task("chars", {"d_model": 16, "n_layers": 4, "n_heads": 2, "context": 16})
    assert isinstance(task, Staged)
    model, route = task.build_model(0), replicas(task, n_stages)
    every = batches(task, N, 3)

    losses = [run_microbatch(task, route, i, every[i], defer_weights=defer_weights) for i in (3, 1, 0, 5, 4, 2)]

    loss = torch.stack([task.loss(model, batch) for batch in every]).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = dict(model.named_parameters())
    found = _collected(route, NAMES)
    assert set(found) == set(parameters)
    for name, parameter in parameters.items():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-6, atol=1e-6)
    assert route[-1].collect(NAMES).loss == pytest.approx(loss.item(), abs=1e-6)
    assert sum(losses) / N == pytest.approx(loss.item(), abs=1e-6)


def test_the_sum_does_not_depend_on_the_order_of_arrival() -> None:
    task = Chain()
    every = batches(task, N, 4)
    one, other = replicas(task, 3), replicas(task, 3)

    for i in range(N):
        run_microbatch(task, one, i, every[i])
    for i in reversed(range(N)):
        run_microbatch(task, other, i, every[i], defer_weights=True)

    first, second = _collected(one, NAMES), _collected(other, NAMES)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_replica_that_dies_mid_backward_leaves_the_gradient_as_if_undisturbed() -> None:
    task = Chain(options={"dropout": 0.5})
    every = batches(task, N, 4)
    undisturbed, route = replicas(task, 3), replicas(task, 3)
    dead, spare = replicas(task, 3)[1], replicas(task, 3)[1]
    for i in range(N):
        run_microbatch(task, undisturbed, i, every[i])
    for i in range(N - 1):
        run_microbatch(task, route, i, every[i])

    # The last stage has passed it back when the middle one dies, its gradient taken and its answer lost.
    name, batch = NAMES[-1], every[-1]
    x1 = route[0].forward(name, 0, task.inputs(batch))
    x2 = dead.forward(name, 0, x1)
    arrived = route[2].backward(name, 0, x2, task.targets(batch)).input_gradient
    assert arrived is not None
    dead.backward(name, 0, x1, arrived)
    # Another replica takes over at the boundary; then everything is sent a second time.
    for _ in range(2):
        back = spare.backward(name, 0, x1, arrived).input_gradient
        assert back is not None
        route[0].backward(name, 0, task.inputs(batch), back)

    found = _collected([route[0], route[2]], NAMES)
    middle = [route[1].collect(NAMES[:-1]), spare.collect(NAMES[-1:])]
    for key in middle[0].gradients:
        found[key] = sum((part.gradients[key] * part.n_samples for part in middle), torch.zeros(())) / (N * 4)
    expected = _collected(undisturbed, NAMES)
    assert set(found) == set(expected)
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-6, atol=1e-7)


def test_random_layers_draw_the_same_on_every_replica_and_leave_the_global_generator_alone() -> None:
    task = Chain(options={"dropout": 0.5})
    (one, _), (other, _) = replicas(task, 2), replicas(task, 2)
    x = task.inputs(batches(task, 1, 16)[0])
    before = torch.get_rng_state()

    outs = [replica.forward(name, 0, x) for replica in (one, other) for name in NAMES[:2]]

    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(outs[0], outs[2])
    assert torch.equal(outs[1], outs[3])
    assert not torch.equal(outs[0], outs[1])


def test_a_repeated_backward_pass_gives_the_same_answer_and_counts_once() -> None:
    task = Chain()
    first, last = replicas(task, 2)
    x, targets = _at_last(task, first)

    answers = [last.backward(NAMES[0], 0, x, targets, defer_weights=bool(i % 2)) for i in range(3)]

    assert [answer.counted for answer in answers] == [True, False, False]
    assert last.held == (NAMES[0],)
    gradients = [answer.input_gradient for answer in answers]
    assert gradients[0] is not None
    assert all(g is not None and torch.equal(g, gradients[0]) for g in gradients)
    # At the first stage there is nothing to answer.
    again = [first.backward(NAMES[0], 0, task.inputs(batches(task, 1, 4)[0]), gradients[0]) for _ in range(2)]
    assert [(answer.input_gradient, answer.counted) for answer in again] == [(None, True), (None, False)]


def test_another_gradient_under_the_same_name_is_refused() -> None:
    task = Chain()
    first, last = replicas(task, 2)
    x, targets = _at_last(task, first)
    last.backward(NAMES[0], 0, x, targets)
    before = last.collect(NAMES[:1]).gradients

    with pytest.raises(DuplicateMicrobatch, match="as it came first"):
        last.backward(NAMES[0], 0, x, (targets + 1) % 3)

    after = last.collect(NAMES[:1]).gradients
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_of_two_takes_of_a_microbatch_one_counts() -> None:
    task = Chain(options={"dropout": 0.5})
    first, last = replicas(task, 2)
    x, targets = _at_last(task, first)
    again = MicrobatchId(step=0, index=0, take=1)
    last.backward(NAMES[0], 0, x, targets)

    # Another route: the input differs in its last bits. Dropout draws the same.
    assert torch.equal(first.forward(again, 0, task.inputs(batches(task, 1, 4)[0])), x)
    assert last.backward(again, 0, x * (1 + 1e-6), targets).counted

    with pytest.raises(DuplicateMicrobatch, match="takes 0 and 1"):
        last.collect([NAMES[0], again])
    assert last.collect([again]).n_samples == 4


def test_passes_of_another_version_are_refused_and_what_was_held_is_dropped() -> None:
    task = Chain()
    first, last = replicas(task, 2)
    x, targets = _at_last(task, first)
    last.backward(NAMES[0], 0, x, targets)

    assert last.advance(1) == (NAMES[0],)

    for version in (0, 2):
        with pytest.raises(StaleStage, match="at version 1 here"):
            last.backward(NAMES[1], version, x, targets)
        with pytest.raises(StaleStage):
            last.forward(NAMES[1], version, x)
    assert last.held == ()


def test_gradients_that_shall_count_must_be_there() -> None:
    task = Chain()
    first, last = replicas(task, 2)
    x, targets = _at_last(task, first)
    last.backward(NAMES[0], 0, x, targets)

    with pytest.raises(MissingMicrobatch, match="1 of 2"):
        last.collect(NAMES[:2])


def test_deferred_gradients_of_some_microbatches_do_not_wait_for_those_of_others() -> None:
    task = Chain()
    route, every = replicas(task, 3), batches(task, N, 4)
    for i in range(3):
        run_microbatch(task, route, i, every[i], defer_weights=True)
    last = route[-1]

    while last.finish_weights([NAMES[1]]):
        pass

    assert not last.is_deferred([NAMES[1]])
    assert last.n_deferred == 2
    last.collect([NAMES[1]])
    assert last.n_deferred == 2


def test_other_weights_may_come_while_a_deferred_gradient_is_computed() -> None:
    """As when a stage that lends weights was restored: what is under way is dropped, and the server goes on."""
    task = Chain()
    route = replicas(task, 3)
    run_microbatch(task, route, 0, batches(task, N, 4)[0], defer_weights=True)
    middle = route[1]
    held = middle._held[NAMES[0]]
    finish = held.finish
    assert finish is not None

    def renewed() -> dict[str, Tensor]:
        middle.renew(1)
        return finish()

    held.finish = renewed

    assert middle.finish_weights()
    assert (middle.held, middle.n_deferred, middle.finish_weights()) == ((), 0, False)


def test_memory_for_gradients_is_bounded() -> None:
    task = Chain()
    first, last = replicas(task, 2, held_max=2)
    x, targets = _at_last(task, first)
    for name in NAMES[:2]:
        last.backward(name, 0, x, targets)

    with pytest.raises(Busy):
        last.backward(NAMES[2], 0, x, targets)

    assert not last.backward(NAMES[0], 0, x, targets).counted


def test_tensors_from_outside_are_checked_before_they_are_used() -> None:
    task = Chain()
    first, last = replicas(task, 2)
    x, targets = _at_last(task, first)

    with pytest.raises(BadTensor, match=r"expected torch\.float32 of"):
        last.forward(NAMES[0], 0, x[:, :3])
    with pytest.raises(BadTensor, match="int64"):
        last.forward(NAMES[0], 0, x.long())
    with pytest.raises(BadTensor, match="send the same"):
        last.backward(NAMES[0], 0, x, targets[:2])
    with pytest.raises(BadTensor, match="class"):
        last.backward(NAMES[0], 0, x, targets + 3)
    with pytest.raises(BadTensor):
        last.forward(NAMES[0], 0, x[:0])
    assert last.held == ()


def test_tokens_outside_of_the_vocabulary_are_refused() -> None:
    task = build_task("chars", {"d_model": 16, "n_layers": 1, "n_heads": 2, "context": 16})
    assert isinstance(task, Staged)
    first, _ = replicas(task, 2)

    with pytest.raises(BadTensor, match="no entry"):
        first.forward(NAMES[0], 0, torch.full((1, 16), 10**6))


def _at_last(task: Chain, first: StageReplica) -> tuple[Tensor, Tensor]:
    batch = batches(task, 1, 4)[0]
    return first.forward(NAMES[0], 0, task.inputs(batch)), task.targets(batch)


def _collected(route: list[StageReplica], names: list[MicrobatchId]) -> dict[str, Tensor]:
    """The gradients of all stages; those of tied weights are added."""
    found: dict[str, Tensor] = {}
    for replica in route:
        for name, gradient in replica.collect(names).gradients.items():
            found[name] = found[name] + gradient if name in found else gradient
    return found
