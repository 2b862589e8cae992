"""What cannot be trained is said before anything runs, in one line that names what is known."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from gossamer.cli import main
from gossamer.protocol.errors import UsageError
from gossamer.simulator.playing import play
from gossamer.simulator.scenario import scenario_of


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        ({"run": {"task": "digts"}}, "unknown task 'digts': did you mean 'digits'.*chars"),
        ({"run": {"task": "nowhere:Task"}}, "cannot import the module of task 'nowhere:Task'"),
        ({"run": {"method": "dmo"}}, "unknown method 'dmo': did you mean 'demo'.*allreduce"),
        ({"run": {"method": "nowhere:Method"}}, "cannot import the module of method 'nowhere:Method'"),
        ({"run": {"task_options": {"hiden": 3}}}, "unknown option 'hiden' of task 'digits': did you mean 'hidden'"),
        ({"run": {"task_options": {"hidden": "many"}}}, "option 'hidden' of task 'digits' must be of type int"),
        ({"run": {"method_options": {"kk": 3}}}, "unknown option 'kk' of method 'demo': .*Known: "),
        ({"run": {"method_options": {"k": -3}}}, "option 'k' must be"),
        (
            {"run": {"method": "allreduce", "method_options": {"aggregate": "trimmed", "n_liars": 3}}},
            "the run starts with 4 peers, but .* needs at least",
        ),
        ({"run": {"compute": "analytic", "sizes": {"flops_per_sample": 1e19}}}, "'flops_per_sample' must be"),
        ({"run": {"method": "fixedpoint"}}, "must be calibrated"),
        ({"run": {"method": "coded"}, "pipeline": {"stages": 2}}, "for a pipeline"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_runs(
    tmp_path: Path, tables: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        play(scenario_of({"name": "test", **tables}), tmp_path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [(), ("--seeds", "0..3"), ("--shrink",), ("--verify",)])
def test_the_command_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text('name = "mine"\n')
    words = ["gossamer", "simulate", "mine.toml", "--set", "run.method_options.foo=3", *more]
    monkeypatch.setattr(sys, "argv", words)

    with pytest.raises(SystemExit) as ended:
        main()

    out, told = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert told.startswith("gossamer: usage: unknown option 'foo' of method 'demo': Known: ")
    assert told.count("\n") == 1
