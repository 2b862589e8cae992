"""Turning pydantic's report on a manifest into one line that names the key and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from .errors import GossamerError, InvalidManifest, unknown_name

if TYPE_CHECKING:  # devices, which have no pydantic, must be able to import every file here but manifest.py
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

_RANK = {"extra_forbidden": 0, "missing": 2}


def manifest_error(error: ValidationError, model: type[BaseModel]) -> GossamerError:
    """The first of pydantic's complaints, as InvalidManifest or UnknownName.

    Unknown keys come first, because a misspelt key is also a missing one.
    """
    details = sorted(error.errors(), key=lambda detail: _RANK.get(detail["type"], 1))[0]
    keys = [str(key) for key in details["loc"]]
    path = ".".join(keys)
    if details["type"] == "extra_forbidden":
        return _unknown_key(keys, model)
    if details["type"] == "missing":
        kind = "a table" if len(keys) == 1 else "a key"
        return InvalidManifest(f"the manifest lacks {path}: add {kind} of this name")
    if details["type"] == "literal_error":
        return unknown_name(path, str(details["input"]), _choices(keys, model))
    where = f"the manifest's {path} = {_shown(details['input'])}" if path else "the manifest"
    return InvalidManifest(f"{where} is not valid: {_reason(details)}")


def _unknown_key(keys: list[str], model: type[BaseModel]) -> GossamerError:
    kind = f"key of the manifest's [{'.'.join(keys[:-1])}]" if len(keys) > 1 else "table of the manifest"
    return unknown_name(kind, keys[-1][:80], _table(keys[:-1], model).model_fields)


def _table(keys: list[str], model: type[BaseModel]) -> type[BaseModel]:
    for key in keys:
        annotation: Any = model.model_fields[key].annotation
        model = annotation
    return model


def _choices(keys: list[str], model: type[BaseModel]) -> list[str]:
    field = _table(keys[:-1], model).model_fields[keys[-1]]
    return [str(choice) for choice in get_args(field.annotation)]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _reason(details: ErrorDetails) -> str:
    message = details["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message.replace("\n", " ")
