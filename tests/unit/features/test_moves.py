"""Laws of the moves that may be cited."""

import math

from finllm.features.moves import Moves

S = 1_000_000_000


def test_a_move_is_the_return_over_its_window_and_is_cited_only_once_it_is_known() -> None:
    moves = Moves("test:A", (2, 10))
    for i in range(51):
        moves.push(i * S // 10, 20_000 + i)
    (only,) = moves.observations(5 * S, 20_050)
    assert only.feature == "move_2s"
    assert only.window_ns == 2 * S
    assert math.isclose(only.value, 1e4 * math.log(20_050 / 20_030))
    assert only.z_score > 0.0


def test_windows_stay_right_after_old_mids_are_forgotten() -> None:
    moves = Moves("test:A", (2, 60))
    mids = [20_000 + (i * 37) % 101 for i in range(6_000)]
    for i, mid2 in enumerate(mids):
        moves.push(i * S // 10, mid2)
    seen = {e.feature: e.value for e in moves.observations(5_999 * S // 10, mids[-1])}
    assert math.isclose(seen["move_60s"], 1e4 * math.log(mids[-1] / mids[-601]))
    assert math.isclose(seen["move_2s"], 1e4 * math.log(mids[-1] / mids[-21]))


def test_a_book_without_a_mid_moves_nowhere() -> None:
    moves = Moves("test:A", (2,))
    moves.push(0, 20_000)
    moves.push(S, 0)
    assert moves.observations(5 * S, 0) == ()
    assert [e.value for e in moves.observations(5 * S, 20_000)] == [0.0]


def test_the_z_of_a_move_is_that_of_its_evidence_and_0_where_it_is_not_known() -> None:
    moves = Moves("test:A", (2, 10))
    for i in range(51):
        moves.push(i * S // 10, 20_000 + i % 7)
    (only,) = moves.observations(5 * S, 20_030)
    assert moves.z(2, 5 * S, 20_030) == only.z_score > 0.0
    assert moves.z(10, 5 * S, 20_030) == 0.0
    assert moves.z(2, 5 * S, 0) == 0.0
    assert Moves("test:A", (2,)).z(2, 5 * S, 20_000) == 0.0
