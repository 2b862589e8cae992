"""How long machines stay, and when they come back."""

from __future__ import annotations

import math
import random

from .fleet import HOUR_S, Session

DAY_S = 24 * HOUR_S

UPTIME_MEDIAN_S = 1.0 * HOUR_S
"""*Assumed*, as the next."""
UPTIME_MEAN_S = 6.1 * HOUR_S
"""Of preemptible instances: *assumed*, after the shape of published spot traces (most die within the first hours, some
live for days). Two numbers determine a log-normal: median = exp(mu), mean = exp(mu + sigma^2 / 2)."""

DOWNTIME_MEAN_S = 0.25 * HOUR_S
"""Until a preempted instance is replaced; *assumed*."""

SHARE_ON_BY_HOUR = (
    *(0.20, 0.15, 0.12, 0.11, 0.11, 0.13, 0.20, 0.30, 0.38, 0.42, 0.44, 0.45),
    *(0.46, 0.46, 0.46, 0.47, 0.50, 0.55, 0.62, 0.66, 0.66, 0.60, 0.46, 0.30),
)
"""Share of volunteers' PCs that are on at each local hour: *assumed*, with the evening peak and the night trough of
desktop grids (compare Javadi et al. 2011 on SETI@home availability)."""

STAY_MEAN_S = 2.5 * HOUR_S
"""Mean stay of a volunteer's PC; *assumed*."""


def log_normal(median: float, mean: float) -> tuple[float, float]:
    """(mu, sigma) of the log-normal with this median and mean; mean > median."""
    return math.log(median), math.sqrt(2 * math.log(mean / median))


def preemptible(choose: random.Random, *, duration_s: float, first_on: bool = True) -> tuple[Session, ...]:
    """Up and down by turns: heavy-tailed up-times, exponential gaps. The machine is found at an instant of its life
    that is not special: what is left of the first up-time is a uniform share of one drawn in proportion to length."""
    mu, sigma = log_normal(UPTIME_MEDIAN_S, UPTIME_MEAN_S)
    sessions, now_s = [], 0.0
    up_s = choose.random() * choose.lognormvariate(mu + sigma**2, sigma)
    if not first_on:
        now_s = choose.expovariate(1 / DOWNTIME_MEAN_S)
        up_s = choose.lognormvariate(mu, sigma)
    while now_s < duration_s:
        sessions.append(Session(start_s=now_s, end_s=now_s + max(1.0, up_s)))
        now_s += max(1.0, up_s) + 1.0 + choose.expovariate(1 / DOWNTIME_MEAN_S)
        up_s = choose.lognormvariate(mu, sigma)
    return tuple(sessions)


def by_hour(
    choose: random.Random, *, duration_s: float, start_hour: float, stay_s: float = STAY_MEAN_S
) -> tuple[Session, ...]:
    """On and off so that the share of such machines which are on follows the hour.

    A machine that is on leaves at rate 1 / stay; one that is off comes at the rate that keeps the share of the hour.
    """
    sessions: list[Session] = []
    on = choose.random() < _share(start_hour)
    began_s, now_s = 0.0, 0.0
    while now_s < duration_s:
        share = _share(start_hour + now_s / HOUR_S)
        rate = 1 / stay_s if on else share / (1 - share) / stay_s
        left_of_hour_s = HOUR_S - (now_s + start_hour * HOUR_S) % HOUR_S
        wait_s = choose.expovariate(rate)
        if wait_s >= left_of_hour_s:  # the rate changes: draw anew, which is right for exponential waits
            now_s += left_of_hour_s
            continue
        now_s += max(1.0, wait_s)
        if on:
            sessions.append(Session(start_s=began_s, end_s=now_s))
        began_s, on = now_s + (0.0 if not on else 1.0), not on
        now_s = max(now_s, began_s)
    if on and began_s < duration_s:
        sessions.append(Session(start_s=began_s, end_s=math.inf))
    return tuple(sessions)


def _share(hour: float) -> float:
    return SHARE_ON_BY_HOUR[int(hour) % 24]
