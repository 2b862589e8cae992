"""From a run's card to what this device does in the run."""

from __future__ import annotations

from collections.abc import Callable

from ...algorithms.options import OptionError
from ...protocol.edge_pb2 import RunCard
from ...protocol.errors import InvalidMessage
from ..engines import Engines
from ..pacing import Pace
from .work import DeviceWork


def open_work(card: RunCard, pace: Pace, engines: Engines, secret: Callable[[], bytes] | None = None) -> DeviceWork:
    """Args: secret: 32 fresh bytes; only runs with privacy need them.
    Raises: InvalidMessage for a card that this version cannot work with."""
    try:
        match card.method or "baffle":
            case "baffle":
                from .baffle import BaffleWork

                return BaffleWork(card, pace, engines, secret)
            case "fixedpoint":
                from .fixedpoint import FixedPointWork

                return FixedPointWork(card, pace, engines)
            case "federated":
                from .federated import FederatedWork

                return FederatedWork(card, pace, engines)
    except (ValueError, TypeError, AttributeError, KeyError, OptionError) as error:
        raise InvalidMessage(f"the run's card cannot be used ({error}): do both run the same version?") from None
    raise InvalidMessage(f"this device does not know the run's method {card.method[:40]!r}: install a newer version")
