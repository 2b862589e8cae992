"""`gossamer edge` as it is typed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from gossamer.edge.commands.app import main
from gossamer.edge.folder import DeviceFolder
from gossamer.edge.network import Gateway
from gossamer.protocol.errors import UsageError
from gossamer.protocol.identity import Identity
from gossamer.protocol.transport.certificates import create_certificate


def enrolled(path: Path) -> DeviceFolder:
    folder = DeviceFolder(path)
    folder.identity()
    folder.keep_gateway(
        Gateway(
            peer=Identity(b"gateway".ljust(32)).peer_id,
            run_id="0" * 32,
            host="gateway.example",
            port=7700,
            certificate=create_certificate().der,
        )
    )
    return folder


@pytest.mark.parametrize("command", ["run", "status", "install", "rotate"])
def test_device_that_was_never_enrolled_is_told_how(tmp_path: Path, command: str) -> None:
    with pytest.raises(UsageError, match=r"gossamer edge enroll|put inputs\.npy"):
        main([command, "--folder", str(tmp_path / "device")])


def test_damaged_token_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="token"):
        main(["enroll", "--folder", str(tmp_path), "--gateway", "127.0.0.1:1", "--token", "gossamer-edge1:xyz"])


def test_what_is_kept_is_the_owners_alone(tmp_path: Path) -> None:
    folder = enrolled(tmp_path / "device")

    for path in [folder.path, *folder.path.iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path
    assert DeviceFolder(folder.path).gateway() == folder.gateway()


def test_unit_is_hardened_and_removing_it_leaves_nothing(tmp_path: Path) -> None:
    folder = enrolled(tmp_path / "device")
    unit = tmp_path / "root" / "etc" / "systemd" / "system" / "gossamer-edge.service"

    main(["install", "--folder", str(folder.path), "--root", str(tmp_path / "root")])
    text = unit.read_text()
    main(["uninstall", "--folder", str(folder.path), "--root", str(tmp_path / "root")])

    assert f"edge run --folder {folder.path}" in text
    assert f"ReadWritePaths={folder.path}\n" in text
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=\n", "MemoryMax=576M", "User="):
        assert line in text
    assert not folder.path.exists()
    assert [path for path in (tmp_path / "root").rglob("*") if path.is_file()] == []


def test_what_is_not_the_devices_is_not_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(tmp_path / "root")]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("of mine")
    with pytest.raises(UsageError, match="is no device's folder"):
        main(["uninstall", "--folder", str(tmp_path / "mine"), *root])

    folder = enrolled(tmp_path / "device")
    (folder.path / "notes.txt").write_text("of mine")
    main(["uninstall", "--folder", str(folder.path), *root])

    assert (tmp_path / "mine" / "precious").exists()
    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]
    assert "but for what is not ours: notes.txt" in capsys.readouterr().err


def test_unit_of_a_user_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    monkeypatch.setenv("PATH", "")  # without systemctl: this user's own units are left alone
    (tmp_path / "home" / "config").mkdir(parents=True)
    folder = enrolled(tmp_path / "home" / "device")
    unit = tmp_path / "home" / "config" / "systemd" / "user" / "gossamer-edge.service"

    main(["install", "--user", "--folder", str(folder.path)])
    (unit.parent / "default.target.wants").mkdir()  # as `systemctl enable` does
    (unit.parent / "default.target.wants" / unit.name).symlink_to(unit)
    text = unit.read_text()
    main(["uninstall", "--user", "--folder", str(folder.path)])

    assert "WantedBy=default.target" in text
    assert "User=" not in text
    assert list((tmp_path / "home").rglob("*")) == [tmp_path / "home" / "config"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit_as_it_stands(tmp_path: Path) -> None:
    folder = enrolled(tmp_path / "device")
    unit = tmp_path / "root" / "etc" / "systemd" / "system" / "gossamer-edge.service"
    main(["install", "--folder", str(folder.path), "--root", str(tmp_path / "root")])

    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=50)

    assert done.returncode == 0, done.stderr
    assert unit.name not in done.stderr


def test_bench_says_how_fast_this_machine_is(capsys: pytest.CaptureFixture[str]) -> None:
    main(["bench", "--network", "16-8-4", "--batch", "4", "--seconds", "0.01", "--json"])

    told = json.loads(capsys.readouterr().out)
    assert told["parameters"] == 16 * 8 + 8 + 8 * 4 + 4
    assert all(row["forwards_per_s"] > 0 for row in told["engines"])


@pytest.mark.parametrize("arguments", [["--network", "16-x"], ["--batch", "0"], ["--seconds", "0"]])
def test_bench_refuses_what_cannot_be(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        main(["bench", *arguments])
