from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gossamer.peer.events import EventLog, Started, Warned
from gossamer.peer.report import write_report
from gossamer.protocol.errors import StateError

from .synthetic import SAMPLE_AFTER, Story, write_run

_FIGURES = [
    *("loss-by-step", "loss-by-time", "loss-by-bytes", "heat-map", "timeline"),
    *("throughput", "utilisation", "link-use", "round-times", "bytes-by-purpose"),
]
_HOSTILE = (
    '</script></pre><script>alert(1)</script><img src=x onerror=alert(2)><a href="javascript:alert(3)">\'"&{{7*7}}'
)


@dataclass
class Page(HTMLParser):
    """What a browser would make of a report."""

    path: Path
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._inside = ""
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        name = self.tags[-1][1].get("data-figure") if self.tags else None
        if self._inside == "script" and name:
            self.figures[name] = json.loads(data)
        elif self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text += data

    def attributes(self, name: str) -> list[str | None]:
        return [attrs[name] for _, attrs in self.tags if name in attrs]


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, Story())
    return Page(write_report(folder))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("hostile")
    write_run(folder, Story(hostile_text=_HOSTILE))
    return Page(write_report(folder))


def test_the_report_shows_the_figures_and_says_how_the_run_went(page: Page) -> None:
    words = " ".join(page.text.split())

    assert page.path.name == "report.html"
    assert sorted(page.figures) == sorted(_FIGURES)
    assert [name for name in page.attributes("id") if name in _FIGURES] == _FIGURES
    assert "4 peers trained 1.03 M parameters for 200 steps" in words
    assert "Held-out loss went from 4.672 to 2.336." in words
    assert "99 times less than dense all-reduce" in words
    assert "1 daemon was killed on the way." in words
    assert "gossamer up --peers 4 --steps 200 --out 'a folder'" in words
    assert SAMPLE_AFTER in page.text
    assert "torch and libraries 168 MB" in words


def test_the_report_loads_nothing_and_runs_only_its_own_scripts(page: Page) -> None:
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")

    assert len(page.scripts) == 2
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    for script in page.scripts:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert page.attributes("src") + page.attributes("href") == []
    assert not re.search(r"@import|url\(", page.path.read_text().split("</style>")[0])


def test_texts_from_other_peers_become_no_markup(page: Page, hostile: Page) -> None:
    assert [tag for tag, _ in hostile.tags if tag != "tr" and tag != "td"] == [
        tag for tag, _ in page.tags if tag != "tr" and tag != "td"
    ]
    assert [script for script in hostile.scripts if script not in page.scripts] == []
    assert not [name for _, attrs in hostile.tags for name in attrs if name.startswith("on")]
    assert _HOSTILE in hostile.text


def test_texts_from_other_peers_become_no_markup_inside_figures(hostile: Page) -> None:
    texts = [text for figure in hostile.figures.values() for text in strings(figure)]

    assert any("&lt;script&gt;alert(1)" in text for text in texts)
    assert [text for text in texts if re.search(r"<(?!extra>|/extra>|br>)", text)] == []


def test_devices_and_what_each_kind_brought_are_told(tmp_path: Path) -> None:
    write_run(tmp_path, Story(n_steps=4, killed=None))
    summary = json.loads((tmp_path / "summary.json").read_text())
    summary |= {
        "n_devices": 6,
        "n_gateways": 1,
        "eval_accuracy": 0.953,
        "uplink_bytes_per_device_per_round": 534.0,
        "downlink_bytes_per_device_per_round": 4245.0,
        "model_hashes": ["d1e52020fc27"],
        "n_model_hashes_from": 7,
        "shares": {"devices": 0.7, "peers": 0.3},
        "uplink_bytes_per_device": 6000.0,
        "downlink_bytes_per_device": 243_000.0,
        "energy_j_per_device": {"compute_j": 1.5, "bytes_j": 2.5, "wakeups_j": 746.0, "total_j": 750.0},
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))

    page = Page(write_report(tmp_path))

    for text in ("6 devices that only do forward passes", "95.3%", "534 B up, 4.25 kB down", "the same on all 7"):
        assert text in page.text
    for text in ("6.00 kB up, 243 kB down", "750.0 J a device", "waking the radio 746.0 J"):  # simulated
        assert text in page.text
    assert [bar["x"] for bar in page.figures["shares"]["data"]] == [[0.7], [0.3]]


def test_a_single_daemons_folder_has_a_report_too(tmp_path: Path) -> None:
    write_run(tmp_path, Story(n_steps=40, killed=None))

    page = Page(write_report(tmp_path / "peers" / "1"))

    assert sorted(page.figures) == sorted(_FIGURES)
    assert "4 peers trained" in " ".join(page.text.split())


def test_a_daemon_that_only_started_has_a_report_too(tmp_path: Path) -> None:
    event = Started(run_id="r", task="digits", method="demo", n_params=0, incarnation=0, address="")
    with EventLog(tmp_path / "events.jsonl", peer="p", clock=lambda: 0.0, unix=lambda: 0.0) as log:
        log.emit(event)
        log.emit(Warned(message="\ud800 nobody is here"))

    page = Page(write_report(tmp_path))

    assert sorted(page.figures) == ["loss-by-step", "timeline"]
    assert "? nobody is here" in page.text


def test_very_long_runs_stay_small_enough_for_a_browser(tmp_path: Path) -> None:
    write_run(tmp_path, Story(n_steps=4_000, n_peers=2, killed=None))

    page = Page(write_report(tmp_path))

    assert len(page.figures["heat-map"]["data"][0]["x"]) <= 1_200
    assert len(json.dumps(page.figures)) < 2_000_000
    assert {value for row in page.figures["heat-map"]["data"][0]["z"] for value in row} == {0, 2, 4}


def test_a_report_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    write_run(tmp_path, Story(n_steps=2, killed=None))
    (tmp_path / "report.html").mkdir()

    with pytest.raises(StateError, match=r"cannot write .*report.html"):
        write_report(tmp_path)

    assert not (tmp_path / ".report.html").exists()
