"""Laws of what the market itself flags."""

from typing import Any

from asking import MS, NOW, S
from finllm.escalation.gate import Gate, GateSettings
from finllm.escalation.watch import (
    REGIME_SWITCH,
    SUDDEN_MOVE,
    THIN_BOOK,
    Alarm,
    Signs,
    Watch,
)


def seen(*signs: dict[str, Any], step_ns: int = S, news_at: int | None = None) -> list[Alarm]:
    """Return what a watch flags of rows that follow each other."""
    watch = Watch(4.0)
    if news_at is not None:
        watch.tell(news_at)
    shown = (Signs(**{"regime": 1, **one}) for one in signs)
    found = [watch.see(one, NOW + i * step_ns) for i, one in enumerate(shown)]
    return [alarm for alarm in found if alarm is not None]


def kinds(alarms: list[Alarm]) -> list[str]:
    return [alarm.kind for alarm in alarms]


def test_a_quiet_market_flags_nothing() -> None:
    assert seen({}, {"move_z": 3.9}, {"depth_z": -3.9}, {"depth_z": 9.0}) == []


def test_a_switch_of_regime_is_flagged_and_the_first_regime_is_none() -> None:
    assert kinds(seen({}, {"regime": 2}, {"regime": 2}, {"regime": 1})) == [REGIME_SWITCH] * 2


def test_a_drained_book_is_flagged_once_until_it_has_filled_again() -> None:
    found = seen(*({"depth_z": z, "lean": -0.6} for z in (-5.0, -6.0, -3.0, -5.0, -1.0, -5.0)))
    assert kinds(found) == [THIN_BOOK] * 2
    assert found[0].lean == -0.6
    assert found[0].credibility == 0.95


def test_a_sudden_move_is_flagged_unless_there_was_news() -> None:
    moved = ({"move_z": 0.0}, {"move_z": -4.5})
    found = seen(*moved)
    assert kinds(found) == [SUDDEN_MOVE]
    assert found[0].lean == -1.0
    assert seen(*moved, news_at=NOW) == []
    assert kinds(seen(*moved, news_at=NOW - 60 * S)) == [SUDDEN_MOVE]


def test_alarms_of_one_instrument_are_at_least_100_ms_apart() -> None:
    flips = [{"regime": i % 2} for i in range(40)]
    assert len(seen(*flips, step_ns=10 * MS)) == 4


def test_what_comes_too_soon_after_another_alarm_is_told_as_soon_as_it_may_be() -> None:
    drained, both = {"depth_z": -5.0}, {"depth_z": -5.0, "move_z": 6.0}
    assert kinds(seen({}, drained, *[both] * 20, step_ns=10 * MS)) == [THIN_BOOK, SUDDEN_MOVE]
    switched = {"depth_z": -5.0, "regime": 2}
    assert kinds(seen({}, drained, *[switched] * 20, step_ns=10 * MS)) == [THIN_BOOK, REGIME_SWITCH]


def test_the_strongest_of_several_is_told() -> None:
    assert kinds(seen({}, {"regime": 2, "depth_z": -6.0})) == [THIN_BOOK]


def test_a_gate_watches_where_it_is_told_to() -> None:
    assert Gate().watch() is None
    assert Gate(GateSettings(market_events=False)).watch() is None
    assert Gate(GateSettings(market_events=True)).watch() is not None
