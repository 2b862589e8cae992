"""The queue of a stage."""

from __future__ import annotations

import pytest

from gossamer.peer.pipeline.backlog import Backlog, Job, Phase
from gossamer.protocol.errors import Busy


def test_gradients_go_first_and_forward_passes_together() -> None:
    backlog = _backlog()
    for content in ("f1", "f2", "b1", "f3", "b2"):
        backlog.put(_job(content))

    taken = [[job.content for job in backlog.take()] for _ in range(5)]

    # At most 8 samples together, 4 each.
    assert taken == [["b1"], ["b2"], ["f1", "f2"], ["f3"], []]
    assert (len(backlog), backlog.n_bytes) == (0, 0)


def test_a_large_forward_pass_is_taken_alone() -> None:
    backlog = _backlog()
    backlog.put(_job("f1", n_samples=100))
    backlog.put(_job("f2"))

    assert [job.content for job in backlog.take()] == ["f1"]


def test_what_is_above_the_bounds_is_refused() -> None:
    many, large = _backlog(), _backlog()
    for i in range(5):
        many.put(_job(f"f{i}"))
    large.put(_job("f0", n_bytes=90))

    with pytest.raises(Busy):
        many.put(_job("b1"))
    with pytest.raises(Busy):
        large.put(_job("f1", n_bytes=11))

    assert (len(many), len(large), large.n_bytes) == (5, 1, 90)
    large.put(_job("f1", n_bytes=10))


def test_a_job_whose_caller_has_gone_is_not_done() -> None:
    backlog = _backlog()
    backlog.put(_job("f1"))
    backlog.put(_job("b1"))

    assert [backlog.drop("b1"), backlog.drop("b1")] == [True, False]

    assert [job.content for job in backlog.take()] == ["f1"]
    assert backlog.n_bytes == 0


def _backlog() -> Backlog[str]:
    return Backlog(jobs_max=5, bytes_max=100, together_max=8)


def _job(content: str, *, n_samples: int = 4, n_bytes: int = 10) -> Job[str]:
    phase = Phase.FORWARD if content[0] == "f" else Phase.BACKWARD
    return Job(phase=phase, n_samples=n_samples, n_bytes=n_bytes, content=content)
