"""What a device does in a run, by the run's method."""

from .choice import open_work
from .work import Answer, DeviceWork

__all__ = ["Answer", "DeviceWork", "open_work"]
