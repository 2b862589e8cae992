"""The part of a peer that serves devices: enrolment, rounds among devices, and the journal that survives a crash."""

from .book import Book
from .gateway import Gateway
from .options import GatewayOptions

__all__ = ["Book", "Gateway", "GatewayOptions"]
