"""gRPC over TLS with mutual proof of identity: what a calling daemon needs, whether peer or device."""

import os

# grpc's core writes to stderr when a peer leaves; what matters of that reaches callers as an error. It reads this once.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
