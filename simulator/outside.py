"""What of an event loop would leave the simulated world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

C = TypeVar("C", bound=type)

REFUSED: Final = (
    *("run_in_executor", "set_default_executor", "getaddrinfo", "getnameinfo", "subprocess_shell", "subprocess_exec"),
    *("create_connection", "create_server", "create_datagram_endpoint", "create_unix_connection"),
    *("create_unix_server", "connect_accepted_socket", "connect_read_pipe", "connect_write_pipe", "start_tls"),
    *("sendfile", "sock_sendfile", "sock_recv", "sock_recv_into", "sock_sendall", "sock_connect", "sock_accept"),
    *("add_reader", "remove_reader", "add_writer", "remove_writer", "add_signal_handler", "remove_signal_handler"),
)
"""Methods that do."""


def closed_to_the_outside(loop: C) -> C:
    """A class of loops whose `REFUSED` methods raise RuntimeError."""
    for name in REFUSED:
        setattr(loop, name, _refusal(name))
    return loop


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(self: object, *args: object, **kwargs: object) -> Any:
        raise RuntimeError(f"{name} leaves the simulated world: go through Network (Network.compute for heavy maths)")

    return refuse
