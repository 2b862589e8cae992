"""One process at a time in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer.edge.commands.app import main as edge
from gossamer.protocol.errors import FolderInUse, StateError
from gossamer.protocol.lock import held


def test_the_second_is_told_who_the_first_is(tmp_path: Path) -> None:
    mine = f"in use by process {os.getpid()}: stop it first"
    with held(tmp_path), pytest.raises(FolderInUse, match=mine), held(tmp_path):
        pass
    with held(tmp_path):
        pass


def test_who_was_killed_holds_nothing(tmp_path: Path) -> None:
    script = f"""
import os, pathlib, signal
from gossamer.protocol.lock import held
with held(pathlib.Path({str(tmp_path)!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], timeout=50, check=False)

    assert (tmp_path / "lock").read_text().strip().isdecimal()
    with held(tmp_path):
        pass


def test_a_folder_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot write"), held(tmp_path / "missing"):
        pass


@pytest.mark.parametrize("command", ["rotate", "uninstall", "run"])
def test_devices_commands_do_not_come_in_between(tmp_path: Path, command: str) -> None:
    (tmp_path / "identity.key").write_text("there is one")
    extra = {"uninstall": ["--root", str(tmp_path / "root")], "run": ["--data", str(tmp_path)]}

    unit = tmp_path / "root" / "etc" / "systemd" / "system" / "gossamer-edge.service"
    unit.parent.mkdir(parents=True)
    unit.touch()

    with held(tmp_path), pytest.raises(FolderInUse):
        edge([command, "--folder", str(tmp_path), *extra.get(command, [])])

    assert (tmp_path / "identity.key").exists()
    assert unit.exists()
