"""Several runs on one page."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from gossamer.peer.commands.compare import compare
from gossamer.peer.report.comparison import names_of, write_comparison
from gossamer.protocol.errors import StateError, UsageError

from .synthetic import Story, write_run


def _runs(root: Path, *names: str) -> list[Path]:
    for name in names:
        write_run(root / name, Story())
    return [root / name for name in names]


def test_runs_stand_side_by_side_on_a_page_that_loads_nothing(tmp_path: Path) -> None:
    folders = _runs(tmp_path, "a", "b")

    courses = write_comparison(folders, tmp_path / "compare.html")

    page = (tmp_path / "compare.html").read_text()
    figures = {
        name: json.loads(text) for name, text in re.findall(r'data-figure="([\w-]+)">(.*?)</script>', page, re.DOTALL)
    }
    assert [course.name for course in courses] == ["a", "b"]
    assert set(figures) == {"loss-by-time", "loss-by-step", "loss-by-bytes", "throughput"}
    assert all([trace["name"] for trace in figure["data"]] == ["a", "b"] for figure in figures.values())
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page.split("<script>")[0])


def test_courses_tell_what_the_logs_tell(tmp_path: Path) -> None:
    course = write_comparison(_runs(tmp_path, "a"), tmp_path / "compare.html")[0]

    steps = [point.step for point in course.points]
    assert course.steps == course.updates[-1][1]
    assert steps == sorted(steps)
    assert course.loss_end == course.points[-1].loss
    assert [point.sent_bytes for point in course.points] == sorted(point.sent_bytes for point in course.points)
    assert 0 < course.steps_per_s < course.steps
    assert not course.is_simulated


def test_who_came_in_anothers_place_is_no_other_machine(tmp_path: Path) -> None:
    before = write_comparison(_runs(tmp_path, "a"), tmp_path / "compare.html")[0]
    shutil.copytree(tmp_path / "a" / "peers" / "1", tmp_path / "a" / "peers" / "1.1")
    after = write_comparison([tmp_path / "a"], tmp_path / "compare.html")[0]

    assert after.n_peers == before.n_peers
    assert after.sent_bytes_per_peer > before.sent_bytes_per_peer


def test_programs_get_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare(_runs(tmp_path, "a", "b"), out=tmp_path / "compare.html", json_output=True)

    told = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in told["runs"]] == ["a", "b"]
    assert told["report"] == str(tmp_path / "compare.html")


def test_runs_of_one_name_are_told_apart_by_their_folders() -> None:
    assert names_of([Path("/x/a/run"), Path("/x/b/run")]) == ["a/run", "b/run"]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no log"):
        write_comparison([tmp_path], tmp_path / "compare.html")


def test_too_many_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 to"):
        write_comparison([tmp_path] * 25, tmp_path / "compare.html")
