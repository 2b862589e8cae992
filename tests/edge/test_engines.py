"""Which engine a device uses, and what happens when it is no longer there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from gossamer.algorithms.forward import mlp
from gossamer.edge.commands.app import main
from gossamer.edge.engines import Choice, Engines, usable
from gossamer.edge.folder import DeviceFolder
from gossamer.protocol.errors import StateError, UsageError


def test_numpy_is_used_when_nothing_was_measured(tmp_path: Path) -> None:
    choice = DeviceFolder(tmp_path).choice()

    assert (choice.floats, choice.integers, choice.needs_onnx) == ("numpy", "numpy", False)
    assert Engines(choice).engine(mlp(4, 3, 2)).name.startswith("numpy")
    assert Engines(choice).kernel().name == "numpy int64"


@pytest.mark.parametrize(("floats", "name"), [("onnx-inputs", "onnxruntime"), ("onnx-constants", "rebuilt")])
def test_chosen_engine_is_built(floats: str, name: str) -> None:
    pytest.importorskip("onnxruntime")

    engines = Engines(Choice(floats=floats, integers="onnx"))

    assert name in engines.engine(mlp(4, 3, 2)).name
    assert engines.kernel().name == "onnxruntime MatMulInteger"


def test_bench_keeps_the_quickest_for_the_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = DeviceFolder(tmp_path)
    folder.keep_network(json.dumps(mlp(16, 8, 4).to_dict()))

    main(["bench", "--folder", str(tmp_path), "--seconds", "0.01", "--batch", "4", "--json", "--keep"])

    told = json.loads(capsys.readouterr().out)
    assert told["network"] == "this device's run"
    assert told["parameters"] == mlp(16, 8, 4).n_parameters
    kept = folder.choice()
    assert {"floats": kept.floats, "integers": kept.integers} == told["quickest"]
    best = max(row["forwards_per_s"] for row in told["engines"])
    assert any(row["choice"] == kept.floats and row["forwards_per_s"] >= 0.95 * best for row in told["engines"])


def test_without_onnxruntime_the_daemon_goes_back_to_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed

    assert usable(Choice(floats="onnx-inputs", integers="onnx")) == Choice()
    assert usable(Choice(budget_bytes=0)) == Choice(budget_bytes=0)


def test_engine_that_the_owner_names_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    np.savez(tmp_path / "data.npz", inputs=np.zeros((2, 4), np.float32), labels=np.zeros(2, np.int64))

    with pytest.raises(UsageError, match="needs onnxruntime"):
        main(["run", "--folder", str(tmp_path), "--engine", "onnx-inputs"])


def test_damaged_choice_says_how_to_mend_it(tmp_path: Path) -> None:
    (tmp_path / "engine.json").write_text('{"floats": "abacus", "budget_bytes": 1, "integers": "numpy"}')

    with pytest.raises(StateError, match="bench --keep"):
        DeviceFolder(tmp_path).choice()
