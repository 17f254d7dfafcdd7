"""The records that an evaluation gives: the figures of each data set, alarms, what was hunted for.

Scores and intervals are the audit's; everything here serialises to JSON. Knows nothing of how figures
are drawn.
"""

from typing import Literal

import msgspec

from finllm.audit.scorecard import Intake, Interval, Row

AlarmKind = Literal["auc_1s", "skill_30s", "look_ahead"]


class ClassCurve(msgspec.Struct, frozen=True, kw_only=True):
    """Reliability of one class by equal-mass bin; one entry a bin in every tuple."""

    name: str
    """`down`, `flat` or `up`."""
    said: tuple[float, ...]
    """Mean probability."""
    seen: tuple[float, ...]
    """Frequency."""
    count: tuple[int, ...]
    low: tuple[float, ...]
    """Lower end of the consistency band: where luck alone puts the frequency, 95 %."""
    high: tuple[float, ...]


class Diagram(msgspec.Struct, frozen=True, kw_only=True):
    """The reliability diagram of one horizon, all instruments of a data set."""

    horizon: str
    horizon_s: float
    n: int
    n_eff: int
    curves: tuple[ClassCurve, ...]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of the skill if a forecast is used late."""

    delay_s: float
    """The newest claim at least this old is used."""
    age_s: float
    """Its mean age, for claims are only made on the grid."""
    skill: float
    """In log score over the climatology known when the claim is used."""
    interval: Interval | None
    kept: float | None
    """Share of the lead that the fresh claim has; None where that has none."""


class Decay(msgspec.Struct, frozen=True, kw_only=True):
    """Score decay with latency at one horizon, all instruments; the same targets at every delay."""

    horizon: str
    horizon_s: float
    n: int
    n_eff: int
    n_blocks: int
    block_s: float
    tentative: bool
    steps: tuple[Step, ...]


class Direction(msgspec.Struct, frozen=True, kw_only=True):
    """How well up is told from down among moves, beside the baseline column, at one horizon."""

    horizon: str
    horizon_s: float
    auc: float
    """Of p_up - p_down; pairs are taken within an instrument of a session."""
    reference: float
    """Of the baseline column (touch imbalance; on bars the last return), either way round."""
    lead: float
    interval: Interval | None
    """Of the lead."""
    n: int
    """Moves compared."""
    n_eff: int
    """Of these, moves whose targets do not overlap."""
    n_blocks: int
    block_s: float
    tentative: bool


class Learnt(msgspec.Struct, frozen=True, kw_only=True):
    """Log skill over climatology at one horizon, all instruments, by what the edge knew of the session."""

    horizon: str
    horizon_s: float
    without: float
    """Had the edge learnt from no outcome of the session; climatology learns all the same."""
    with_all: float
    late: float | None
    """Once two minutes of outcomes are known; None where no session lasts so long."""
    n: int
    n_late: int


class DataSet(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one data set: instruments that are pooled and judged together."""

    name: str
    sessions: tuple[str, ...]
    instruments: tuple[str, ...]
    models: tuple[str, ...]
    """Versions of the models that spoke."""
    starts: str
    """UTC; empty if nothing could be scored."""
    ends: str
    is_book: bool
    """Whether horizons count clock time: an order book, not bars."""
    intake: Intake
    rows: tuple[Row, ...]
    """By instrument (or `all`), horizon and regime (or `all`, `switched`)."""
    hours: tuple[Row, ...]
    """All instruments by hour of the day, which stands in `regime`."""
    diagrams: tuple[Diagram, ...]
    directions: tuple[Direction, ...]
    decays: tuple[Decay, ...]
    learnt: tuple[Learnt, ...]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A place where what was said before a cut depends on what came after it."""

    where: str
    """Instrument, or instrument and horizon."""
    cut: str
    """The last receive time that was kept, UTC."""
    row: int
    """The first row that differs, of those known by then."""
    columns: tuple[str, ...]
    """What differs there; empty where rows are missing or too many."""


class Hunt(msgspec.Struct, frozen=True, kw_only=True):
    """What a hunt for look-ahead looked at and found."""

    dataset: str
    what: str
    """What was rebuilt from the truncated record."""
    records: int
    """Length of the record, in frames or rows."""
    cuts: int
    compared: int
    """Rows compared bit for bit, over all cuts."""
    n_faults: int
    faults: tuple[Fault, ...]
    """The first of each kind, at most sixteen."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """A figure too good to be true, or a look-ahead that was found."""

    dataset: str
    kind: AlarmKind
    figure: float
    bound: float
    model: str
    """Versions of the models that spoke."""
    sessions: str
    """Names of the sessions that it was found on."""
    what: str
    """The same in a sentence."""
    waiver: str = ""
    """Why it may pass, from the experiment record; empty = it stands."""

    @property
    def stands(self) -> bool:
        """Return whether the evaluation has to stop."""
        return not self.waiver


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the report shows."""

    title: str
    datasets: tuple[DataSet, ...]
    alarms: tuple[Alarm, ...]
    unchecked: tuple[str, ...]
    """Alarms that could not be looked at, and why."""
    hunts: tuple[Hunt, ...]
    trials: dict[str, int]
    """Trials known to the experiment record by family of models."""
    openings: dict[str, int]
    """Openings of the validation part by family."""
    conventions: tuple[str, ...]

    @property
    def n_trials(self) -> int:
        """Return the number of trials by which p-values are multiplied; at least one: this."""
        return max(1, sum(self.trials.values()))
