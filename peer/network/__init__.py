"""The real network: `RealNetwork.open(identity, NetworkConfig(...))`."""

from .config import BootstrapState, NetworkConfig, NetworkHealth
from .real import RealNetwork

__all__ = ["BootstrapState", "NetworkConfig", "NetworkHealth", "RealNetwork"]
