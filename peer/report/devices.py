"""What the report says of devices that only do forward passes: what each cost, and what they brought."""

from __future__ import annotations

import plotly.graph_objects as go

from . import wording
from .run import Summary
from .theme import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, figure, label

_KINDS = {"devices": BLUE, "peers": ORANGE}
_GATEWAYS = (BLUE, SKY, GREEN, PURPLE, VERMILLION, ORANGE)
_ENERGY = {"compute_j": "computing", "bytes_j": "bytes", "wakeups_j": "waking the radio"}


def device_rows(told: Summary) -> list[tuple[str, str]]:
    """(what, how much), for what the summary tells; empty for a run without devices."""
    if not told.n_devices:
        return []
    up, down = told.uplink_bytes_per_device_per_round, told.downlink_bytes_per_device_per_round
    rows = [("devices", f"{told.n_devices:,} of {wording.plural(told.n_gateways or 1, 'gateway')}")]
    if told.n_devices_seen is not None:
        share = f", a device {told.device_on_share:.0%} of the time" if told.device_on_share is not None else ""
        rows.append(("on at any time", f"{told.n_devices_seen:,}{share}"))
    if told.device_rounds_counted is not None:
        each = told.device_rounds_counted / max(1, told.steps or 1)
        rows.append(("contributions", f"{told.device_rounds_counted:,}, {each:,.1f} in an update"))
    if up is not None and down is not None:
        rows.append(("a round costs a device", f"{wording.size(up)} up, {wording.size(down)} down"))
    if told.uplink_bytes_per_device is not None and told.downlink_bytes_per_device is not None:
        whole = f"{wording.size(told.uplink_bytes_per_device)} up, {wording.size(told.downlink_bytes_per_device)} down"
        rows.append(("the run cost a device", f"{whole} (mean, heartbeats and snapshots included)"))
    if told.energy_j_per_device is not None:
        rows.append(("energy proxy", _energy(told.energy_j_per_device)))
    if told.device_peak_rss_mb:
        rows.append(("largest device's peak memory", f"{told.device_peak_rss_mb:.0f} MiB"))
    rows += _counts(told)
    if told.model_hashes:
        n_from = told.n_model_hashes_from
        same = f"the same on all {n_from} gateways and devices" if n_from else "the same on all"
        hashes = f"{same} ({told.model_hashes[0][:12]})" if len(told.model_hashes) == 1 else "NOT the same on all"
        rows.append(("weights in the end", hashes))
    return rows


def shares(told: Summary) -> go.Figure | None:
    """Whose contributions the updates were made of; None where all came from one gateway's devices."""
    by_kind = {kind: share for kind, share in (told.shares or {}).items() if share}
    by_gateway = told.shares_by_gateway or {}
    if len(by_kind) < 2 and len(by_gateway) < 2:
        return None
    made = figure(height=96 + 34 * 2, x_title="share of the updates' weight", barmode="stack", bargap=0.45)
    rows = [("by kind", kind, share, _KINDS.get(kind, BLUE)) for kind, share in by_kind.items()]
    if len(by_gateway) > 1:
        colors = [_GATEWAYS[place % len(_GATEWAYS)] for place in range(len(by_gateway))]
        rows += [
            ("devices by gateway", f"gateway {name}", share, color)
            for (name, share), color in zip(by_gateway.items(), colors, strict=True)
        ]
    for row, name, share, color in rows:
        text = label(f"{name} {share:.0%}", 40)
        made.add_bar(
            x=[share],
            y=[row],
            name=label(name, 40),
            orientation="h",
            marker={"color": color, "line": {"width": 0}},
            text=[text if share > 0.06 else ""],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            showlegend=False,
            hovertemplate=label(name, 40) + ": %{x:.2%}<extra></extra>",
        )
    made.update_xaxes(tickformat=".0%", range=[0, 1])
    made.update_yaxes(autorange="reversed", type="category")
    return made


def _energy(joules: dict[str, float]) -> str:
    parts = [f"{name} {joules[key]:,.1f} J" for key, name in _ENERGY.items() if key in joules]
    return f"{joules.get('total_j', 0.0):,.1f} J a device ({', '.join(parts)})"


def _counts(told: Summary) -> list[tuple[str, str]]:
    counts = {
        "late": told.rounds_late,
        "given up": told.rounds_abandoned,
        "snapshots fetched": told.snapshots_fetched,
    }
    return [(name, f"{count:,}") for name, count in counts.items() if count is not None]
