"""Fleets of one's own, from a file.

CSV, one line for each session of a machine; the columns besides `machine` may be left out:

    machine,start_s,end_s,up_mbit_s,down_mbit_s,tflop_s,memory_gb_s,memory_gb,region,nat,relay

JSON: a list of objects with the same keys. Lines of one machine that differ in anything but the session are refused.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ...protocol.errors import UsageError, unknown_name
from ..nat import Nat
from . import regions
from .fleet import MBIT, Fleet, Machine, Session

_BYTES_MAX = 64 << 20
_NUMBERS: Final = {
    "start_s": 0.0,
    "end_s": math.inf,
    "up_mbit_s": 40.0,
    "down_mbit_s": 250.0,
    "tflop_s": 1.0,
    "memory_gb_s": 100.0,
    "memory_gb": 16.0,
}
"""With their defaults, which are *assumed*."""
_ANSWERS: Final = {"": False, "0": False, "false": False, "1": True, "true": True}
COLUMNS: Final = ("machine", *_NUMBERS, "region", "nat", "relay")


def read_trace(path: Path) -> Fleet:
    """The fleet of a .csv or .json file. Raises UsageError, UnknownName."""
    try:
        if path.stat().st_size > _BYTES_MAX:
            raise UsageError(f"{path} is longer than {_BYTES_MAX >> 20} MiB: cut it down")
        text = path.read_bytes().decode()
        rows = json.loads(text) if path.suffix == ".json" else list(csv.DictReader(text.splitlines()))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read the trace {path}: {error}") from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path} holds no machines: a header and lines, or a JSON list of objects")
    machines: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows, 1):
        name, facts, session = _parsed(row, f"{path}, entry {number}")
        known = machines.setdefault(name, {"facts": facts, "sessions": []})
        if known["facts"] != facts:
            raise UsageError(f"{path}, entry {number}: machine {name!r} is another than before: give it another name")
        known["sessions"].append(session)
    return Fleet(
        machines=tuple(_machine(name, path, **machine) for name, machine in machines.items()),
        round_trip_s=regions.round_trips_s(),
        bytes_per_s=regions.speeds(),
    )


def _parsed(row: Mapping[str, object], where: str) -> tuple[str, dict[str, Any], Session]:
    for key in row:
        if key not in COLUMNS:
            raise unknown_name(f"column of {where}", str(key)[:60], COLUMNS)
    numbers = {key: _number(row.get(key), key, default, where) for key, default in _NUMBERS.items()}
    start_s, end_s = numbers.pop("start_s"), numbers.pop("end_s")
    nat = str(row.get("nat") or Nat.OPEN.value)
    if nat not in [one.value for one in Nat]:
        raise unknown_name(f"nat of {where}", nat[:60], [one.value for one in Nat])
    is_relay = _is_relay(row.get("relay"), Nat(nat), where)
    try:
        session = Session(start_s=start_s, end_s=end_s)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
    facts = {**numbers, "region": str(row.get("region") or ""), "nat": Nat(nat), "is_relay": is_relay}
    return str(row.get("machine", "")), facts, session


def _is_relay(value: object, nat: Nat, where: str) -> bool:
    text = "" if value is None else str(value).strip().lower()
    if text not in _ANSWERS:
        raise UsageError(f"{where}: relay = {text[:40]!r}: write true or false")
    if _ANSWERS[text] and nat is not Nat.OPEN:
        raise UsageError(f"{where}: a relay must be one that can be dialled: set nat to open, not {nat.value}")
    return _ANSWERS[text]


def _number(value: object, key: str, default: float, where: str) -> float:
    if value is None or value == "":
        return default
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UsageError(f"{where}: {key} = {str(value)[:40]!r} is no number") from None
    if math.isnan(number) or number < 0 or (number == 0 and key not in ("start_s", "end_s")):
        raise UsageError(f"{where}: {key} = {number} must be above 0")
    return number


def _machine(name: str, path: Path, *, facts: Mapping[str, Any], sessions: list[Session]) -> Machine:
    try:
        return Machine(
            flops_per_s=1e12 * facts["tflop_s"],
            memory_bytes_per_s=1e9 * facts["memory_gb_s"],
            memory_bytes=1e9 * facts["memory_gb"],
            up_bytes_per_s=MBIT * facts["up_mbit_s"],
            down_bytes_per_s=MBIT * facts["down_mbit_s"],
            region=facts["region"],
            nat=facts["nat"],
            is_relay=facts["is_relay"],
            sessions=tuple(sorted(sessions, key=lambda session: session.start_s)),
        )
    except ValueError as error:
        raise UsageError(f"{path}, machine {name!r}: {error}") from None
