"""The import rules of the rooms, as contracts in pyproject.toml and as one rule that no contract can express."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
ENTRY_POINTS = ("gossamer.cli", "gossamer.peer.commands", "gossamer.peer.network", "gossamer.simulator.transport")
"""Calibration is one of them: it measures the real network."""


def test_every_import_contract_is_kept() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]

    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert " 0 broken" in outcome.stdout


def test_only_entry_points_choose_the_real_network() -> None:
    graph = grimp.build_graph("gossamer", cache_dir=None)
    network = {"gossamer.peer.network"} | graph.find_descendants("gossamer.peer.network")

    importers = {importer for module in network for importer in graph.find_modules_that_directly_import(module)}

    assert sorted(importer for importer in importers if not importer.startswith(ENTRY_POINTS)) == []
