"""What the owner of a device allows: a TOML file, checked when it is read.

    cpu_share = 0.5                     of one core, while a round is computed
    memory_mb = 256                     resident memory of the daemon, at most
    mains_only = true                   not on battery
    allow_metered = false               over links that cost by the byte
    metered_interfaces = ["wwan*"]      which links those are, by the name of the interface
    quiet_hours = ["22:00-07:00"]       local time in which the device rests
    temperature_c_max = 75.0            of the hottest sensor

What is not in the file has the value below. A device rests while a rule forbids work: it closes its stream, and a
round under way is given up.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..protocol.errors import UsageError
from .sensors import Reading

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_METERED = ("wwan*", "wwp*", "rmnet*", "ccmni*", "ppp*")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Validated when made; raises UsageError."""

    cpu_share: float = 1.0
    memory_mb: float = 512.0
    mains_only: bool = True
    allow_metered: bool = False
    metered_interfaces: tuple[str, ...] = _METERED
    quiet_hours: tuple[str, ...] = ()
    temperature_c_max: float = 80.0

    def __post_init__(self) -> None:
        if not 0.01 <= self.cpu_share <= 1:
            raise UsageError(f"cpu_share is {self.cpu_share}: use 0.01 to 1")
        if not 64 <= self.memory_mb <= 1 << 20:
            raise UsageError(f"memory_mb is {self.memory_mb}: the daemon itself takes 60, use at least 64")
        if not 0 < self.temperature_c_max <= 150:
            raise UsageError(f"temperature_c_max is {self.temperature_c_max}: use degrees Celsius up to 150")
        for text in self.quiet_hours:
            if _HOURS.fullmatch(text) is None:
                raise UsageError(f"quiet_hours {text!r}: write HH:MM-HH:MM, for example 22:00-07:00")

    def forbids(self, reading: Reading) -> str | None:
        """Why the device has to rest; None: it may work. What a sensor does not know forbids nothing."""
        if self.mains_only and reading.on_mains is False:
            return "on battery"
        if not self.allow_metered and reading.interface is not None and self._is_metered(reading.interface):
            return f"metered link {reading.interface}"
        if any(_is_within(reading.minute_of_day, text) for text in self.quiet_hours):
            return "quiet hours"
        if reading.temperature_c is not None and reading.temperature_c > self.temperature_c_max:
            return f"{reading.temperature_c:.0f} degrees, at most {self.temperature_c_max:.0f} are allowed"
        if reading.rss_bytes > self.memory_mb * 2**20:
            return f"{reading.rss_bytes >> 20} MB of memory, at most {self.memory_mb:.0f} are allowed"
        return None

    def _is_metered(self, interface: str) -> bool:
        return any(fnmatch.fnmatchcase(interface, pattern) for pattern in self.metered_interfaces)


def load_rules(path: Path) -> Rules:
    """The rules of a file; the defaults if there is none. Raises UsageError."""
    if not path.exists():
        return Rules()
    import tomllib  # memory that a device without a file need not spend

    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"the rules {path} cannot be read: {error}") from None
    return rules_of(table, where=str(path))


def rules_of(table: dict[str, Any], *, where: str) -> Rules:
    """Raises UsageError for unknown keys and values of the wrong type."""
    defaults = {field.name: field.default for field in fields(Rules)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in defaults:
            import difflib

            near = difflib.get_close_matches(name, defaults, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError(f"{where}: unknown rule {name!r}: {hint}Known: {', '.join(defaults)}")
        values[name] = _typed(name, value, defaults[name], where)
    return Rules(**values)


def _typed(name: str, value: Any, default: Any, where: str) -> Any:
    if isinstance(default, tuple) and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if isinstance(default, float) and type(value) in (int, float):
        return float(value)
    if isinstance(default, bool) and type(value) is bool:
        return value
    kind = {tuple: "a list of texts", float: "a number", bool: "true or false"}[type(default)]
    raise UsageError(f"{where}: {name} must be {kind}, not {value!r}")


def _is_within(minute: int, text: str) -> bool:
    match = _HOURS.fullmatch(text)
    assert match is not None
    hours = [int(part) for part in match.groups()]
    start, end = 60 * hours[0] + hours[1], 60 * hours[2] + hours[3]
    return start <= minute < end if start <= end else minute >= start or minute < end
