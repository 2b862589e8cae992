"""Building tasks by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.algorithms import BadOption, UnknownOption
from gossamer.tasks import MissingData, UnknownTask, build_task, is_users_own

OWN = """
import os
from gossamer.tasks import Task
from gossamer.tasks.digits import Digits

class Mine(Digits):
    name = "mine"

def made(*, options, data) -> Task:
    return Mine(options=options, data=data)

def liar(*, options, data) -> Task:
    return 7

def untold(*, options, data):
    raise SystemExit("called")
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_task_{abs(hash(tmp_path.name)) % 10**9}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(UnknownTask, match="did you mean 'chars'"):
        build_task("chras", {})


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(UnknownOption, match="did you mean 'n_layers'"):
        build_task("chars", {"n_layer": 2})


def test_an_option_out_of_bounds_is_refused() -> None:
    with pytest.raises(BadOption, match="multiple of n_heads"):
        build_task("chars", {"d_model": 30})


@pytest.mark.parametrize("attribute", ["Mine", "made"])
def test_a_users_own_class_or_function_is_built(own_module: str, attribute: str) -> None:
    task = build_task(f"{own_module}:{attribute}", {"hidden": 5})

    assert task.name == "mine"
    assert task.build_model(0)[0].out_features == 5  # type: ignore[index]


@pytest.mark.parametrize("attribute", ["absent", "os", "untold", ""])
def test_only_what_says_that_it_makes_tasks_is_called(own_module: str, attribute: str) -> None:
    with pytest.raises(UnknownTask, match="no '"):
        build_task(f"{own_module}:{attribute}", {})


def test_a_function_that_returns_something_else_is_refused(own_module: str) -> None:
    with pytest.raises(UnknownTask, match="returned a int"):
        build_task(f"{own_module}:liar", {})


@pytest.mark.parametrize("name", ["no_such_module_here:Task", ":Task", "os.nothing:Task", "..:Task"])
def test_a_module_that_cannot_be_imported_says_what_to_do(name: str) -> None:
    with pytest.raises(UnknownTask, match="PYTHONPATH"):
        build_task(name, {})


def test_one_can_ask_beforehand_whether_a_name_would_import_code() -> None:
    assert is_users_own("spirals:Spirals")
    assert not is_users_own("chars")


def test_missing_data_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="apt-get install dataset-fashion-mnist"):
        build_task("fashion", {}, data=tmp_path)
