"""What a gateway shows to devices: a gRPC port of its own, with a certificate that outlives the process."""

from __future__ import annotations

import os
from pathlib import Path

from ...protocol.errors import UsageError
from ...protocol.identity import Identity, PeerId
from ...protocol.network import Gate, Handler, Server, StreamHandler, Traffic
from ...protocol.transport.certificates import kept_certificate
from ...protocol.transport.session import Ends
from ...protocol.transport.tls import Certificate
from .addresses import check_port_free
from .grpc_server import GrpcServer
from .handlers import MethodTable, Served


class Front(Server):
    """Serves devices. Peers of the group never come here, nor devices to the group's port."""

    def __init__(self, identity: Identity, run_id: str, certificate: Certificate) -> None:
        """For `open`, which also starts it."""
        self.peer_id = identity.peer_id
        self.traffic = Traffic()
        self.certificate = certificate
        self.port = 0
        self._table = MethodTable(self.traffic)
        ends = Ends(run_id=run_id, server=self.peer_id, certificate=certificate.der)
        self._server = GrpcServer(self._table, ends, _learn_nothing)

    @classmethod
    async def open(cls, identity: Identity, *, run_id: str, folder: Path, host: str, port: int) -> Front:
        """Listen on host:port (0: any free one); `folder` keeps the certificate. Raises PortInUse, StateError."""
        front = cls(identity, run_id, kept_certificate(folder, identity))
        check_port_free(host, port, option="gateway port")
        front.port = await front._server.start(host, port, front.certificate)
        return front

    def serve(self, method: str, handler: Handler, *, public: bool = False) -> None:
        self._table.add(Served(method=method, handler=handler, public=public))

    def serve_stream(self, method: str, handler: StreamHandler, *, public: bool = False) -> None:
        self._table.add(Served(method=method, stream_handler=handler, public=public))

    def set_gate(self, gate: Gate) -> None:
        self._table.set_gate(gate)

    async def close(self) -> None:
        """Stop listening, and end what is being served. Idempotent."""
        await self._server.close()


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or PORT, to listen on. Raises UsageError."""
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) >= 1 << 16:
        raise UsageError(f"--gateway {text!r}: write HOST:PORT, for example 0.0.0.0:7700 (port 0: any free one)")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def fresh_secret() -> bytes:
    """32 random bytes for an enrolment token."""
    return os.urandom(32)


def _learn_nothing(peer: PeerId, contact: bytes) -> None:
    """Devices have no contact records: nobody calls them."""
