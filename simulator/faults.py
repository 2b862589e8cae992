"""What can go wrong in a scenario, as it is written down. `striking` says how each is done.

Faults may overlap: what one has done to a machine or to its connections lasts until the last that asks for it is over.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Seconds = Annotated[float, Field(ge=0, le=1e8)]


class _Fault(BaseModel):
    """When, how often, and whom. Who is not named is drawn anew each time, from the scenario's seed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    at_s: Seconds | None = None
    after_step: Annotated[int, Field(ge=0)] | None = None
    """As soon as some peer has applied so many updates; default: at the beginning."""
    every_s: Annotated[float, Field(gt=0, le=1e8)] | None = None
    """Again and again, so long after the one before began."""
    times: int = Field(default=1_000_000, ge=1)
    """At most, with every_s."""
    peers: tuple[int, ...] = ()
    """By number."""
    n: int = Field(default=1, ge=1)
    """Or so many, drawn among those that are up."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Or this share of them, and one at least."""
    region: str | None = None
    """Draw within this region only."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> _Fault:
        if self.at_s is not None and self.after_step is not None:
            raise ValueError("give at_s or after_step, not both")
        if "times" in self.model_fields_set and self.every_s is None:
            raise ValueError("times is how often with every_s: give that, or leave times out")
        if self.n > 1 and self.share is not None:
            raise ValueError("give n or share, not both")
        if len({*self.peers}) < len(self.peers):
            raise ValueError("peers names somebody twice")
        is_drawn = self.n > 1 or self.share is not None or self.region is not None
        if self.peers and is_drawn and self._strikes_all_named:
            raise ValueError("peers are named, so nobody is drawn: leave n, share and region out")
        return self

    _strikes_all_named: ClassVar[bool] = True


class Crash(_Fault):
    """Processes die; the operating system resets their connections unless `silent`. Who is down already stays down for
    at least as long, and nobody comes back while the fleet has it off."""

    kind: Literal["crash"] = "crash"
    silent: bool = False
    back_after_s: Seconds | None = None
    """None: never."""
    disk: Literal["kept", "lost"] = "kept"
    """lost: another machine comes back, with a new key and an empty folder. Peer 0, the owner's, keeps both."""


class Preempt(_Fault):
    """A wave: machines are taken away one after the other within `over_s`, and come back."""

    kind: Literal["preempt"] = "preempt"
    over_s: Seconds = 30.0
    back_after_s: Seconds | None = 120.0


class Partition(_Fault):
    """These peers and the rest do not reach each other; `one_way`: only what these send is lost."""

    kind: Literal["partition"] = "partition"
    for_s: Seconds = 30.0
    one_way: bool = False


class Flap(_Fault):
    """A partition that comes and goes."""

    kind: Literal["flap"] = "flap"
    cut_s: Annotated[float, Field(gt=0)] = 3.0
    whole_s: Annotated[float, Field(gt=0)] = 7.0
    for_s: Seconds = 60.0


class Stall(_Fault):
    """Nothing moves over their lines."""

    kind: Literal["stall"] = "stall"
    for_s: Seconds = 20.0


class Slow(_Fault):
    """Lines and processors at a fraction of their speed. Of several that overlap the slowest counts."""

    kind: Literal["slow"] = "slow"
    line_factor: float = Field(default=1.0, gt=0, le=1)
    compute_factor: float = Field(default=1.0, gt=0, le=1)
    for_s: Seconds = 60.0

    @model_validator(mode="after")
    def _slows_something(self) -> Slow:
        if self.line_factor == self.compute_factor == 1:
            raise ValueError("nothing is slowed: set line_factor or compute_factor below 1")
        return self


class Skew(_Fault):
    """Wall clocks jump."""

    kind: Literal["skew"] = "skew"
    by_s: float = Field(default=2.0, ge=-1e6, le=1e6)


class FlipBits(_Fault):
    """Bad memory: one bit of what they send is flipped now and then, before it is hashed or signed by the transport."""

    kind: Literal["flip_bits"] = "flip_bits"
    rate: float = Field(default=0.01, gt=0, le=1)
    """Of messages."""
    for_s: Seconds = 60.0


class RotDisk(_Fault):
    """One bit of the newest checkpoint is flipped."""

    kind: Literal["rot_disk"] = "rot_disk"


class FullDisk(_Fault):
    """Nothing more can be written through to their disks."""

    kind: Literal["full_disk"] = "full_disk"
    for_s: Seconds = 60.0


class Lie(_Fault):
    """They contribute what they should not. A peer may tell several lies at once: it puts one on top of the other.

    sign_flip  the opposite of what they should send
    scale      `factor` times that; below 0 it points the other way as well
    noise      noise, as long as what they should send
    zero       nothing
    constant   `value` everywhere
    claim      what they should send, said to be the mean over `factor` times as many samples
    garbage    what no method can read

    Dense contributions (`allreduce`, `local`, `diloco`) are altered as they are sent. With other methods the gradient
    is, between the peer's own clipping and whatever the method makes of it; a method that takes steps of its own with
    it then hardly notices its size.
    """

    kind: Literal["lie"] = "lie"
    attack: Literal["sign_flip", "scale", "noise", "zero", "constant", "claim", "garbage"] = "sign_flip"
    factor: float = Field(default=100.0, ge=-1e9, le=1e9)
    """Of `scale` and `claim`; a claim is of 1 or more."""
    value: float = Field(default=-50.0, ge=-1e30, le=1e30)
    """Of `constant`; a gradient's is cut to 1e24."""
    for_s: Seconds = 1e8

    @model_validator(mode="after")
    def _needs_what_it_has(self) -> Lie:
        if self.attack == "claim" and self.factor < 1:
            raise ValueError(f"a claim of {self.factor:g} times the samples: set factor to 1 or more")
        for name, attacks in (("factor", ("scale", "claim")), ("value", ("constant",))):
            if getattr(self, name) != type(self).model_fields[name].default and self.attack not in attacks:
                raise ValueError(f"{name} is of {' and '.join(attacks)} only, not of {self.attack}")
        return self


class BadLeader(_Fault):
    """What they say as leaders is wrong: nonsense that does not parse, or garbled by one bit.

    Rounds bear both, for proposals are signed. What they promise nothing against is a leader that signs what is wrong.
    """

    kind: Literal["bad_leader"] = "bad_leader"
    how: Literal["nonsense", "garbled"] = "nonsense"
    for_s: Seconds = 1e8


class BadDonor(_Fault):
    """The state that they hand to newcomers is garbled."""

    kind: Literal["bad_donor"] = "bad_donor"
    for_s: Seconds = 1e8


StormKind = Literal[
    "crash",
    "preempt",
    "partition",
    "flap",
    "stall",
    "slow",
    "skew",
    "flip_bits",
    "rot_disk",
    "full_disk",
    "lie",
    "bad_leader",
    "bad_donor",
]


class Storm(_Fault):
    """Faults drawn at random, on average `mean_s` apart; what, whom and how long follows from the seed. Each strikes
    `n` machines, or a `share`, of those of `peers` and `region` that are up; default: one of all.

    Nobody dies or begins to garble what it sends while that would leave the committed roster without a majority that
    lives and does not.
    """

    kind: Literal["storm"] = "storm"
    mean_s: Annotated[float, Field(gt=0)] = 10.0
    for_s: Seconds = 60.0
    kinds: tuple[StormKind, ...] = ("crash", "partition", "flap", "stall", "slow", "rot_disk", "full_disk")
    """Each as often as it stands here. Seeds are kept that found something: the default stays as it is."""
    _strikes_all_named: ClassVar[bool] = False


Fault = Annotated[
    Crash
    | Preempt
    | Partition
    | Flap
    | Stall
    | Slow
    | Skew
    | FlipBits
    | RotDisk
    | FullDisk
    | Lie
    | BadLeader
    | BadDonor
    | Storm,
    Field(discriminator="kind"),
]
