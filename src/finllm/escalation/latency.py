"""How long a reasoner takes: what we believe of it, and a model of it for bare tapes.

Neither reads a clock: the belief is told durations, the model draws them from a question's id, so
that a replay thinks exactly as long each time.
"""

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from hashlib import blake2b
from typing import Final

import msgspec

from finllm.domain.errors import SettingsError
from finllm.domain.units import NS_PER_MS

Z_95: Final = 1.6448536269514722
"""The standard normal's 0.95 quantile."""

LEAST_MS: Final = 0.001
MOST_MS: Final = 3.6e6


class LatencySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is assumed of a reasoner before it has answered."""

    p50_ms: float = 5.0
    """Median of a reply, milliseconds."""
    p95_ms: float = 20.0
    """95th percentile, milliseconds; at least the median."""
    window: int = 256
    """Replies remembered."""
    n_prior: int = 20
    """Replies that the assumption weighs as much as; real ones push them out."""

    def __post_init__(self) -> None:
        if not LEAST_MS <= self.p50_ms <= self.p95_ms <= MOST_MS:
            raise SettingsError(
                f"p50 {self.p50_ms} ms and p95 {self.p95_ms} ms are no latency",
                place="latency",
                mend=f"Give {LEAST_MS:g} <= p50_ms <= p95_ms <= {MOST_MS:g}.",
            )
        if not 1 <= self.n_prior <= self.window:
            raise SettingsError(
                f"{self.n_prior} assumed replies do not fit a window of {self.window}",
                place="latency.n_prior",
                mend="Give 1 <= n_prior <= window.",
            )


class LatencyBelief:
    """Running p50 and p95 of a reasoner's replies over a bounded window.

    Starts with `n_prior` quantiles of the assumed lognormal in the window, so the first real
    replies neither rule alone nor are ignored. Same observations, same belief.
    """

    def __init__(self, settings: LatencySettings | None = None) -> None:
        self._settings = settings or LatencySettings()
        model = LatencyModel(self._settings)
        n = self._settings.n_prior
        prior = [model.quantile((i + 0.5) / n) for i in range(n)]
        self._recent: deque[int] = deque(prior)
        self._sorted = sorted(prior)

    def observe(self, duration_ns: int) -> None:
        """Take in one reply's duration. A negative one (a clock set back) counts as zero."""
        duration_ns = max(0, duration_ns)
        if len(self._recent) == self._settings.window:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
        self._recent.append(duration_ns)
        insort(self._sorted, duration_ns)

    @property
    def p50_ns(self) -> int:
        """Return the median in nanoseconds."""
        return self._rank(0.5)

    @property
    def p95_ns(self) -> int:
        """Return the 95th percentile in nanoseconds."""
        return self._rank(0.95)

    def share_within(self, duration_ns: int) -> float:
        """Return the share of replies that take at most so long."""
        return bisect_right(self._sorted, duration_ns) / len(self._sorted)

    def _rank(self, level: float) -> int:
        return self._sorted[max(0, math.ceil(level * len(self._sorted)) - 1)]


class LatencyModel:
    """A reply's time as a pure function of its question's id: lognormal, seeded by the id."""

    def __init__(self, settings: LatencySettings | None = None) -> None:
        self.settings = settings or LatencySettings()
        self._mu = math.log(self.settings.p50_ms * NS_PER_MS)
        self._sigma = math.log(self.settings.p95_ms / self.settings.p50_ms) / Z_95

    def draw(self, question_id: str) -> int:
        """Return the reply's duration in nanoseconds; the same id gives the same duration."""
        digest = blake2b(question_id.encode(), digest_size=8, person=b"finllm-latency").digest()
        return self.quantile(((int.from_bytes(digest, "big") >> 11) + 0.5) / 2.0**53)

    def quantile(self, level: float) -> int:
        """Return the duration in nanoseconds below which a share `level` of replies lies."""
        return max(1, round(math.exp(self._mu + self._sigma * inverse_normal(level))))


_CENTRE_TOP: Final = (
    -3.969683028665376e01, 2.209460984245205e02, -2.759285104469687e02,
    1.383577518672690e02, -3.066479806614716e01, 2.506628277459239e00,
)  # fmt: skip
_CENTRE_BOTTOM: Final = (
    -5.447609879822406e01, 1.615858368580409e02, -1.556989798598866e02,
    6.680131188771972e01, -1.328068155288572e01, 1.0,
)  # fmt: skip
_TAIL_TOP: Final = (
    -7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e00,
    -2.549732539343734e00, 4.374664141464968e00, 2.938163982698783e00,
)  # fmt: skip
_TAIL_BOTTOM: Final = (
    7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e00,
    3.754408661907416e00, 1.0,
)  # fmt: skip
_TAIL: Final = 0.02425


def inverse_normal(level: float) -> float:
    """Return the standard normal's quantile at a level strictly between 0 and 1.

    Source:
        Acklam (2003), "An algorithm for computing the inverse normal cumulative distribution
        function"; relative error below 1.15e-9.
    """
    if level > 1.0 - _TAIL:
        return -inverse_normal(1.0 - level)
    if level < _TAIL:
        r = math.sqrt(-2.0 * math.log(level))
        return _polynomial(_TAIL_TOP, r) / _polynomial(_TAIL_BOTTOM, r)
    r = level - 0.5
    return r * _polynomial(_CENTRE_TOP, r * r) / _polynomial(_CENTRE_BOTTOM, r * r)


def _polynomial(coefficients: tuple[float, ...], x: float) -> float:
    total = 0.0
    for coefficient in coefficients:
        total = total * x + coefficient
    return total
