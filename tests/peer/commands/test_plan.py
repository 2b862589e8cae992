"""`gossamer plan`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from gossamer.peer.commands.order import Order
from gossamer.peer.commands.plan import Question, answer
from gossamer.peer.commands.run import new
from gossamer.protocol.errors import UsageError
from gossamer.protocol.manifest import parse

FLEET = """
[[machines]]
name = "strong"
count = 2
flops_per_s = 1e6
memory_bytes = 1e9
up_bytes_per_s = 1e6
down_bytes_per_s = 1e6

[[machines]]
name = "weak"
flops_per_s = 1e5
memory_bytes = 1e9
up_bytes_per_s = 1e6
down_bytes_per_s = 1e6
latency_s = 0
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    new(out, Order(task="digits", method="allreduce", steps=10, batch=4), start_peers=3, open_to_all=False)
    return out


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET)
    return path


def test_it_says_where_to_cut_and_who_serves_what(run: Path, fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _plan(Question(run=run, fleet=fleet, stages=2), capsys)

    # 64 x 32 products, then the ReLU and 32 x 10: the weak one helps with the first; alone it would hold up the second.
    assert found["starts"] == [0, 1]
    assert [stage["machines"] for stage in found["stages"]] == [["strong-1", "weak"], ["strong-2"]]
    assert found["stages"][0]["samples_per_s"] == pytest.approx(1.1e6 / (4 * 4096))
    assert found["stages"][1]["samples_per_s"] == pytest.approx(1e6 / (3 * (640 + 32)))
    assert found["batch_samples"] == 12
    assert found["samples_per_s"] == pytest.approx(12 / sum(found["step_s"].values()))
    assert found["bottleneck"] == "compute"


def test_roles_are_the_daemons(run: Path, fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleet.write_text(FLEET + 'role = "trains"\n')

    found = _plan(Question(run=run, fleet=fleet, stages=2), capsys)

    assert [stage["machines"] for stage in found["stages"]] == [["strong-1"], ["strong-2"]]
    assert found["trainers"]["machines"] == ["strong-1", "strong-2", "weak"]


def test_a_run_that_is_cut_has_its_own_microbatches(
    tmp_path: Path, fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Order(task="digits", method="allreduce", stages=2, steps=10, batch=4, options=("pipeline.microbatches=7",))
    new(tmp_path / "cut", made, start_peers=3, open_to_all=False)
    capsys.readouterr()

    found = _plan(Question(run=tmp_path / "cut", fleet=fleet, stages=2), capsys)

    assert found["batch_samples"] == 7 * 4
    assert found["order"] == (
        "--stages 2 --set 'pipeline.starts=[0,1]' --start-peers 3 --batch 4 --set pipeline.microbatches=7 "
        "--activations int8"
    )


def test_what_is_ordered_for_many_machines_is_a_run(
    tmp_path: Path, run: Path, fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.write_text(FLEET.replace("count = 2", "count = 40"))
    words = shlex.split(_plan(Question(run=run, fleet=fleet, stages=2), capsys)["order"])
    told = dict(zip(words[::2], words[1::2], strict=True))
    settings = tuple(value for key, value in zip(words[::2], words[1::2], strict=True) if key == "--set")
    made = Order(
        task="digits",
        method="allreduce",
        stages=int(told["--stages"]),
        steps=10,
        batch=int(told["--batch"]),
        options=settings,
    )

    new(tmp_path / "many", made, start_peers=int(told["--start-peers"]), open_to_all=False)

    group = parse((tmp_path / "many" / "manifest.toml").read_text()).manifest.group
    assert (group.start_peers, group.peers_max) == (41, 41)


def test_machines_are_told_apart_unless_they_are_alike(
    run: Path, fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.write_text(FLEET.replace("weak", "gpu-[red]1080") + FLEET.split("[[machines]]")[2].join(["[[machines]]", ""]))

    answer(Question(run=run, fleet=fleet, stages=1), json_output=False)

    shown = capsys.readouterr().out
    assert "2 x strong" in shown.replace("\n", " ")
    assert "[red]" in shown


def test_measured_costs_share_out_what_was_counted(run: Path, fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _plan(Question(run=run, fleet=fleet, stages=1, measure=True), capsys)

    (stage,) = found["stages"]
    assert stage["samples_per_s"] == pytest.approx(2.1e6 / (3 * (4096 + 32 + 640)))


def test_the_text_names_a_line_only_if_that_is_what_holds_back(
    run: Path, fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = FLEET.replace("up_bytes_per_s = 1e6", "up_bytes_per_s = 1e2") + 'role = "trains"\n'
    fleet.write_text(slow.replace("count = 2", "count = 2\nlatency_s = 60"))
    found = _plan(Question(run=run, fleet=fleet, stages=2), capsys)
    assert (found["line"]["direction"], found["bottleneck"]) == ("uplink", "latency")
    answer(Question(run=run, fleet=fleet, stages=2), json_output=False)
    assert "which trains" not in capsys.readouterr().out

    fleet.write_text(slow)
    found = _plan(Question(run=run, fleet=fleet, stages=2), capsys)
    answer(Question(run=run, fleet=fleet, stages=2), json_output=False)

    assert (found["line"]["direction"], found["bottleneck"]) == ("uplink", "uplink")
    assert f"uplink of {found['line']['machine']}, which trains" in " ".join(capsys.readouterr().out.split())


def test_a_model_in_one_piece_is_ordered_without_a_cut(
    run: Path, fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _plan(Question(run=run, fleet=fleet, stages=1), capsys)["order"] is None


def test_a_person_gets_a_table(run: Path, fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer(Question(run=run / "manifest.toml", fleet=fleet), json_output=False)

    assert "samples/s" in capsys.readouterr().out


def test_what_does_not_fit_is_a_usage_error(run: Path, fleet: Path) -> None:
    fleet.write_text(FLEET.replace("1e9", "1e6"))

    with pytest.raises(UsageError, match="add a machine with more memory"):
        answer(Question(run=run, fleet=fleet), json_output=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[machines", "not TOML"),
        ("machines = []", "machines"),
        (FLEET.replace("latency_s", "latency"), "latency"),
        (FLEET.replace("1e5", "-1.0"), "greater than 0"),
        (FLEET.replace("count = 2", "count = 256"), "257 machines"),
        (FLEET.replace("count = 2", "count = 64"), "65 machines, and a run has 64 members"),
    ],
)
def test_bad_fleets_are_refused_with_the_place(run: Path, fleet: Path, text: str, message: str) -> None:
    fleet.write_text(text)

    with pytest.raises(UsageError, match=message):
        answer(Question(run=run, fleet=fleet), json_output=True)


def test_missing_files_are_usage_errors(run: Path, fleet: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the fleet"):
        answer(Question(run=run, fleet=tmp_path / "none"), json_output=True)
    with pytest.raises(UsageError, match="give the path of a manifest"):
        answer(Question(run=tmp_path / "none", fleet=fleet), json_output=True)


def _plan(question: Question, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    answer(question, json_output=True)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found
