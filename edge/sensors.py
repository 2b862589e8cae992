"""What Linux says of the device: power, link, temperature, memory. Android's Termux has the same files, or none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PAGE_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One look. None: the device does not say."""

    on_mains: bool | None = None
    interface: str | None = None
    """Of the default route."""
    temperature_c: float | None = None
    """Of the hottest sensor."""
    rss_bytes: int = 0
    minute_of_day: int = 0
    """Local time."""


Sensors = Callable[[], Reading]


class LinuxSensors:
    """Reads /sys and /proc.

    Args:
        minute_of_day: local time, from the entry point.
        root: where /sys and /proc are.
    """

    def __init__(self, minute_of_day: Callable[[], int], *, root: Path = Path("/")) -> None:
        self._minute_of_day = minute_of_day
        self._root = root

    def __call__(self) -> Reading:
        return Reading(
            on_mains=self._on_mains(),
            interface=self._interface(),
            temperature_c=self._temperature_c(),
            rss_bytes=self._rss_bytes(),
            minute_of_day=self._minute_of_day(),
        )

    def _on_mains(self) -> bool | None:
        """A battery that is discharging says no, whatever is plugged in; a machine without one says nothing."""
        statuses, online = [], []
        for supply in _entries(self._root / "sys/class/power_supply"):
            kind = _text(supply / "type")
            if kind == "Battery" and _text(supply / "scope") != "Device":  # a mouse has a battery, too
                statuses.append(_text(supply / "status"))
            elif kind in ("Mains", "USB", "Wireless", "USB_PD", "USB_C"):
                online.append(_text(supply / "online") == "1")
        if not statuses:
            return any(online) if online else None
        return "Discharging" not in statuses and (any(online) or not online)

    def _interface(self) -> str | None:
        """The one with the least metric among those with a default route."""
        routes = []
        for line in (_text(self._root / "proc/net/route") or "").splitlines()[1:]:
            columns = line.split()
            if len(columns) >= 8 and columns[1] == columns[7] == "00000000" and columns[6].isdigit():
                routes.append((int(columns[6]), columns[0]))
        return min(routes)[1] if routes else None

    def _temperature_c(self) -> float | None:
        texts = [_text(zone / "temp") for zone in _entries(self._root / "sys/class/thermal", "thermal_zone*")]
        degrees = [int(text) / 1000 for text in texts if text is not None and text.lstrip("-").isdigit()]
        sound = [value for value in degrees if -50 < value < 200]  # sensors that are off say -273, or 0x7fffffff
        return max(sound) if sound else None

    def _rss_bytes(self) -> int:
        columns = (_text(self._root / "proc/self/statm") or "").split()
        return int(columns[1]) * _PAGE_BYTES if len(columns) > 1 else 0


def peak_rss_bytes(root: Path = Path("/")) -> int:
    """The most that this process has had resident so far; 0 if the system does not say."""
    for line in (_text(root / "proc/self/status") or "").splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    return 0


def _entries(folder: Path, pattern: str = "*") -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None
