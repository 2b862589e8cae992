"""What came of `gossamer up`, for a person."""

from __future__ import annotations

from typing import Any

from .status import privacy_words

WIDTH = 16
Lines = dict[str, str]
"""What is told, by its name."""


def tell(summary: dict[str, Any]) -> None:
    """Print what happened, a line for each thing worth knowing."""
    lines = _training(summary) | _rounds(summary)
    lines |= _stages(summary) if "stages" in summary else {"agreement": _agreement(summary)}
    if "n_devices" in summary:
        lines |= _devices(summary)
    lines["report"] = summary["report"]
    width = max(map(len, lines)) + 1
    for name, text in lines.items():
        print(f"  {name:<{max(width, WIDTH)}}{text}")


def _training(summary: dict[str, Any]) -> Lines:
    sent, dense = summary["bytes_sent_per_peer_per_step"], summary["dense_bytes_per_peer_per_step"]
    start, end, n_peers = summary["eval_loss_start"], summary["eval_loss"], summary["n_peers"]
    lines = {f"{summary['task']} by {summary['method']}": f"{n_peers} daemons, {summary['n_params']:,} parameters"}
    if start is not None and end is not None:
        lines["held-out loss"] = f"{start:.3f} -> {end:.3f} in {summary['steps']} steps, {summary['wall_s']:.0f} s"
    if sent:
        beside = f"{dense / sent:,.1f} times less than" if dense >= sent else f"{dense / 1e3:,.1f} with"
        lines["sent per peer"] = f"{sent / 1e3:,.1f} kB a step, {beside} dense all-reduce"
    return lines


def _rounds(summary: dict[str, Any]) -> Lines:
    overhead_ms = (summary["round_overhead_s_p50"] or 0.0) * 1e3
    told = f"{summary['rounds_ok']} committed, {summary['rounds_failed']} failed, {overhead_ms:.0f} ms overhead"
    lines = {"rounds": told}
    if summary["killed"]:
        cost_s, names = summary["kill_cost_s"] or 0.0, ", ".join(summary["killed"])
        lines["killed with -9"] = f"daemon {names}; the slowest of the next rounds took {cost_s:.2f} s longer than most"
    return lines


def _agreement(summary: dict[str, Any]) -> str:
    digests = sorted(set(summary["state_digests"].values()))
    agreed = "all hold the same state" if len(digests) == 1 else "THE DAEMONS DISAGREE"
    return f"{agreed} ({', '.join(digest[:12] for digest in digests)})"


def _devices(summary: dict[str, Any]) -> Lines:
    hashes = "all hold the same weights" if len(summary["model_hashes"]) == 1 else "THE DEVICES DISAGREE"
    lines = {
        "devices": f"{summary['n_devices']} of {summary['n_gateways']} gateways, {hashes}; a round took each "
        f"{summary['uplink_bytes_per_device_per_round']:,.0f} bytes up and "
        f"{summary['downlink_bytes_per_device_per_round']:,.0f} down, {summary['device_peak_rss_mb']:.0f} MB"
    }
    if summary["privacy"]:
        lines["privacy"] = privacy_words(summary["privacy"])
    if summary["killed_devices"]:
        lines["killed, too"] = f"device {', '.join(summary['killed_devices'])}"
    lines["accuracy"] = f"{summary['eval_accuracy']:.1%}"
    return lines


def _stages(summary: dict[str, Any]) -> Lines:
    agree = all(len(digests) == 1 for digests in summary["state_digests_by_stage"].values())
    idle = list(summary["idle_fraction_per_peer"].values()) or [0.0]
    n = summary["only_train"]
    others = f"; {n} peer{'s' * (n > 1)} only trained" if n else ""
    return {
        "stages": f"{summary['stages']}, with {', '.join(map(str, summary['replicas_per_stage']))} replicas{others}",
        "microbatches": f"{summary['microbatches_counted']} of {summary['microbatches_expected']} counted once each, "
        f"{summary['rerouted']} passes rerouted, {summary['duplicates_refused']} duplicates refused; peers were idle "
        f"{min(idle):.0%} to {max(idle):.0%} of the time",
        "agreement": "the replicas of each stage hold the same state" if agree else "REPLICAS OF A STAGE DISAGREE",
    }
