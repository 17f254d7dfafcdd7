"""Anomalies: moments at which the market behaved unlike its recent self, found as they happen.

Takes what any market gives once per beat (a bar, a second of a book): six channels, each held against
its own last beats. A beat's z-scores and anomalies depend on it and the beats before it alone, so a
later beat never changes an earlier anomaly or its id.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from math import fsum, isfinite, nan, sqrt
from typing import Annotated, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from finllm.domain.errors import InputError, SettingsError
from finllm.domain.identity import content_id

CHANNELS: Final = ("return", "volatility", "spread", "depth", "flow", "volume")
"""Of a beat: mid return in bps; log realised volatility or range; log spread; log depth of both sides;
net flow (buying positive); log volume. NaN = the market does not tell."""
N_CHANNELS: Final = len(CHANNELS)
BEFORE: Final = 16
"""Beats of a window before the beat it is about."""
AFTER: Final = 16
"""Beats of a window from that beat on."""
MOST_Z: Final = 20.0

Values = npt.NDArray[np.float64]
"""[N_CHANNELS]."""
Window = npt.NDArray[np.float64]
"""z-scores, [BEFORE + AFTER, N_CHANNELS]; NaN = not measured, or not known at the time of asking."""

_SIDE: Final = (0, 1, 1, -1, 0, 1)
"""Which way a channel must leave its past to be an anomaly: 0 = either, -1 = a drain."""
_LEAST_SPREAD: Final = (1e-3, 0.1, 0.05, 0.05, 0.05, 0.1)
"""Least standard deviation of a channel: what never moved is not thrown by its first flutter."""


class AnomalySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a beat is an anomaly."""

    memory: Annotated[int, Meta(ge=8)] = 120
    """Beats that say what is usual."""
    warm: Annotated[int, Meta(ge=4)] = 30
    """Beats before anything is called unusual."""
    threshold: Annotated[float, Meta(gt=0.0)] = 4.0
    """Standard deviations."""
    quiet: Annotated[int, Meta(ge=1)] = 8
    """Beats without an exceedance that end a move."""
    longest: Annotated[int, Meta(ge=1)] = 32
    """Beats after which a move that goes on is another one."""
    keep: Annotated[int, Meta(ge=BEFORE + AFTER)] = 65_536
    """Beats whose z-scores can be asked for."""

    def __post_init__(self) -> None:
        """Check what one field says against another.

        Raises:
            SettingsError: If nothing could ever be usual.
        """
        if self.warm > self.memory:
            raise SettingsError(
                f"{self.warm} is more than is remembered ({self.memory})",
                place="anomalies.warm",
                mend="Lower it, or raise anomalies.memory.",
            )


class Anomaly(msgspec.Struct, frozen=True, kw_only=True):
    """One channel of one instrument, beyond its usual range."""

    anomaly_id: str
    """Hash of instrument, channel and beat."""
    move_id: str
    """The anomaly that began the move this one belongs to."""
    instrument: str
    channel: str
    """One of `CHANNELS`."""
    ts_start: int
    """When its beat began, ns UTC."""
    ts_recv: int
    """When it could first be known, ns UTC."""
    value: float
    z_score: float
    """Against the beats before, at most `MOST_Z` either way."""


class _Channel:
    """The recent past of one channel: the measured ones among its last beats."""

    def __init__(self, number: int, settings: AnomalySettings) -> None:
        self._has_mean = number > 0  # a mean return is noise at any beat
        self._least = _LEAST_SPREAD[number]
        self._warm = settings.warm
        self._threshold = settings.threshold
        self._past: deque[float] = deque(maxlen=settings.memory)
        self._sum = self._squares = 0.0
        self._since_exact = 0

    def score(self, value: float) -> float:
        """Return a beat's z-score against the beats before it, NaN if it has none, and take it in."""
        if not isfinite(value):
            return nan
        n = len(self._past)
        if n < self._warm:
            self._add(value)
            return nan
        mean = self._sum / n if self._has_mean else 0.0
        variance = self._squares / n - (mean * mean if self._has_mean else 0.0)
        spread = max(sqrt(max(variance, 0.0)), self._least)
        # What is unusual enters the past only as far as it was thinkable, or one shock would hide the next.
        bound = self._threshold * spread
        self._add(min(max(value, mean - bound), mean + bound))
        return min(max((value - mean) / spread, -MOST_Z), MOST_Z)

    def _add(self, value: float) -> None:
        past = self._past
        if len(past) == past.maxlen:
            old = past[0]
            self._sum -= old
            self._squares -= old * old
        past.append(value)
        self._sum += value
        self._squares += value * value
        self._since_exact += 1
        if self._since_exact >= 64:  # running sums drift
            self._sum, self._squares = fsum(past), fsum(one * one for one in past)
            self._since_exact = 0


class AnomalyDetector:
    """The recent past of one instrument, and what left it.

    Args:
        instrument: Instrument key.
        settings: When a beat is an anomaly.
    """

    def __init__(self, instrument: str, settings: AnomalySettings | None = None) -> None:
        self.instrument = instrument
        self.settings = settings or AnomalySettings()
        self._channels = [_Channel(i, self.settings) for i in range(N_CHANNELS)]
        self._n = 0
        self._forgotten = 0
        self._starts: list[int] = []
        self._recvs: list[int] = []
        self._zs: list[tuple[float, ...]] = []
        self._move = ""
        self._move_began = 0
        self._last_out = [-(2**40)] * N_CHANNELS

    def push(self, ts_start: int, ts_recv: int, values: Values) -> tuple[Anomaly, ...]:
        """Take one beat and return the anomalies that it begins, in the order of `CHANNELS`.

        A channel that stays out of range is told once; it must be back for `quiet` beats to be told again.

        Args:
            ts_start: When the beat began, later than the one before.
            ts_recv: When it was complete and known, no earlier than the one before.
            values: [N_CHANNELS]; what is not finite counts as not measured.

        Raises:
            InputError: If the beats are out of order or the shape is another.
        """
        if (
            values.shape != (N_CHANNELS,)
            or ts_recv < ts_start
            or not self._follows(ts_start, ts_recv)
        ):
            raise InputError(
                f"a beat from {ts_start} to {ts_recv} of shape {values.shape} does not follow",
                place=self.instrument,
                mend=f"Push beats in order of time, each of {N_CHANNELS} channels.",
            )
        given = values.tolist()
        z = tuple(one.score(value) for one, value in zip(self._channels, given, strict=True))
        self._n += 1
        self._remember(ts_start, ts_recv, z)
        return self._told(given, z)

    def _follows(self, ts_start: int, ts_recv: int) -> bool:
        return not self._starts or (ts_start > self._starts[-1] and ts_recv >= self._recvs[-1])

    def _remember(self, ts_start: int, ts_recv: int, z: tuple[float, ...]) -> None:
        self._starts.append(ts_start)
        self._recvs.append(ts_recv)
        self._zs.append(z)
        if len(self._starts) >= 2 * self.settings.keep:
            n = len(self._starts) - self.settings.keep
            del self._starts[:n], self._recvs[:n], self._zs[:n]
            self._forgotten += n

    def _told(self, values: list[float], z: tuple[float, ...]) -> tuple[Anomaly, ...]:
        s = self.settings
        found = []
        ts_start, ts_recv = self._starts[-1], self._recvs[-1]
        quiet_since = max(self._last_out)
        for i, (name, side) in enumerate(zip(CHANNELS, _SIDE, strict=True)):
            score = z[i]
            if not (score * side if side else abs(score)) >= s.threshold:
                continue
            was_out = self._n - self._last_out[i] <= s.quiet
            self._last_out[i] = self._n
            key = content_id("anomaly", self.instrument, name, ts_start)
            if self._n - quiet_since > s.quiet or self._n - self._move_began >= s.longest:
                self._move, self._move_began, quiet_since = key, self._n, self._n
            elif was_out:
                continue
            found.append(
                Anomaly(
                    anomaly_id=key,
                    move_id=self._move,
                    instrument=self.instrument,
                    channel=name,
                    ts_start=ts_start,
                    ts_recv=ts_recv,
                    value=values[i],
                    z_score=score,
                )
            )
        return tuple(found)

    def position(self, ts: int, as_of: int = 2**62) -> float:
        """Return where an instant lies on this market's own clock, in beats since the first one pushed.

        Between two beats (at night) it is the end of the earlier one, likewise after the last that was
        known at `as_of`; before the first that is remembered it is that one's start.
        """
        at = min(bisect_right(self._starts, ts), bisect_right(self._recvs, as_of)) - 1
        if at < 0:
            return float(self._forgotten)
        length = max(self._recvs[at] - self._starts[at], 1)
        return self._forgotten + at + min((ts - self._starts[at]) / length, 1.0)

    def window(self, ts_start: int, as_of: int = 2**62) -> Window:
        """Return the z-scores around a beat, as far as they were known at an instant.

        Args:
            ts_start: When the beat began.
            as_of: Beats received later are NaN.

        Raises:
            InputError: If no such beat is remembered.
        """
        at = bisect_left(self._starts, ts_start)
        if at == len(self._starts) or self._starts[at] != ts_start:
            raise InputError(
                f"no beat began at {ts_start}",
                place=self.instrument,
                mend="Ask about the beat of an anomaly that is still remembered.",
            )
        out = np.full((BEFORE + AFTER, N_CHANNELS), np.nan)
        for row in range(BEFORE + AFTER):
            i = at - BEFORE + row
            if 0 <= i < len(self._starts) and self._recvs[i] <= as_of:
                out[row] = self._zs[i]
        return out
