from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from gossamer.peer.network import RealNetwork
from gossamer.protocol.errors import MessageTooLarge, NotAdmitted, PeerUnreachable
from gossamer.protocol.identity import Identity, PeerId
from gossamer.protocol.network import MAX_PUBLIC_BYTES
from gossamer.protocol.transport.certificates import create_certificate
from gossamer.protocol.transport.link import _OPTIONS
from gossamer.protocol.transport.messages import CALL_PREFIX, CODE_KEY, HELLO_PATH, SESSION_KEY, STREAM_PREFIX
from gossamer.protocol.transport.session import Ends, prove, read_welcome
from gossamer.protocol.transport.tls import pinned_credentials
from gossamer.tests.peer.network.fleet import RUN_ID, Fleet, echo

_TIMEOUT_S = 10


class Stranger:
    """Speaks gRPC to a peer by hand, as an attacker would."""

    def __init__(self, server: RealNetwork) -> None:
        contact = server._contact()
        self.identity = Identity.generate()
        self.ends = Ends(run_id=RUN_ID, server=server.peer_id, certificate=contact.certificate)
        self.channel = grpc.aio.secure_channel(
            contact.grpc_target, pinned_credentials(contact.certificate), options=_OPTIONS
        )

    async def __aenter__(self) -> Stranger:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.channel.close()

    async def challenge(self) -> tuple[Any, bytes]:
        call: Any = self.channel.stream_stream(HELLO_PATH)(timeout=_TIMEOUT_S)
        return call, await call.read()

    async def say(self, call: Any, proof: bytes) -> str:
        """Answer the challenge and return the session's token; AioRpcError when it is refused."""
        await call.write(proof)
        return read_welcome(await call.read())[0]

    async def session(self) -> str:
        call, challenged = await self.challenge()
        return await self.say(call, prove(self.identity, self.ends, challenged, b""))

    async def call(self, method: str, body: bytes, token: str | None) -> bytes:
        metadata = () if token is None else ((SESSION_KEY, token),)
        send: Any = self.channel.unary_unary(CALL_PREFIX + method)
        answer: bytes = await send(body, metadata=metadata, timeout=_TIMEOUT_S)
        return answer


async def test_a_stranger_with_a_proof_is_served() -> None:
    async with Fleet() as fleet:
        server = await fleet.open()
        server.serve("echo", echo)

        async with Stranger(server) as stranger:
            assert await stranger.call("echo", b"x", await stranger.session()) == b"x"


@pytest.mark.parametrize("token", [None, "", "00" * 32, "x" * 5000])
async def test_a_call_without_a_session_is_refused_and_reaches_no_handler(token: str | None) -> None:
    async with Fleet() as fleet:
        server = await fleet.open()
        served: list[bytes] = []

        async def remember(peer: PeerId, request: bytes) -> bytes:
            served.append(request)
            return b""

        server.serve("secret", remember, public=True)
        async with Stranger(server) as stranger:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await stranger.call("secret", bytes(1 << 20), token)

        assert failure.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert served == []
        assert server.traffic.received["secret"] == 0  # the body was not even looked at


async def test_a_replayed_proof_is_refused() -> None:
    async with Fleet() as fleet:
        server = await fleet.open()

        async with Stranger(server) as stranger:
            first, challenged = await stranger.challenge()
            proof = prove(stranger.identity, stranger.ends, challenged, b"")
            await stranger.say(first, proof)
            second, _ = await stranger.challenge()

            with pytest.raises(grpc.aio.AioRpcError, match="not signed by"):
                await stranger.say(second, proof)


async def test_a_proof_made_for_another_server_is_refused() -> None:
    async with Fleet() as fleet:
        server = await fleet.open()

        async with Stranger(server) as stranger:
            call, challenged = await stranger.challenge()
            elsewhere = Ends(run_id=RUN_ID, server=Identity.generate().peer_id, certificate=stranger.ends.certificate)

            with pytest.raises(grpc.aio.AioRpcError, match="not signed by"):
                await stranger.say(call, prove(stranger.identity, elsewhere, challenged, b""))


async def test_a_proof_relayed_under_another_certificate_is_refused() -> None:
    async with Fleet() as fleet:
        server = await fleet.open()

        async with Stranger(server) as stranger:
            call, challenged = await stranger.challenge()
            relayed = Ends(run_id=RUN_ID, server=server.peer_id, certificate=create_certificate().der)

            with pytest.raises(grpc.aio.AioRpcError, match="not signed by"):
                await stranger.say(call, prove(stranger.identity, relayed, challenged, b""))


async def test_a_session_is_worth_nothing_on_another_connection() -> None:
    async with Fleet() as fleet:
        server = await fleet.open()
        server.serve("echo", echo)

        async with Stranger(server) as victim, Stranger(server) as thief:
            token = await victim.session()

            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await thief.call("echo", b"x", token)

        assert failure.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_nothing_is_read_from_a_stream_that_the_gate_refuses() -> None:
    async with Fleet() as fleet:
        server = await fleet.open()
        server.set_gate(lambda peer: False)
        started: list[PeerId] = []

        async def remember(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            started.append(peer)
            yield b""

        server.serve_stream("secret", remember)
        async with Stranger(server) as stranger:
            metadata = ((SESSION_KEY, await stranger.session()),)
            call: Any = stranger.channel.stream_stream(STREAM_PREFIX + "secret")(metadata=metadata, timeout=_TIMEOUT_S)

            with pytest.raises(grpc.aio.AioRpcError):
                await call.read()
            assert dict(await call.trailing_metadata())[CODE_KEY] == NotAdmitted.code

        assert started == []


async def test_a_message_beyond_the_transports_limit_is_cut_off() -> None:
    async with Fleet() as fleet:
        server = await fleet.open()
        server.serve("echo", echo)

        async with Stranger(server) as stranger:
            token = await stranger.session()
            large = grpc.aio.secure_channel(
                server._contact().grpc_target,
                pinned_credentials(stranger.ends.certificate),
                options=(("grpc.ssl_target_name_override", "peer.gossamer.invalid"),),
            )
            stranger.channel, small = large, stranger.channel
            await small.close()
            token = await stranger.session()
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await stranger.call("echo", bytes(3 << 20), token)

        assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_public_method_takes_short_messages_only_from_those_who_are_not_admitted() -> None:
    async with Fleet() as fleet:
        a, b = await fleet.pair()
        b.set_gate(lambda peer: False)
        b.serve("ask", echo, public=True)

        longest = bytes(MAX_PUBLIC_BYTES)
        assert await a.call(b.peer_id, "ask", longest, timeout_s=_TIMEOUT_S) == longest
        with pytest.raises(MessageTooLarge, match=str(b.peer_id)):
            await a.call(b.peer_id, "ask", longest + b"x", timeout_s=_TIMEOUT_S)


async def test_an_impostor_on_a_peers_port_with_another_certificate_is_not_spoken_to() -> None:
    async with Fleet() as fleet:
        a, b = await fleet.pair()
        b.serve("echo", echo)
        await a.call(b.peer_id, "echo", b"", timeout_s=_TIMEOUT_S)
        port = b._grpc_port
        await b.close()
        impostor = await fleet.open(grpc_port=port)
        impostor.serve("echo", echo)

        with pytest.raises(PeerUnreachable, match=b.peer_id):
            await a.call(b.peer_id, "echo", b"secret", timeout_s=_TIMEOUT_S)

        assert impostor.traffic.received["echo"] == 0
