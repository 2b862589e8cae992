"""A small network of one's own on this machine: hosts in namespaces of the kernel, behind links of a chosen speed.

Every host has a link to a switch, and each direction of it is shaped by a token bucket (`tc tbf`): what a host sends
waits at its own end, what it receives at the switch's. Needs Linux, root and iproute2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

QUEUE_MS = 200
"""A packet that would wait longer than this is dropped, as home routers do."""
CONGESTION_CONTROL = "cubic"
"""What Linux has unless told otherwise."""
BURST_S = 0.0005
"""What a line may send at once after a pause: two packets, or what this time brings. With 16 kB a message of 20 kB
takes half as long as its bytes."""
BURST_BYTES_MIN = 3_100


@dataclass(frozen=True, kw_only=True)
class ShapedHost:
    """One host; run a command in it with `prefix` in front."""

    namespace: str
    address: str

    @property
    def prefix(self) -> list[str]:
        return ["ip", "netns", "exec", self.namespace]


def why_not() -> str | None:
    """Why this machine cannot do it; None if it can."""
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "iproute2 is not installed (ip and tc)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    trial = f"gossamer-trial-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", trial], capture_output=True, text=True, timeout=20, check=False)
    if made.returncode != 0:
        return f"this machine forbids network namespaces: {made.stderr.strip()}"
    _run("ip", "netns", "del", trial)
    return None


@contextmanager
def shaped_hosts(n_hosts: int, *, bits_per_s: float) -> Iterator[list[ShapedHost]]:
    """Hosts 10.77.0.1, 10.77.0.2, ... on one switch, with both directions of every link at `bits_per_s`."""
    tag = f"g{os.getpid() % 100_000}"
    switch = f"{tag}-switch"
    with ExitStack() as undo:
        _namespace(switch, undo)
        _in(switch, "ip", "link", "add", "bridge", "type", "bridge")
        _in(switch, "ip", "link", "set", "bridge", "up")
        yield [_host(number, tag, switch, bits_per_s, undo) for number in range(1, n_hosts + 1)]


def sent_bytes(host: ShapedHost) -> int:
    """What a host has put on its link so far, as the kernel counts it: Ethernet frames."""
    command = [*host.prefix, "cat", "/sys/class/net/eth0/statistics/tx_bytes"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout)


def _host(number: int, tag: str, switch: str, bits_per_s: float, undo: ExitStack) -> ShapedHost:
    host, port = ShapedHost(namespace=f"{tag}-{number}", address=f"10.77.0.{number}"), f"port{number}"
    _namespace(host.namespace, undo)
    _in(switch, "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    _in(switch, "ip", "link", "set", port, "master", "bridge", "up")
    _in(host.namespace, "ip", "addr", "add", f"{host.address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        _in(host.namespace, "ip", "link", "set", device, "up")
    _in(host.namespace, "ip", "route", "change", "10.77.0.0/24", "dev", "eth0", "congctl", CONGESTION_CONTROL)
    _shape(host.namespace, "eth0", bits_per_s)
    _shape(switch, port, bits_per_s)
    return host


def _shape(namespace: str, device: str, bits_per_s: float) -> None:
    burst_bytes = max(BURST_BYTES_MIN, int(bits_per_s / 8 * BURST_S))
    rate, burst, latency = f"{int(bits_per_s)}bit", str(burst_bytes), f"{QUEUE_MS}ms"
    _in(namespace, "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", rate, "burst", burst, "latency", latency)


def _namespace(name: str, undo: ExitStack) -> None:
    _run("ip", "netns", "add", name)
    undo.callback(_run, "ip", "netns", "del", name)


def _in(namespace: str, *command: str) -> None:
    _run("ip", "netns", "exec", namespace, *command)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
