"""`gossamer demo`: what `make demo` shows."""

from __future__ import annotations

from pathlib import Path

from .up import Order, up

FOLDER = Path("runs")
STEPS = 150


def demo(*, json_output: bool) -> None:
    """Four daemons, a character model on English text, one daemon killed and let in again."""
    number = 1 + sum(1 for _ in FOLDER.glob("demo-*"))
    order = Order(
        peers=4,
        task="chars",
        method="demo",
        steps=STEPS,
        kills=(f"2@{STEPS // 3}:restart",),
        options=("limits.eval_every_steps=25", "limits.checkpoint_every_steps=25"),
    )
    up(order, out=FOLDER / f"demo-{number}", resume=None, json_output=json_output)
