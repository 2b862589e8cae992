"""A run's manifest: what is trained and how, in TOML, signed by the run's owner.

The signature covers the exact bytes before the final `[signature]` table, and the run id is the beginning of their
SHA-256: change a comment and it is another run. The id does not name the owner, so whoever got a manifest by an
invite also compares the owner. Read files as bytes (`path.read_bytes().decode()`), lest line ends are translated.

Needs pydantic (the peer extra): nothing that small devices import may import this file.
"""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from .errors import BadSignature, InvalidManifest, InvalidMessage, unknown_name
from .identity import Identity, PeerId, parse_peer_id, verify
from .manifest_errors import manifest_error

DOMAIN = "manifest"
PROTOCOL_VERSION = 1
MAX_TEXT_BYTES = 64 << 10
TASKS = ("chars", "digits", "fashion", "fashion-rotated")

_MODULE_ATTRIBUTE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_METHOD_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_SIGNATURE_TABLE = re.compile(r"^\[signature\][ \t]*\r?$", re.MULTILINE)
_MAX_STEPS = 10**9

Option = bool | int | float | str


def _option(value: object) -> Option:
    if not isinstance(value, (bool, int, float, str)):
        raise ValueError("use an integer, a float, a string or a boolean")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("use a finite number")
    if isinstance(value, str) and len(value) > 8192:
        raise ValueError("use at most 8192 characters")
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise ValueError("use an integer of 64 bits")
    return value


OptionName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Options = Annotated[
    Mapping[OptionName, Annotated[Option, PlainValidator(_option)]], Field(default_factory=dict, max_length=64)
]
Steps = Annotated[int, Field(ge=1, le=_MAX_STEPS)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Run(_Table):
    """What the run is called and how long it is."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")
    seed: int = Field(ge=0, lt=1 << 63)
    """Initial weights, sharding and everything random follow from it."""
    steps: Steps
    created: str = Field(pattern=r"^[0-9A-Za-z:.+-]{1,40}$")
    """When, in ISO 8601; it also makes two runs with equal settings different."""
    protocol_version: int = PROTOCOL_VERSION

    @field_validator("protocol_version")
    @classmethod
    def _supported(cls, version: int) -> int:
        if version != PROTOCOL_VERSION:
            raise ValueError(f"this gossamer speaks version {PROTOCOL_VERSION}; install one that speaks {version}")
        return version


class TaskChoice(_Table):
    """What is trained."""

    name: str = Field(max_length=200)
    """`chars`, `digits`, `fashion`, or `module:attribute` of a task that every machine's owner installed."""
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the task's source, options and data; a peer whose own differs refuses the run."""
    options: Options

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in TASKS and not _MODULE_ATTRIBUTE.fullmatch(name):
            raise unknown_name("task", name, [*TASKS, "module:attribute"])
        return name


class MethodChoice(_Table):
    """How replicas communicate. The method itself checks its options when it is built."""

    name: str = Field(max_length=200)
    """Lower-case letters and digits, or `module:attribute` of a method that every machine's owner installed."""
    options: Options

    @field_validator("name")
    @classmethod
    def _well_formed(cls, name: str) -> str:
        if not (_METHOD_NAME.fullmatch(name) or _MODULE_ATTRIBUTE.fullmatch(name)):
            raise ValueError("use a method's name, or module:attribute for your own")
        return name


class Schedule(_Table):
    """The learning rate over `run.steps`."""

    kind: Literal["constant", "linear", "cosine"] = "constant"
    lr: float = Field(gt=0, le=1000)
    """Peak learning rate."""
    warmup_steps: int = Field(default=0, ge=0, le=_MAX_STEPS)
    floor: float = Field(default=0.0, ge=0, le=1)
    """Fraction of `lr` left at the end (linear and cosine)."""


class Data(_Table):
    """How samples are dealt out."""

    batch_size: int = Field(ge=1, le=1 << 20)
    """Samples per peer and step."""


class Group(_Table):
    """Who makes a round."""

    start_peers: int = Field(default=1, ge=1, le=1024)
    """So many peers are awaited before the first step."""
    quorum_fraction: float = Field(default=0.5, gt=0, le=1)
    """Least share of the roster that must contribute for a round to count, rounded up."""
    on_split: Literal["auto", "pause", "fork"] = "auto"
    """What fewer than half of a roster do; auto: fork if the roster was of two at most, otherwise pause."""
    strict: bool = False
    """Every round waits for every living member: exact, but as slow as the slowest."""
    backup: Literal["none", "fixed", "dynamic"] = "none"
    """Members that only back the others up: rounds go on without the slowest `n_backup`, or without as many as pays."""
    n_backup: int = Field(default=0, ge=0, le=1023)
    peers_max: int = Field(default=32, ge=1, le=1024)
    snapshot_codec: Literal["fp32", "fp16", "bf16", "int8", "dynamic8"] = "fp32"
    """What newcomers download the state in. Unless fp32, every replica rounds its own state when a copy is taken."""

    @model_validator(mode="after")
    def _can_start(self) -> Group:
        if self.start_peers > self.peers_max:
            raise ValueError(f"start_peers = {self.start_peers} exceeds peers_max = {self.peers_max}")
        return self

    @model_validator(mode="after")
    def _can_back_up(self) -> Group:
        if self.strict and self.backup != "none":
            raise ValueError(f"strict waits for everybody, backup = {self.backup!r} does not: choose one of them")
        if (self.backup == "fixed") != (self.n_backup > 0):
            raise ValueError(
                f"n_backup = {self.n_backup} with backup = {self.backup!r}: fixed needs 1 or more, others 0"
            )
        return self

    def contributions_min(self, n_roster: int) -> int:
        """How many contributions make a round count."""
        return max(1, math.ceil(self.quorum_fraction * n_roster - 1e-9))  # .55 * 100 is above 55

    def forks(self, n_roster: int) -> bool:
        """Whether a minority of a roster goes on as a lineage of its own."""
        return self.on_split == "fork" or (self.on_split == "auto" and n_roster <= 2)


class Pipeline(_Table):
    """How the model is cut. One stage: every peer holds all of it."""

    stages: int = Field(default=1, ge=1, le=64)
    starts: list[int] = Field(default_factory=list, max_length=64)
    """The first layer of each stage, ascending from 0; empty: the dearest stage is as cheap as can be."""
    microbatches: int = Field(default=8, ge=1, le=4096)
    """Of a step, in all; each of `data.batch_size` samples, whoever is there."""
    activations: Literal["int8", "fp16", "none"] = "int8"
    """How tensors travel between stages."""
    schedule: Literal["credit", "gpipe", "1f1b", "zero-bubble"] = "credit"
    """In which order a trainer asks for the passes of its microbatches."""
    mode: Literal["synchronous", "stash", "compensate", "predict", "compensate-predict"] = "synchronous"
    """Whether trainers wait for each step to be decided before they begin the next one's microbatches. If not,
    gradients come up to one step late, at the weights that they were forwarded with (stash); spike compensation and
    linear weight prediction make up for the delay."""
    rebalance_every_s: float = Field(default=300.0, ge=0, le=86400.0)
    """At most one replica moves to a slower stage in this time; 0: never."""
    restore_after_s: float = Field(default=60.0, ge=0, le=86400.0)
    """A stage without living replicas waits so long for its newest state before it goes on from an older checkpoint."""

    @model_validator(mode="after")
    def _has_stages(self) -> Pipeline:
        if self.mode != "synchronous" and self.stages == 1:
            raise ValueError(f"mode = {self.mode!r} is for pipelines: set stages to 2 or more, or leave mode out")
        ascends = self.starts[:1] == [0] and self.starts == sorted(set(self.starts))
        if self.starts and not (ascends and len(self.starts) == self.stages):
            raise ValueError(
                f"starts = {self.starts}: name one layer for each of {self.stages} stages, ascending from 0, or set "
                "stages to as many"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_ever(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs that don't use `mode` or `starts` keep the text, and so the run id, that they had before those."""
        tables: dict[str, Any] = dump(self)
        if self.mode == "synchronous":
            del tables["mode"]
        if not self.starts:
            del tables["starts"]
        return tables


class AdmissionPolicy(_Table):
    """Who may take part."""

    policy: Literal["open", "ticket"] = "ticket"


class Limits(_Table):
    """Bounds and intervals."""

    max_payload_bytes: int = Field(default=256 << 20, ge=1 << 10, le=8 << 30)
    """Longest contribution that is accepted."""
    checkpoint_every_steps: Steps = 50
    eval_every_steps: Steps = 50
    keep_checkpoints: int = Field(default=3, ge=1, le=1000)


class Manifest(_Table):
    """Everything that the peers of a run must agree on. Build it with `manifest_of`, or read it with `parse`."""

    run: Run
    task: TaskChoice
    method: MethodChoice
    schedule: Schedule
    data: Data
    group: Group = Field(default_factory=Group)
    pipeline: Pipeline = Field(default_factory=Pipeline)
    admission: AdmissionPolicy = Field(default_factory=AdmissionPolicy)
    limits: Limits = Field(default_factory=Limits)

    @model_validator(mode="after")
    def _fits_together(self) -> Manifest:
        if self.schedule.warmup_steps > self.run.steps:
            raise ValueError(
                f"schedule.warmup_steps = {self.schedule.warmup_steps} exceeds run.steps = {self.run.steps}"
            )
        if self.pipeline.stages > 1 and self.group.snapshot_codec != "fp32":
            raise ValueError("group.snapshot_codec must be fp32 in a pipeline: a stage's copies are exact")
        return self


@dataclass(frozen=True, kw_only=True)
class SignedManifest:
    """A manifest whose signature was checked."""

    manifest: Manifest
    run_id: str
    """32 hex digits."""
    owner: PeerId
    text: str
    """The TOML as signed, signature included: what is passed on to others."""


def manifest_of(tables: Mapping[str, Any]) -> Manifest:
    """Check tables of plain values. Raises InvalidManifest, UnknownName."""
    try:
        return Manifest.model_validate(dict(tables))
    except ValidationError as error:
        raise manifest_error(error, Manifest) from None


def compose(manifest: Manifest, identity: Identity) -> str:
    """The manifest as TOML with every default spelt out, signed by the run's owner."""
    body = tomli_w.dumps(manifest.model_dump()) + "\n"
    return body + _signature_table(body, identity)


def sign_text(body: str, identity: Identity) -> str:
    """Sign a manifest that a person wrote, comments and all. Raises InvalidManifest, UnknownName."""
    if _SIGNATURE_TABLE.search(body):
        raise InvalidManifest("the manifest already has a [signature]: remove that table before signing anew")
    text = body.rstrip("\n") + "\n\n"
    manifest_of(_toml(text))
    return text + _signature_table(text, identity)


def parse(text: str) -> SignedManifest:
    """Read a signed manifest. Raises InvalidManifest, UnknownName, BadSignature."""
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise InvalidManifest(f"the manifest has more than {MAX_TEXT_BYTES} bytes: shorten it")
    starts = [match.start() for match in _SIGNATURE_TABLE.finditer(text)]
    if not starts:
        raise InvalidManifest("the manifest ends without a [signature]: have its owner sign it (gossamer run new)")
    body, tail = text[: starts[-1]], text[starts[-1] :]
    tables = _toml(body)
    owner, signature = _signature(_toml(tail))
    try:
        verify(owner, DOMAIN, body.encode(), signature)
    except BadSignature:
        raise BadSignature(
            f"the manifest was changed after {owner} signed it: get the original, or make a new run (gossamer run new)"
        ) from None
    return SignedManifest(manifest=manifest_of(tables), run_id=run_id_of(body), owner=owner, text=text)


def run_id_of(body: str) -> str:
    """The run id of a manifest's text before its signature."""
    return hashlib.sha256(body.encode()).hexdigest()[:32]


def _signature_table(body: str, identity: Identity) -> str:
    signature = identity.sign(DOMAIN, body.encode()).hex()
    return f'[signature]\nowner = "{identity.peer_id}"\nsignature = "{signature}"\n'


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidManifest(f"the manifest is not TOML: {error}; correct it") from None
    except RecursionError:
        raise InvalidManifest("the manifest is nested too deeply: a value may not hold tables of tables") from None


def _signature(tail: dict[str, Any]) -> tuple[PeerId, bytes]:
    table = tail["signature"]
    if len(tail) != 1 or not isinstance(table, dict) or sorted(table) != ["owner", "signature"]:
        raise InvalidManifest(
            "after [signature] the manifest may hold owner and signature only: move the rest before it"
        )
    try:
        return parse_peer_id(str(table["owner"])), bytes.fromhex(str(table["signature"]))
    except (InvalidMessage, ValueError) as error:
        raise InvalidManifest(f"the manifest's [signature] cannot be read: {error}; get the original") from None
