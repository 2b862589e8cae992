"""gRPC over TLS with mutual proof of identity: what a calling daemon needs, whether peer or device."""
