"""Wall time to a given loss on slow links: real daemons in network namespaces, every link shaped in both directions.

    sudo python -m benchmarks.bench_links [--mbit 10 100] [--target 2.3] [--steps 400]

Each method trains `chars` (a small one) with four daemons until its held-out loss is at the target. The clock starts
with the first local step and includes everything: training, rounds, evaluation. Prints a table; writes OUT.json and a
plot OUT.html. Where the machine forbids namespaces it says so and does nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.shaped_links import ShapedHost, shaped_hosts, why_not
from gossamer.peer.commands.swarm import Place
from gossamer.peer.commands.up import Order, up
from gossamer.peer.event_kinds import Evaluated, Trained
from gossamer.peer.events import read_events

N_PEERS = 4
TASK = ("task.d_model=64", "task.n_layers=3", "task.context=64", "limits.eval_every_steps=20")
ARMS: dict[str, tuple[str, float, tuple[str, ...]]] = {
    "allreduce (AdamW)": ("allreduce", 9e-3, ()),
    "demo": ("demo", 3e-3, ()),
    "diloco, H 20": ("diloco", 9e-3, ("method.h=20",)),
}
"""Method, learning rate (the best of bench_methods), options."""


def train(arm: str, hosts: Sequence[ShapedHost], steps: int) -> dict[str, Any]:
    """(seconds, step, loss) of every evaluation, and what was sent."""
    method, lr, options = ARMS[arm]
    settings = (*TASK, *options, "schedule.kind=cosine", f"schedule.warmup_steps={steps // 10}")
    order = Order(task="chars", method=method, steps=steps, lr=lr, options=settings, peers=len(hosts))
    places = [Place(prefix=tuple(host.prefix), listen=host.address) for host in hosts]
    with TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        summary = up(order, out=Path(folder) / "run", resume=None, json_output=True, places=places)
        entries = [
            entry
            for number in range(len(hosts))
            for entry in read_events(Path(folder) / "run" / "peers" / str(number) / "events.jsonl")
        ]
    # The first Trained event ends the first local steps.
    begun_s = min(e.unix_s - e.event.seconds for e in entries if isinstance(e.event, Trained))
    curve = sorted(
        (e.unix_s - begun_s, e.event.step, e.event.loss)
        for e in entries
        if isinstance(e.event, Evaluated) and e.event.loss is not None
    )
    return {
        "curve": curve,
        "sent_bytes_per_peer_per_step": summary["bytes_sent_per_peer_per_step"],
        "round_s_p50": summary["round_s_p50"],
        "rounds": summary["rounds_ok"],
    }


def seconds_to(curve: Sequence[tuple[float, int, float]], target: float) -> float | None:
    return next((seconds for seconds, _, loss in curve if loss <= target), None)


def show(console: Console, results: dict[str, dict[str, Any]], target: float) -> None:
    table = Table(title=f"chars, {N_PEERS} daemons: wall time to a held-out loss of {target}")
    for head in ("link", "method", "seconds", "last loss", "kB/peer/step", "round p50"):
        table.add_column(head, justify="left" if head in ("link", "method") else "right")
    for key, result in results.items():
        link, arm = key.split("|")
        seconds = seconds_to(result["curve"], target)
        told = f"{seconds:.0f}" if seconds is not None else "not reached"
        sent = f"{result['sent_bytes_per_peer_per_step'] / 1e3:.1f}"
        table.add_row(link, arm, told, f"{result['curve'][-1][2]:.3f}", sent, f"{result['round_s_p50']:.2f} s")
    console.print(table)


def plot(results: dict[str, dict[str, Any]], target: float, path: Path) -> None:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    links = list(dict.fromkeys(key.split("|")[0] for key in results))
    arms = list(dict.fromkeys(key.split("|")[1] for key in results))
    colours = dict(zip(arms, ("#1f77b4", "#d62728", "#2ca02c"), strict=True))
    figure = make_subplots(rows=1, cols=len(links), subplot_titles=links, shared_yaxes=True)
    for key, result in results.items():
        link, arm = key.split("|")
        seconds, losses = [point[0] for point in result["curve"]], [point[2] for point in result["curve"]]
        column = links.index(link) + 1
        line = go.Scatter(x=seconds, y=losses, name=arm, line={"color": colours[arm]}, showlegend=column == 1)
        figure.add_trace(line, row=1, col=column)
    figure.add_hline(y=target, line_dash="dot")
    figure.update_xaxes(title="seconds")
    figure.update_yaxes(title="held-out loss", col=1)
    figure.write_html(path, include_plotlyjs=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mbit", type=float, nargs="+", default=[10, 100])
    parser.add_argument("--target", type=float, default=2.3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("runs/links"))
    chosen = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(f"skipped: {reason}")
        return
    console, results = Console(), dict[str, dict[str, Any]]()
    for mbit in chosen.mbit:
        for arm in ARMS:
            with shaped_hosts(N_PEERS, bits_per_s=mbit * 1e6) as hosts:
                results[f"{mbit:g} Mbit/s|{arm}"] = train(arm, hosts, chosen.steps)
    show(console, results, chosen.target)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.with_suffix(".json").write_text(json.dumps(results, indent=1))
    plot(results, chosen.target, chosen.out.with_suffix(".html"))
    console.print(f"{chosen.out}.json and .html")


if __name__ == "__main__":
    main()
