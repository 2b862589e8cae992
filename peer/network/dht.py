"""Signed records in hivemind's DHT, which runs in the daemon's own event loop."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from hivemind.dht.crypto import DHTRecord, RecordValidatorBase
from hivemind.dht.node import DHTNode
from hivemind.dht.routing import DHTID
from hivemind.dht.storage import DictionaryDHTValue
from hivemind.p2p import PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError
from hivemind.utils import MSGPackSerializer

from ...protocol.errors import GossamerError, InvalidMessage, NetworkError, PeerUnreachable
from ...protocol.identity import Identity, PeerId
from ...protocol.network import Traffic
from ...protocol.records import (
    MAX_KEY_BYTES,
    CheckedRecord,
    Entry,
    RecordRules,
    check_lifetime,
    check_record,
    sign_record,
)
from .p2pd import P2pd

N_REPLICAS = 5
_CACHED_RECORDS_MAX = 256
_RPC_TIMEOUT_S = 3.0
_STORE_TRIES = 3
_RETRY_S = 0.2
_STEPS_TO_END = 20
"""Turns of the event loop in which hivemind's own tasks, told that the daemon ended, come to their ends."""

log = logging.getLogger(__name__)


def key_id(key: str) -> bytes:
    """The DHT's name of a key."""
    return bytes(DHTID.generate(source=key).to_bytes())


@dataclass(frozen=True, kw_only=True)
class _Own:
    data: bytes
    expires_at_s: float


class RecordStore:
    """Publishes and finds records. Survives restarts of the libp2p daemon: `attach` it to the new one."""

    def __init__(self, identity: Identity, run_id: str, traffic: Traffic, clock: Callable[[], float]) -> None:
        """Args: clock: unix time."""
        self._identity = identity
        self._run_id = run_id
        self._traffic = traffic
        self._clock = clock
        self._node: Any = None
        self._p2pd: P2pd | None = None
        self._running: dict[int, asyncio.Task[Any]] = {}
        self._own: dict[str, _Own] = {}
        self._sequence = 0
        self._rules = RecordRules(key_id=key_id)

    async def attach(self, p2pd: P2pd, *, client: bool) -> None:
        """Run a node on this daemon, with the records that the one before it held.

        Args: client: take no records and answer nobody.
        Raises: NetworkError.
        """
        try:
            node = await self._create_node(p2pd, client)
        except (P2PDaemonError, OSError) as error:
            raise NetworkError(f"the libp2p daemon {p2pd.pid} went down while the DHT started: {error}") from None
        node.protocol._validate_dictionary = self._drop_invalid
        if self._node is not None:
            node.protocol.storage = self._node.protocol.storage
        self._node, self._p2pd = node, p2pd

    async def _create_node(self, p2pd: P2pd, client: bool) -> Any:
        return await DHTNode.create(
            p2p=p2pd.p2p,
            node_id=DHTID.generate(source=self._identity.peer_id.encode()),
            num_replicas=N_REPLICAS,
            wait_timeout=_RPC_TIMEOUT_S,
            client_mode=client,
            record_validator=_Validator(self),
            # A cached view is a stale one: look up what the nodes hold, every time.
            cache_locally=False,
            cache_nearest=0,
            cache_on_store=False,
            cache_refresh_before_expiry=0,
            cache_size=_CACHED_RECORDS_MAX,
            reuse_get_requests=False,
            # Peers whose daemon was restarted must soon be asked again; dead ones leave the table anyway.
            blacklist_time=2.0,
            backoff_rate=1.2,
        )

    async def ping(self, peer: PeerId) -> bool:
        """Meet a node: whether it answered; both then know each other."""
        return await self._node.protocol.call_ping(PeerID.from_base58(peer)) is not None

    async def explore(self) -> None:
        """Find the nodes nearest to us, through those that we know."""
        await self._finish(self._node.find_nearest_nodes([self._node.node_id]))

    def neighbours(self) -> list[PeerId]:
        """The nodes in our routing table, ordered."""
        if self._node is None:
            return []
        table = self._node.protocol.routing_table
        return sorted(PeerId(peer.to_base58()) for peer in list(table.uid_to_peer_id.values()))

    async def publish(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Raises MessageTooLarge, InvalidMessage, PeerUnreachable when no node keeps it."""
        check_lifetime(ttl_s)
        now_s = self._clock()
        self._sequence = max(self._sequence + 1, int(now_s * 1e6))
        full = self._full(key)
        data = sign_record(self._identity, full, value, expires_at_s=now_s + ttl_s, sequence=self._sequence)
        own = _Own(data=data, expires_at_s=now_s + ttl_s)
        self._own = {name: kept for name, kept in self._own.items() if kept.expires_at_s > now_s}
        self._own[full] = own
        for attempt in range(_STORE_TRIES):
            if await self._store(full, own) or await self._is_kept(full, own):
                return
            await asyncio.sleep(_RETRY_S * 2**attempt)
        raise PeerUnreachable(f"no node of the DHT kept the record {key!r}: are any bootstrap addresses alive?")

    async def republish(self) -> None:
        """Store every unexpired record of ours once more, on nodes that we have met since."""
        for full, own in list(self._own.items()):
            if own.expires_at_s > self._clock():
                await self._store(full, own)

    def signed(self, key: str) -> bytes:
        """Our own last record under a key as it was signed; empty if there is none."""
        own = self._own.get(self._full(key))
        return own.data if own else b""

    async def lookup(self, key: str) -> list[CheckedRecord]:
        """The valid records under a key, one a signer, ordered by signer. Raises InvalidMessage."""
        full = self._full(key)
        found = await self._finish(self._node.get(full, latest=True))
        if found is None or not isinstance(found.value, dict):
            return []
        records = [self._checked(full, item.value) for item in found.value.values()]
        return sorted((record for record in records if record is not None), key=lambda record: record.signer)

    async def close(self) -> None:
        """End what is under way; no lookup or publication is answered any more."""
        if self._node is None or self._p2pd is None:
            return
        self._node.is_alive = False
        if self._node.cache_refresh_task is not None:
            self._node.cache_refresh_task.cancel()
        self._p2pd.fail_pending()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        for _ in range(_STEPS_TO_END):
            await asyncio.sleep(0)

    async def _finish(self, operation: Coroutine[Any, Any, Any]) -> Any:
        """Let an operation of hivemind's run to its end even if our caller does not wait for it.

        One that is cancelled half-way leaves tasks behind that wait for ever.
        """
        task = asyncio.create_task(operation)
        self._running[id(task)] = task
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        del self._running[id(task)]
        if not task.cancelled():
            task.exception()  # seen, even if the caller has left

    def _full(self, key: str) -> str:
        full = f"{self._run_id}/{key}"
        if len(full.encode()) > MAX_KEY_BYTES:
            raise InvalidMessage(f"the key {key[:80]!r}... is too long: {MAX_KEY_BYTES} bytes with the run's id")
        return full

    async def _store(self, full: str, own: _Own) -> bool:
        self._traffic.sent["dht"] += N_REPLICAS * (len(full) + len(own.data))
        node, signer = self._node, self._identity.peer_id
        stored: bool = await self._finish(
            node.store(full, own.data, own.expires_at_s, subkey=signer, exclude_self=node.protocol.client_mode)
        )
        return stored

    async def _is_kept(self, full: str, own: _Own) -> bool:
        """hivemind's `store` says no when a node has it already, or when one of several failed."""
        found = await self._finish(self._node.get(full, latest=True))
        values = found.value if found is not None and isinstance(found.value, dict) else {}
        mine = values.get(self._identity.peer_id)
        return mine is not None and mine.value == own.data

    def _checked(self, full: str, data: Any) -> CheckedRecord | None:
        try:
            self._traffic.received["dht"] += len(full) + len(data)
            return check_record(data, key=full, now_s=self._clock())
        except GossamerError as error:
            log.debug("a record under %s is of no use: %s", full, error)
            return None

    # -- what hivemind asks before it keeps or returns a record --------------------------------------------------

    def admit(self, key: bytes, subkey: Any, data: Any, expires_at_s: Any) -> bool:
        """Whether a record may be kept or believed; makes way for it where an older one would outlive it."""
        if not isinstance(subkey, str) or not isinstance(data, bytes) or not isinstance(expires_at_s, float):
            return False
        entry = Entry(key_id=key, signer=subkey, data=data, expires_at_s=expires_at_s)
        try:
            self._rules.admit(entry, now_s=self._clock())
        except GossamerError as error:
            log.debug("refused a record for the DHT: %s", error)
            return False
        self._evict_older(entry)
        return True

    def _evict_older(self, entry: Entry) -> None:
        """hivemind lets the longer-lived record win, we the later one."""
        if self._node is None:
            return
        for storage in (self._node.protocol.storage, self._node.protocol.cache):
            kept = storage.get(DHTID.from_bytes(entry.key_id))
            if kept is None or not isinstance(kept.value, DictionaryDHTValue):
                continue
            with kept.value.freeze():
                old = kept.value.get(entry.signer)
                if old is not None and old.value != entry.data:
                    del kept.value[entry.signer]

    def _drop_invalid(self, key: bytes, dictionary: DictionaryDHTValue) -> bool:
        """In place of hivemind's own check, which throws all records away for one that is not good."""
        with dictionary.freeze():
            entries = list(dictionary.items())
            for subkey, (data, expires_at_s) in entries:
                if not self.admit(key, subkey, data, expires_at_s):
                    del dictionary[subkey]
        return math.isfinite(dictionary.latest_expiration_time)


class _Validator(RecordValidatorBase):  # type: ignore[misc]  # hivemind is untyped
    """hivemind's view of our rules. Values are kept as they were signed, without hivemind's own packing."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store

    def validate(self, record: DHTRecord) -> bool:
        try:
            subkey = MSGPackSerializer.loads(record.subkey)
        except ValueError:
            return False
        return self._store.admit(record.key, subkey, record.value, record.expiration_time)

    def sign_value(self, record: DHTRecord) -> bytes:
        value: bytes = MSGPackSerializer.loads(record.value)
        return value

    def strip_value(self, record: DHTRecord) -> bytes:
        value: bytes = MSGPackSerializer.dumps(record.value)
        return value
