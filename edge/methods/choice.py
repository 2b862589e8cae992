"""From a run's card to what this device does in the run."""

from __future__ import annotations

from ...algorithms.options import OptionError
from ...protocol.edge_pb2 import RunCard
from ...protocol.errors import InvalidMessage
from ..engines import Engines
from ..pacing import Pace
from .work import DeviceWork


def open_work(card: RunCard, pace: Pace, engines: Engines) -> DeviceWork:
    """Raises InvalidMessage for a card that this version cannot work with."""
    try:
        match card.method or "baffle":
            case "baffle":
                from .baffle import BaffleWork

                return BaffleWork(card, pace, engines)
            case "fixedpoint":
                from .fixedpoint import FixedPointWork

                return FixedPointWork(card, pace, engines)
    except (ValueError, TypeError, AttributeError, KeyError, OptionError) as error:
        raise InvalidMessage(f"the run's card cannot be used ({error}): do both run the same version?") from None
    raise InvalidMessage(f"this device does not know the run's method {card.method[:40]!r}: install a newer version")
