"""`gossamer edge status`: what the daemon of this device last wrote down."""

from __future__ import annotations

import json
import time
from pathlib import Path

from ...protocol.errors import UsageError
from ..folder import DeviceFolder
from ..rules import load_rules
from ..sensors import LinuxSensors


def status(folder: Path, *, json_output: bool) -> None:
    """Raises UsageError if there is nothing to tell."""
    home = DeviceFolder(folder)
    found = home.status()
    if found is None:
        home.gateway()
        raise UsageError(f"the daemon of {folder} has not run yet: gossamer edge run --folder {folder}")
    now = time.localtime()
    found["forbidden_now"] = load_rules(home.rules).forbids(LinuxSensors(lambda: 60 * now.tm_hour + now.tm_min)())
    found["age_s"] = round(time.time() - float(found["unix_s"]), 1)
    if json_output:
        print(json.dumps(found))
        return
    why = f" ({found['why']})" if found["why"] else ""
    print(f"  {'device':<12}{found['device']}")
    print(f"  {'state':<12}{found['state']}{why}, {found['age_s']:.0f} s ago")
    print(
        f"  {'rounds':<12}{found['rounds_counted']} counted, {found['rounds_late']} late, "
        f"{found['rounds_abandoned']} given up, {found['outbox']} on their way"
    )
    print(f"  {'model':<12}step {found['step']}, weights {found['weights'][:12]}")
    sent, received = sum(found["sent_bytes"].values()), sum(found["received_bytes"].values())
    print(f"  {'traffic':<12}{sent / 1e3:,.1f} kB sent, {received / 1e3:,.1f} kB received")
    print(f"  {'memory':<12}{found['peak_rss_bytes'] / 2**20:.0f} MB at most")
    if found["forbidden_now"]:
        print(f"  {'rules':<12}rest now: {found['forbidden_now']}")
