"""The part of a peer that serves devices: enrolment, rounds among devices, and the journal that survives a crash."""
