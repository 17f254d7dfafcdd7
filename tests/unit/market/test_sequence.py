"""The continuity rules, one stream at a time."""

import pytest

from finllm.market.sequence import NO_PREVIOUS, Continuity, Step, connects


def futures(*diffs, snapshot=None):
    chain = Continuity(is_futures=True)
    if snapshot is not None:
        chain.restart_from(snapshot)
    return [chain.judge(*diff) for diff in diffs]


@pytest.mark.parametrize(
    ("first", "final", "previous", "is_joined"),
    [
        (5, 12, 4, True),  # straddles the snapshot
        (11, 12, 10, True),  # follows it exactly
        (13, 15, 9, True),  # numbers between two diffs were never used: two recordings do this
        (13, 15, 11, False),  # one is missing
        (3, 9, 2, False),  # all of it is older
        (11, 12, NO_PREVIOUS, True),
        (12, 13, NO_PREVIOUS, False),
    ],
)
def test_a_diff_joins_a_snapshot_or_does_not(first, final, previous, is_joined):
    assert connects(first, final, previous, 10) is is_joined


def test_futures_follow_the_previous_number():
    steps = futures((1, 5, 0, 1), (9, 12, 5, 2), (20, 21, 13, 3), (22, 23, 21, 4))
    assert steps == [Step.APPLY, Step.APPLY, Step.GAP, Step.APPLY]


def test_a_duplicate_is_old_and_lower_numbers_with_a_later_time_are_a_restart():
    steps = futures((1, 5, 0, 10), (6, 8, 5, 20), (6, 8, 5, 20), (1, 5, 0, 10), (1, 2, 0, 30))
    assert steps[2:] == [Step.OLD, Step.OLD, Step.RESTART]


def test_after_a_snapshot_the_stream_may_lag_but_not_for_ever():
    lagging = [(i, i, i - 1, 100 * i) for i in range(1, 20)]
    assert set(futures(*lagging, snapshot=1_000)) == {Step.OLD}
    late = [(i, i, i - 1, 1_000 * i) for i in range(1, 9)]
    assert Step.RESTART in futures(*late, snapshot=1_000)


def test_a_number_of_zero_is_a_number():
    chain = Continuity(is_futures=True)
    chain.judge(0, 0, NO_PREVIOUS, 1)
    assert chain.judge(7, 9, 6, 2) is Step.GAP


def test_spot_allows_overlap_but_no_hole():
    chain = Continuity(is_futures=False)
    assert chain.judge(1, 5, NO_PREVIOUS, 1) is Step.APPLY
    assert chain.judge(4, 7, NO_PREVIOUS, 2) is Step.APPLY
    assert chain.judge(9, 9, NO_PREVIOUS, 3) is Step.GAP
