"""Every number that a fleet rests on has its source, or the word *assumed*."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from gossamer.simulator import fleets
from gossamer.simulator.fleets.registry import VOLUNTEERS_START, volunteers

FOLDER = Path(fleets.__file__).parent
NO_CLAIMS = ("HOUR_S", "DAY_S", "MBIT", "ALWAYS")
SOURCES = ("assumed", "data sheet", "specification", "documents")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: str(path.stem))
def test_constants_say_where_they_are_from(path: Path) -> None:
    body = ast.parse(path.read_text()).body

    for statement, after in zip(body, [*body[1:], None], strict=True):
        name = _number_named(statement)
        if name is None or name in NO_CLAIMS:
            continue
        said = ast.unparse(after) if isinstance(after, ast.Expr) else ""
        assert any(source in said.lower() for source in SOURCES), f"{path.name}: {name}"


def test_fleets_use_no_number_without_a_name() -> None:
    tree = ast.parse((FOLDER / "registry.py").read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]

    used = {
        node.value
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Constant) and isinstance(node.value, float)
    }

    assert used <= {0.0}


def test_volunteers_live_as_far_apart_as_is_said() -> None:
    hours = dict(VOLUNTEERS_START)

    assert "six hours west" in str(volunteers.__doc__)
    assert hours["eu-west"] - hours["us-east"] == 6


def _number_named(statement: ast.stmt) -> str | None:
    """The name of a public constant that is made of numbers."""
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return None
    target: ast.expr = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
    value = statement.value
    if not isinstance(target, ast.Name) or not target.id[0].isalpha() or not target.id.isupper() or value is None:
        return None
    has_numbers = any(isinstance(node, ast.Constant) and type(node.value) in (int, float) for node in ast.walk(value))
    return target.id if has_numbers else None
