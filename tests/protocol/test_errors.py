import inspect
import re

import pytest

from gossamer.protocol import errors
from gossamer.protocol.errors import GossamerError, UsageError, error_from_wire, unknown_name

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, GossamerError)]


def test_the_drawing_shows_every_class_under_its_parent() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ([│ ]*)(?:[├└]── )?([A-Z]\w+)\b", line)
        if match and ("──" in line or match[2] == "GossamerError"):
            depth = (line.index(match[2]) - 4) // 4
            path[depth:] = [match[2]]
            drawn[match[2]] = path[depth - 1] if depth else "Exception"

    assert drawn == {cls.__name__: cls.__bases__[0].__name__ for cls in CLASSES}


def test_codes_are_distinct() -> None:
    codes = [cls.code for cls in CLASSES]

    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_crosses_the_wire_as_the_same_class(cls: type[GossamerError]) -> None:
    error = error_from_wire(cls.code, "what happened")

    assert type(error) is cls
    assert str(error) == "what happened"


def test_an_unknown_code_is_a_remote_failure() -> None:
    assert type(error_from_wire("from-the-future", "x")) is errors.RemoteFailure


@pytest.mark.parametrize("cls", CLASSES)
def test_only_bad_usage_exits_with_2(cls: type[GossamerError]) -> None:
    assert cls.exit_code == (2 if issubclass(cls, UsageError) else 1)


def test_an_unknown_name_suggests_the_nearest() -> None:
    error = unknown_name("task", "chras", ["digits", "chars"])

    assert str(error) == "unknown task 'chras': did you mean 'chars'? Known: chars, digits"


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    assert str(unknown_name("task", "zzz", ["chars"])) == "unknown task 'zzz': Known: chars"
