"""The real network: `RealNetwork.open(identity, NetworkConfig(...))`."""

import os

# grpc's core writes to stderr when a peer leaves; what matters of that reaches callers as an error. It reads this once.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from .config import BootstrapState, NetworkConfig, NetworkHealth
from .real import RealNetwork

__all__ = ["BootstrapState", "NetworkConfig", "NetworkHealth", "RealNetwork"]
