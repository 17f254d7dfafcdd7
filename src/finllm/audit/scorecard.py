"""The records that an examination gives: score rows, the refinement ledger, what was left out."""

from enum import StrEnum

import msgspec

from finllm.runtime.tally import Tally

Interval = tuple[float, float]
"""Lower and upper end, 95 %."""

ALL = "all"
"""Regime or instrument of a pooled row."""
SWITCHED = "switched"
"""Regime of the rows issued within ten minutes after a change of regime, whichever it is."""


class Stage(StrEnum):
    """Which of a forecast's versions is scored."""

    EDGE = "edge"
    """The base of version 1."""
    IN_FORCE = "in_force"
    """Whatever stood at each moment between issue and `valid_until`, weighted by time."""
    FINAL = "final"
    """What stood at `valid_until`."""


class Finding(StrEnum):
    """What a comparison with a baseline comes to."""

    BETTER = "better"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """One figure against each baseline; None where there is none."""

    climatology: float | None = None
    ewma: float | None = None
    obi: float | None = None


class IntervalAgainst(msgspec.Struct, frozen=True, kw_only=True):
    """The interval of a skill against each baseline."""

    climatology: Interval | None = None
    ewma: Interval | None = None
    obi: Interval | None = None


class FindingAgainst(msgspec.Struct, frozen=True, kw_only=True):
    """What the comparison with each baseline comes to."""

    climatology: Finding = Finding.INCONCLUSIVE
    ewma: Finding = Finding.INCONCLUSIVE
    obi: Finding = Finding.INCONCLUSIVE


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of one stage of the forecasts of one instrument, horizon and regime."""

    instrument: str
    """Instrument key, or `all`."""
    horizon: str
    horizon_s: float
    regime: str
    """Regime at issue, `all`, or `switched`."""
    stage: Stage
    n: int
    """Forecasts scored; retracted and abstaining ones included."""
    n_eff: int
    """Independent forecasts that they are worth, see `intervals.effective_n`."""
    log_score: float
    """Nats, lower is better."""
    rps: float
    crps: float
    """Twice the mean pinball loss, bps."""
    brier: float
    """Summed over three classes; about uncertainty - resolution + reliability."""
    reliability: float
    resolution: float
    ece: float
    """Mean over the three classes of the gap between said and seen, equal-mass bins."""
    ece_bins: int
    ece_perfect: float
    """What a perfect forecaster would show on `n_eff` rows with these probabilities, on average."""
    ece_perfect_95: float
    """The value that a perfect forecaster exceeds one time in twenty."""
    ece_interval: Interval | None
    skill: Against
    """1 - log score / the baseline's, against baselines refitted as time went."""
    interval: IntervalAgainst
    p_value: Against
    """Diebold-Mariano, two-sided."""
    finding: FindingAgainst
    skill_crps: Against
    skill_hindsight: float | None
    """Against the label frequencies of this very sample, which nobody could have known."""
    interval_hindsight: Interval | None
    interval_crps: IntervalAgainst
    p_value_crps: Against
    finding_crps: FindingAgainst
    coverage_80: float
    """Share of outcomes in the central 80 % interval, its ends included."""
    coverage_80_spread: float
    """The same with an outcome that equals a quantile spread over the cells that touch it (`pit`)."""
    coverage_80_luck: Interval
    """Where the coverage of a true 80 % interval lies on `n_eff` rows, 95 % of the time; binomial."""
    width_80_bps: float
    pit: tuple[float, float, float, float, float, float]
    """Share of outcomes in each of the six cells that the quantiles cut."""
    mcc: float | None
    """Of the most probable class. Secondary: accuracy is cheap."""
    macro_f1: float
    ic: float | None
    """Correlation of p_up - p_down with the return."""
    ic_t: float | None
    """Its t statistic by Newey & West."""
    n_blocks: int
    block_s: float
    """Length of a bootstrap block, gaps in trading not counted."""
    tentative: bool
    """Fewer than 20 blocks: a hint, not a result."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """The gain of refinement on one horizon, all instruments."""

    horizon: str
    horizon_s: float
    n: int
    gain: float
    interval: Interval | None
    harm: float
    tentative: bool


class Refinement(msgspec.Struct, frozen=True, kw_only=True):
    """What the slow path earned and cost, all horizons and instruments together."""

    n: int
    gain: float
    """Log score of the edge less that in force, nats per forecast: above zero is better."""
    gain_sum: float
    """The same summed over forecasts, nats."""
    interval: Interval | None
    finding: Finding
    gain_outlook: float
    """Part of `gain` from version 1 as emitted, that is, the standing outlook."""
    gain_verdicts: float
    """Part of `gain` from later versions, while they stood."""
    share_of_always: float | None
    """Part of the gain of always asking; None without such a run, or when it gains nothing."""
    gain_if_all_asked: float | None
    """Estimate of `gain` had every notice been asked about that had any chance of it, from the chances with
    which questions were asked; None where fewer than ten were asked by chance."""
    gain_if_all_asked_sd: float | None
    """Its standard deviation."""
    explored: int
    """Questions asked by chance, so that what is refused stays measured."""
    unreachable: int
    """Notices held that had no chance of being asked: the estimate says nothing of them."""
    calls: int
    """Questions asked."""
    holds: int
    call_share: float
    """Questions among all that could have been asked."""
    harm: float
    """Block means below zero, each weighted by its share of forecasts, as a number above zero."""
    harm_share: float | None
    """Harm over gain; None unless there is a gain."""
    late: int
    """Verdicts that came after expiry; they weigh nothing."""
    late_share: float
    """Late ones among all revisions."""
    late_applied: int
    """Revisions applied at or after expiry: must be zero."""
    applied: int
    superseded: int
    refused: int
    touched: int
    """Scored forecasts with an applied revision."""
    gain_touched: float | None
    """Gain per touched forecast."""
    retracted: int
    retraction_precision: float | None
    """Share of retractions after which climatology scored better than what was withdrawn."""
    tokens: int
    energy_j: float
    energy_method: str
    gain_per_1000_tokens: float | None
    gain_per_joule: float | None
    n_blocks: int
    block_s: float
    tentative: bool
    by_horizon: tuple[Share, ...]


class Intake(msgspec.Struct, frozen=True, kw_only=True):
    """What was read, what was scored and what was left out why: nothing is lost silently."""

    forecasts: int
    scored: int
    excluded: dict[str, int]
    """Forecasts left out by reason; decided on version 1 and the outcome alone."""
    noted: dict[str, int]
    """Things worth a look that did not change what was scored."""

    @classmethod
    def of(cls, tally: Tally) -> "Intake":
        """Return what a tally of forecasts has counted."""
        return cls(
            forecasts=tally.read,
            scored=tally.used,
            excluded=dict(sorted(tally.dropped.items())),
            noted=dict(sorted(tally.noted.items())),
        )


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of an examination."""

    rows: tuple[Row, ...]
    refinement: Refinement
    intake: Intake
    conventions: tuple[str, ...]
    """How to read the figures, one sentence each."""
