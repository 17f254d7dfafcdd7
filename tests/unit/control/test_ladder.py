"""Laws of the degradation ladder."""

from hypothesis import given, settings
from hypothesis import strategies as st

from finllm.control.ladder import LadderSettings, Measures, rung
from finllm.domain.forecast import Rung

ORDER = list(Rung)
MEASURES = st.builds(
    Measures,
    backlog=st.integers(0, 40),
    reasoner_failures=st.integers(0, 6),
    recording_ok=st.booleans(),
    feed_stale=st.booleans(),
)


def test_all_well_is_full() -> None:
    assert rung(Measures()) is Rung.FULL


def test_each_trouble_has_its_rung() -> None:
    assert rung(Measures(backlog=5)) is Rung.NO_EXPLANATION
    assert rung(Measures(backlog=17)) is Rung.FEW_ESCALATIONS
    assert rung(Measures(reasoner_failures=3)) is Rung.EDGE_ONLY
    assert rung(Measures(recording_ok=False)) is Rung.EDGE_ONLY
    assert rung(Measures(feed_stale=True)) is Rung.LAST_VALID


def test_the_worst_trouble_wins() -> None:
    assert rung(Measures(feed_stale=True, backlog=5, recording_ok=False)) is Rung.LAST_VALID


def test_it_goes_down_at_once_and_up_one_rung_at_a_time() -> None:
    standing = rung(Measures(feed_stale=True), Rung.FULL)
    climbed = [standing]
    while standing is not Rung.FULL:
        standing = rung(Measures(), standing)
        climbed.append(standing)
    assert climbed == ORDER[::-1]


def test_a_backlog_at_the_threshold_does_not_make_the_rung_flicker() -> None:
    standing, seen = Rung.FULL, []
    for backlog in [16, 17, 16, 17, 15, 17, 9, 12]:
        standing = rung(Measures(backlog=backlog), standing)
        seen.append(standing)
    assert seen == [Rung.NO_EXPLANATION] + [Rung.FEW_ESCALATIONS] * 7


def test_one_failure_keeps_the_slow_path_shut_until_there_is_none() -> None:
    assert rung(Measures(reasoner_failures=1), Rung.EDGE_ONLY) is Rung.EDGE_ONLY
    assert rung(Measures(reasoner_failures=0), Rung.EDGE_ONLY) is Rung.FEW_ESCALATIONS


@settings(max_examples=200, deadline=None)
@given(MEASURES, st.sampled_from(ORDER), st.integers(1, 30))
def test_steady_measures_settle_and_stay(measures: Measures, start: Rung, n: int) -> None:
    standing = start
    for _ in range(len(ORDER)):
        standing = rung(measures, standing)
    settled = standing
    for _ in range(n):
        standing = rung(measures, standing)
        assert standing is settled


@settings(max_examples=200, deadline=None)
@given(MEASURES, st.sampled_from(ORDER))
def test_it_never_stands_above_what_the_measures_call_for(measures: Measures, start: Rung) -> None:
    called = rung(measures, Rung.FULL)
    after = rung(measures, start)
    assert ORDER.index(after) >= ORDER.index(called)
    assert ORDER.index(after) >= ORDER.index(start) - 1


def test_thresholds_are_settings() -> None:
    strict = LadderSettings(backlog_no_explanation=0, backlog_few=1, failures_edge_only=1)
    assert rung(Measures(backlog=2), Rung.FULL, strict) is Rung.FEW_ESCALATIONS
    assert rung(Measures(reasoner_failures=1), Rung.FULL, strict) is Rung.EDGE_ONLY
