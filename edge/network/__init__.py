"""A device's network: gRPC over TLS to one gateway whose certificate is pinned."""

from .client import EdgeNetwork
from .pinning import Gateway, fetch_certificate

__all__ = ["EdgeNetwork", "Gateway", "fetch_certificate"]
