"""Every error that Gossamer raises on purpose.

    GossamerError
    ├── UsageError               bad command line or configuration (exit code 2)
    │   ├── UnknownName          no such task, method, key; suggests the nearest
    │   ├── InvalidManifest      a run's manifest cannot be used
    │   └── MissingExtra         a library of an optional extra is not installed
    ├── NetworkError             the other side cannot be reached or does not answer
    │   ├── PeerUnreachable      no connection could be made
    │   ├── PeerTimeout          connected, but no answer in time
    │   ├── BootstrapFailed      none of the bootstrap addresses answered
    │   ├── NoReplica            nobody who serves a stage may be asked now
    │   ├── PortInUse            the address that we were told to listen on is taken
    │   └── NetworkClosed        our own side has been closed, or its p2p daemon died
    ├── Refused                  the other side answered, and said no
    │   ├── NotAdmitted          the caller holds no valid ticket for the run
    │   ├── UnknownMethod        nobody serves a method of this name there
    │   ├── StaleRound           the round asked about is over, or not yet begun
    │   ├── NewLife              the peer was restarted; its life on that roster is over
    │   ├── Diverged             replicas hold different states; the caller must resynchronise
    │   ├── StaleStage           a tensor of another version of the stage than the one that is here
    │   ├── DuplicateMicrobatch  another gradient of this microbatch is held already
    │   ├── Busy                 the queue is full; ask another replica, or later
    │   └── RemoteFailure        the other side failed while it served the call
    ├── InvalidMessage           bytes from outside that break a rule; nothing was changed
    │   ├── MessageTooLarge      longer than its bound
    │   ├── BadSignature         signed by nobody, or by somebody else
    │   ├── Expired              a record, ticket or invite past its time
    │   ├── BadTensor            wrong dtype, shape, length or values
    │   ├── BadContribution      a contribution that its method refuses
    │   └── ChecksumMismatch     the bytes are not those that were announced
    ├── RoundError               a group could not agree, and says why
    │   ├── TooFewContributions  fewer contributions than the run's quorum
    │   └── MissingMicrobatch    a gradient that shall count is not held here
    └── StateError               something on this machine's disk is not as it must be
        ├── FolderInUse          another process has it
        ├── CorruptCheckpoint    a checkpoint's files do not match their hashes
        ├── NoCheckpoint         there is none to resume from
        ├── InsecureKeyFile      a private key that others can read
        └── DiskFull             no room for the checkpoint or the log

A message says what happened, with which peer, what was expected, and what to do next, on one line.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from typing import ClassVar


class GossamerError(Exception):
    """Root of the tree. `code` names the class on the wire, `exit_code` is the process's."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1


class UsageError(GossamerError):
    code = "usage"
    exit_code = 2


class UnknownName(UsageError):
    """No such name. Build the message with `unknown_name`."""

    code = "unknown-name"


class InvalidManifest(UsageError):
    code = "invalid-manifest"


class MissingExtra(UsageError):
    code = "missing-extra"


class NetworkError(GossamerError):
    code = "network"


class PeerUnreachable(NetworkError):
    code = "peer-unreachable"


class PeerTimeout(NetworkError):
    code = "peer-timeout"


class BootstrapFailed(NetworkError):
    code = "bootstrap-failed"


class NoReplica(NetworkError):
    code = "no-replica"


class PortInUse(NetworkError):
    code = "port-in-use"


class NetworkClosed(NetworkError):
    code = "network-closed"


class Refused(GossamerError):
    code = "refused"


class NotAdmitted(Refused):
    code = "not-admitted"


class UnknownMethod(Refused):
    code = "unknown-method"


class StaleRound(Refused):
    code = "stale-round"


class NewLife(Refused):
    code = "new-life"


class Diverged(Refused):
    code = "diverged"


class StaleStage(Refused):
    code = "stale-stage"


class DuplicateMicrobatch(Refused):
    code = "duplicate-microbatch"


class Busy(Refused):
    code = "busy"


class RemoteFailure(Refused):
    code = "remote-failure"


class InvalidMessage(GossamerError):
    code = "invalid-message"


class MessageTooLarge(InvalidMessage):
    code = "message-too-large"


class BadSignature(InvalidMessage):
    code = "bad-signature"


class Expired(InvalidMessage):
    code = "expired"


class BadTensor(InvalidMessage):
    code = "bad-tensor"


class BadContribution(InvalidMessage):
    code = "bad-contribution"


class ChecksumMismatch(InvalidMessage):
    code = "checksum-mismatch"


class RoundError(GossamerError):
    code = "round"


class TooFewContributions(RoundError):
    code = "too-few-contributions"


class MissingMicrobatch(RoundError):
    code = "missing-microbatch"


class StateError(GossamerError):
    code = "state"


class FolderInUse(StateError):
    """Another process has it."""

    code = "folder-in-use"


class CorruptCheckpoint(StateError):
    code = "corrupt-checkpoint"


class NoCheckpoint(StateError):
    code = "no-checkpoint"


class InsecureKeyFile(StateError):
    code = "insecure-key-file"


class DiskFull(StateError):
    code = "disk-full"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a name that nobody knows, with the nearest known one.

    >>> str(unknown_name("task", "chras", ["chars", "digits"]))
    "unknown task 'chras': did you mean 'chars'? Known: chars, digits"
    """
    import difflib  # devices load this file, and seldom have need of it

    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UnknownName(f"unknown {kind} {name!r}: {hint}Known: {', '.join(names)}")


def disk_error(error: OSError, doing: str) -> StateError:
    """What the operating system said about a file, as an error of ours. `doing`: "cannot write runs/a/ticket"."""
    name = None if error.filename is None or str(error.filename) in doing else str(error.filename)
    cause = ": ".join(part for part in (doing, name, error.strerror or str(error)) if part)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(f"{cause}; make room there, or choose a folder on another disk")
    return StateError(f"{cause}; check that path and its permissions, or choose another")


def error_from_wire(code: str, message: str) -> GossamerError:
    """The error that a remote peer reported, as the same class here; `RemoteFailure` if we don't know it."""
    cls = _BY_CODE.get(code, RemoteFailure)
    return cls(message)


def _walk(cls: type[GossamerError]) -> Iterator[type[GossamerError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _walk(child)


_BY_CODE = {cls.code: cls for cls in _walk(GossamerError)}
