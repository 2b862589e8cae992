"""How a gateway treats its devices."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...protocol.errors import UsageError
from ..rounds.place import Rules

STALENESS_LIMIT = 15
"""A payload holds contributions of so many rounds and one."""


@dataclass(frozen=True, kw_only=True)
class GatewayOptions:
    """Validated when made; raises UsageError."""

    devices_min: int = 1
    """A round waits until so many devices are here."""
    devices_per_round: int = 0
    """So many contributions end a round; 0: those of all devices that are here when it opens."""
    backups: int = 0
    """So many more devices are asked, and the slowest are not waited for."""
    staleness_max: int = 3
    """A contribution that comes so many rounds late still counts, in the next update. 0: late is lost."""
    round_every_s: float = 0.0
    """No round among devices opens sooner after the one before: what their batteries and links are spared."""
    heartbeat_s: float = 60.0
    """A device hears from its gateway at least so often."""
    patience_floor_s: float = 2.0
    """No round is closed sooner while devices that were asked have not answered."""
    patience_initial_s: float = 60.0
    """Until the durations of some rounds are known: first rounds download the model."""

    audit_rate: float = 0.0
    """Share of the submissions that are recomputed; devices that submitted something else are shut out."""

    def __post_init__(self) -> None:
        for name, least in (("devices_min", 1), ("devices_per_round", 0), ("backups", 0)):
            if not least <= getattr(self, name) <= 4096:
                raise UsageError(f"{name} is {getattr(self, name)}: use {least} to 4096")
        if not 0 <= self.staleness_max <= STALENESS_LIMIT:
            raise UsageError(f"staleness_max is {self.staleness_max}: use 0 to {STALENESS_LIMIT}")
        if not 0 <= self.audit_rate <= 1:
            raise UsageError(f"audit_rate is {self.audit_rate}: use 0 to 1")
        if not 0 <= self.round_every_s <= 86400:
            raise UsageError(f"round_every_s is {self.round_every_s}: use 0 to 86400")
        if not 0.01 <= self.heartbeat_s <= 3600 or not 0 < self.patience_floor_s <= self.patience_initial_s:
            raise UsageError("heartbeat_s is 0.01 to 3600, and patience_floor_s above 0 and at most patience_initial_s")

    def rules_for(self, group: Rules) -> Rules:
        """The group's rules with the patience for a first round that opens when its devices may be asked again."""
        if not self.round_every_s:
            return group
        first_s = self.round_every_s + self.patience_initial_s
        return replace(group, patience_initial_s=max(group.patience_initial_s, first_s))
