"""The task `chars`."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gossamer.algorithms import Method, Schedule, Slots, build_method
from gossamer.tasks import BadData, MissingData, Task, build_task, shard
from gossamer.tasks.chars import Chars
from gossamer.tasks.text import N_VOCABULARY_MAX, build_corpus

SMALL = {"d_model": 32, "n_layers": 2, "n_heads": 2, "context": 32}


@pytest.fixture(scope="module")
def task() -> Task:
    return build_task("chars", SMALL)


@pytest.fixture
def alphabet(tmp_path: Path) -> Path:
    path = tmp_path / "alphabet.txt"
    path.write_text("abcdefghijklmnopqrstuvwxyz" * 60, encoding="utf-8")
    return path


def test_the_default_model_has_about_a_million_parameters() -> None:
    model = build_task("chars", {}).build_model(0)

    assert 1_000_000 < sum(p.numel() for p in model.parameters()) < 1_100_000
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_weights_follow_from_the_seed_whatever_the_global_generator_does(task: Task) -> None:
    state = torch.get_rng_state()
    first = task.build_model(3).state_dict()
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(1)

    again, other = task.build_model(3).state_dict(), task.build_model(4).state_dict()

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["token.weight"], other["token.weight"])


def test_an_untrained_model_knows_nothing(task: Task) -> None:
    loss = task.evaluate(task.build_model(0)).loss

    assert loss == pytest.approx(math.log(task.n_vocabulary), abs=0.3)  # type: ignore[attr-defined]


def test_a_sample_is_a_window_and_its_loss_the_mean_over_it(alphabet: Path) -> None:
    task = build_task("chars", SMALL, data=alphabet)
    model = task.build_model(0)

    with torch.no_grad():
        # The alphabet repeats: windows 26 apart are the same.
        one, other, same = (float(task.loss(model, np.array([i]))) for i in (0, 5, 26))
        both = float(task.loss(model, np.array([0, 5])))

    assert both == pytest.approx((one + other) / 2, rel=1e-5)
    assert same == pytest.approx(one, rel=1e-6)


def test_the_last_tenth_is_held_out(alphabet: Path) -> None:
    task = build_task("chars", SMALL, data=alphabet)

    assert task.n_train == 26 * 60 * 9 // 10 - 32
    task.loss(task.build_model(0), np.array([0, task.n_train - 1]))
    with pytest.raises(IndexError):
        task.loss(task.build_model(0), np.array([task.n_train]))


def test_a_short_training_learns_the_alphabet_and_writes_it(alphabet: Path) -> None:
    task = build_task("chars", SMALL, data=alphabet)
    model = task.build_model(0)
    before = task.evaluate(model).loss
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    for step in range(60):
        optimizer.zero_grad()
        batch = shard(seed=0, round_index=step, n_members=1, slot=0, batch_size=8, n_train=task.n_train)
        task.loss(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    assert task.evaluate(model).loss < 0.1 < before
    text = task.sample_text(model, seed=0, n_chars=40)
    assert text is not None
    assert text in "abcdefghijklmnopqrstuvwxyz" * 4


def test_text_follows_from_its_seed(task: Task) -> None:
    model = task.build_model(0)

    texts = [task.sample_text(model, seed=seed, n_chars=50) for seed in (1, 1, 2)]

    assert texts[0] == texts[1] != texts[2]
    assert [len(text or "") for text in texts] == [50, 50, 50]


def test_fingerprints_tell_options_and_data_apart(task: Task, alphabet: Path) -> None:
    again = build_task("chars", {**SMALL})
    options = build_task("chars", {**SMALL, "n_layers": 1})
    data = build_task("chars", SMALL, data=alphabet)

    assert task.fingerprint() == again.fingerprint()
    assert len({t.fingerprint() for t in (task, options, data)}) == 3
    assert len(task.fingerprint()) == 64


def test_costs_grow_with_the_model(task: Task) -> None:
    assert build_task("chars", {}).flops_per_sample() > 10 * task.flops_per_sample() > 0


@pytest.mark.parametrize(
    ("content", "reason"), [(b"\xff\xfe", "not UTF-8"), (b"too short", "pass a longer one"), (b"", "pass a longer one")]
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)

    with pytest.raises(BadData, match=reason):
        build_task("chars", SMALL, data=path)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="no text file"):
        build_task("chars", {}, data=tmp_path / "absent")
    with pytest.raises(MissingData, match="no text file"):
        build_task("chars", {}, data=tmp_path)


def test_a_text_of_too_many_different_characters_is_refused() -> None:
    with pytest.raises(BadData, match="different characters"):
        build_corpus("".join(map(chr, range(1000, 1000 + N_VOCABULARY_MAX + 1))))


def test_characters_beyond_the_basic_plane_are_one_token() -> None:
    corpus = build_corpus("a🕷a\n")

    assert corpus.characters == "\na🕷"
    assert corpus.tokens.tolist() == [1, 2, 1, 0]
    assert corpus.decode(corpus.tokens) == "a🕷a\n"


def test_four_peers_train_like_one_with_a_batch_four_times_as_large(task: Task) -> None:
    four, one = (_train_allreduce(task, n_members=n, batch_size=8 // n, n_steps=50) for n in (4, 1))

    assert four == pytest.approx(one, abs=1e-4)


def test_four_peers_learn_with_demo(task: Task) -> None:
    model = task.build_model(0)
    before = task.evaluate(model).loss
    parameters: dict[str, torch.Tensor] = dict(model.named_parameters())
    members = [_member("demo", parameters, is_first=slot == 0) for slot in range(4)]

    for step in range(40):
        for slot, member in enumerate(members):
            member.accumulate(_gradients(task, model, step, 4, slot, 4), 4)
        payloads = [member.encode(member.agree()) for member in members]
        for slot, member in enumerate(members):
            member.combine(payloads, mine=slot, step=step, slots=Slots.everybody(4))

    assert task.evaluate(model).loss < before - 1.0


def test_a_model_of_another_kind_cannot_be_sampled_from(task: Task) -> None:
    assert isinstance(task, Chars)
    with pytest.raises(TypeError, match="GPT"):
        task.sample_text(torch.nn.Linear(1, 1), seed=0)


def _train_allreduce(task: Task, *, n_members: int, batch_size: int, n_steps: int) -> float:
    """The loss after training. All replicas are equal, so one model serves them all."""
    model = task.build_model(0)
    parameters: dict[str, torch.Tensor] = dict(model.named_parameters())
    members = [_member("allreduce", parameters, is_first=slot == 0) for slot in range(n_members)]
    for step in range(n_steps):
        for slot, member in enumerate(members):
            member.accumulate(_gradients(task, model, step, n_members, slot, batch_size), batch_size)
        vectors = [np.frombuffer(member.encode(member.agree()), np.uint8) for member in members]
        reduced = members[0].reduce(vectors, 0).tobytes()
        for member in members:
            member.combine([reduced], mine=0, step=step, slots=Slots.everybody(n_members))
    return task.evaluate(model).loss


def _member(name: str, parameters: dict[str, torch.Tensor], *, is_first: bool) -> Method:
    """A method that moves the given parameters if it is the first, else a copy."""
    own = parameters if is_first else {key: p.detach().clone() for key, p in parameters.items()}
    return build_method(name, own, {}, Schedule(lr={"demo": 2e-3, "allreduce": 3e-4}[name]))


def _gradients(
    task: Task, model: torch.nn.Module, step: int, n_members: int, slot: int, batch_size: int
) -> dict[str, torch.Tensor | None]:
    batch = shard(seed=0, round_index=step, n_members=n_members, slot=slot, batch_size=batch_size, n_train=task.n_train)
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(task.loss(model, batch), list(parameters.values()))
    return dict(zip(parameters, gradients, strict=True))
