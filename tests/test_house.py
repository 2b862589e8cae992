"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("protocol", "algorithms", "tasks", "peer", "edge", "simulator")
TEXT_SUFFIXES = {".py", ".pyi", ".proto", ".md", ".toml", ".txt", ".sh", ".j2", ".css", ".js"}
TEXT_NAMES = {"Makefile", "LICENSE", "run"}
SKIPPED_FOLDERS = {"__pycache__", "build", "dist", "runs"}
HEAVY = ("torch", "hivemind", "pydantic", "scipy", "numba")


def test_every_public_module_says_what_it_is_for() -> None:
    silent = [path for path in _modules() if not path.name.startswith("_") and not _docstring(path)]

    assert [str(path.relative_to(ROOT)) for path in silent] == []


def test_every_package_is_listed_for_the_wheel() -> None:
    found = {_dotted(path.parent) for path in _modules() if path.name == "__init__.py"}

    listed = _project()["tool"]["setuptools"]["packages"]

    assert sorted(listed) == sorted(found | {"gossamer"})


def test_the_installed_version_is_that_of_the_checkout() -> None:
    assert importlib.metadata.version("gossamer") == _project()["project"]["version"]


def test_constraints_pin_all_that_is_asked_for() -> None:
    project = _project()["project"]
    extras = project["optional-dependencies"]
    asked = {_name(line) for line in [*project["dependencies"], *extras["peer"], *extras["dev"]]}

    pinned = {_name(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}

    assert sorted(asked - pinned) == []


@pytest.mark.parametrize("room", ["protocol", "edge"])
def test_a_room_for_devices_loads_no_heavy_library(room: str) -> None:
    names = ", ".join(f"gossamer.{_module_name(path)}" for path in _device_modules(room))
    code = f"import sys, {names}; print(*(name for name in {HEAVY!r} if name in sys.modules))"

    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)

    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.split() == []


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    private = ["/" + "work/", "/" + "home/", "/" + "Users/"]

    offenders = [
        f"{path.relative_to(ROOT)}: {word}" for path in _texts() for word in private if word in path.read_text("utf-8")
    ]

    assert offenders == []


def test_files_are_named_after_what_is_in_them() -> None:
    vague = {"utils", "helpers", "common", "misc", "manager"}

    assert [str(path) for path in _modules() if path.stem in vague] == []


def _device_modules(room: str) -> list[Path]:
    """All of a room, without generated code, the manifest, which is for peers (pydantic), and a device's optional
    backpropagation, which is loaded when its owner asks for it (torch)."""
    optional = {ROOT / "protocol" / "manifest.py", ROOT / "edge" / "gradients.py"}
    return [path for path in _modules() if path.is_relative_to(ROOT / room) and path not in optional]


def _modules() -> list[Path]:
    """Every hand-written module of the rooms, and the root's own."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return [path for path in [*sorted(ROOT.glob("*.py")), *paths] if "_pb2" not in path.stem]


def _texts(folder: Path = ROOT) -> Iterator[Path]:
    """Every text file of a checkout, without what tools and runs leave there."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name == ".ci" or not (path.name in SKIPPED_FOLDERS or path.name.startswith(".")):
                yield from _texts(path)
        elif path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES:
            yield path


def _docstring(path: Path) -> str | None:
    return ast.get_docstring(ast.parse(path.read_text("utf-8")))


def _module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _dotted(folder: Path) -> str:
    return ".".join(("gossamer", *folder.relative_to(ROOT).parts))


def _name(requirement: str) -> str:
    """The distribution a requirement or a pin is about."""
    match = re.match(r"[A-Za-z0-9_.-]+", requirement)
    return match.group().lower().replace("_", "-") if match else ""


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
