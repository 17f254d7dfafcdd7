"""Laws of the score in force, on examples worked out by hand."""

import math

import msgspec
import pytest

from finllm.audit.scores import examine
from finllm.domain.forecast import Status
from finllm.domain.market import Flag
from finllm.domain.protocol import Action, Applied, Closing

S = 1_000_000_000
CLIMATOLOGY = (0.25, 0.5, 0.25)


def row_of(scores, stage, regime="all", instrument="test:A"):
    (row,) = [
        r
        for r in scores.rows
        if r.stage == stage and r.regime == regime and r.instrument == instrument
    ]
    return row


@pytest.fixture
def first(make):
    """10 s, in use for 8 s: base says up 0.2, the outlook made it 0.4; climatology says 0.25."""
    reference = msgspec.structs.replace(make.forecast().reference, climatology=CLIMATOLOGY)
    return make.forecast(
        ts=100 * S,
        horizon_s=10.0,
        base=(0.5, 0.3, 0.2),
        emitted=(0.3, 0.3, 0.4),
        reference=reference,
    )


def scored(make, first, revisions=(), return_bps=5.0, closings=(), **changes):
    outcome = make.outcome(first, return_bps, **changes)
    return examine([first], revisions, closings, [outcome], [], [], [])


def test_without_a_revision_version_1_stands_throughout(make, first) -> None:
    scores = scored(make, first)
    assert row_of(scores, "edge").log_score == pytest.approx(-math.log(0.2))
    assert row_of(scores, "in_force").log_score == pytest.approx(-math.log(0.4))
    assert row_of(scores, "final").log_score == pytest.approx(-math.log(0.4))
    assert scores.refinement.gain == pytest.approx(math.log(2.0))
    assert scores.refinement.gain_outlook == pytest.approx(math.log(2.0))
    assert scores.refinement.gain_verdicts == pytest.approx(0.0)


def test_each_version_counts_for_the_time_in_which_it_stood(make, first) -> None:
    one = make.revision(first, make.verdict(first, shift=1.0), 102 * S)
    second = make.verdict(one.forecast, shift=-1.0)
    two = make.revision(one.forecast, second, 106 * S)
    scores = scored(make, first, [two, one])  # in any order
    up = [0.4, one.forecast.emitted[2], two.forecast.emitted[2]]
    wanted = sum(w * -math.log(p) for w, p in zip((0.25, 0.5, 0.25), up, strict=True))
    assert row_of(scores, "in_force").log_score == pytest.approx(wanted)
    assert row_of(scores, "final").log_score == pytest.approx(-math.log(up[2]))
    assert scores.refinement.touched == 1
    assert scores.refinement.applied == 2


def test_a_late_version_weighs_nothing(make, first) -> None:
    verdict = make.verdict(first, shift=3.0)
    late = make.revision(first, verdict, 108 * S, applied=Applied.LATE, forecast=None)
    wrongly = make.revision(first, verdict, 108 * S)
    alone = scored(make, first)
    honest, broken = scored(make, first, [late]), scored(make, first, [wrongly])
    assert honest.rows == broken.rows == alone.rows
    assert (honest.refinement.late, honest.refinement.late_applied) == (1, 0)
    assert (broken.refinement.late, broken.refinement.late_applied) == (0, 1)


def test_after_a_retraction_climatology_stands(make, first) -> None:
    retraction = make.revision(first, make.verdict(first, Action.RETRACT), 104 * S)
    scores = scored(make, first, [retraction])
    wanted = 0.5 * -math.log(0.4) + 0.5 * -math.log(0.25)
    assert row_of(scores, "in_force").log_score == pytest.approx(wanted)
    assert row_of(scores, "final").log_score == pytest.approx(-math.log(0.25))
    assert row_of(scores, "final").skill.climatology == pytest.approx(0.0)
    assert scores.refinement.retracted == 1
    assert scores.refinement.retraction_precision == 0.0  # it was right, and was withdrawn


def test_a_retraction_of_what_was_wrong_is_right(make, first) -> None:
    retraction = make.revision(first, make.verdict(first, Action.RETRACT), 104 * S)
    scores = scored(make, first, [retraction], return_bps=0.0)  # climatology said 0.5, we 0.3
    assert scores.refinement.retraction_precision == 1.0


def test_neither_retracting_nor_abstaining_leaves_the_denominator(make) -> None:
    forecasts, outcomes = make.run(60, horizon_s=1.0)
    bare = examine(forecasts, [], [], outcomes, [], [], [])
    revisions = [
        make.revision(f, make.verdict(f, Action.RETRACT), f.ts_recv + 1) for f in forecasts[::2]
    ]
    silent = [msgspec.structs.replace(f, flags=int(Flag.VALID | Flag.ABSTAINED)) for f in forecasts]
    for scores in (
        examine(forecasts, revisions, [], outcomes, [], [], []),
        examine(silent, [], [], outcomes, [], [], []),
    ):
        assert scores.intake == bare.intake
        assert [r.n for r in scores.rows] == [r.n for r in bare.rows]
    for stage in ("edge", "in_force", "final"):
        row = row_of(examine(silent, [], [], outcomes, [], [], []), stage)
        assert row.skill.climatology == 0.0
        assert row.finding.climatology == "inconclusive"
        assert row.log_score == pytest.approx(math.log(3.0))


def test_coverage_and_crps_follow_the_version_in_force(make, first) -> None:
    retraction = make.revision(first, make.verdict(first, Action.RETRACT), 104 * S)
    scores = scored(make, first, [retraction], return_bps=2.5)  # inside climatology's -3 to 3 only
    assert row_of(scores, "edge").coverage_80 == 0.0
    assert row_of(scores, "in_force").coverage_80 == pytest.approx(0.5)
    assert row_of(scores, "final").coverage_80 == 1.0
    assert row_of(scores, "final").skill_crps.climatology == pytest.approx(0.0)


def test_a_closing_that_names_another_version_is_noticed(make, first) -> None:
    def closing(version):
        return Closing(forecast_id="f", ts=108 * S, version=version, status=Status.FINAL)

    revision = make.revision(first, make.verdict(first), 104 * S)
    assert not scored(make, first, [revision], closings=[closing(2)]).intake.noted
    noted = scored(make, first, [revision], closings=[closing(1)]).intake.noted
    assert noted == {"closing_differs_from_revisions": 1}
