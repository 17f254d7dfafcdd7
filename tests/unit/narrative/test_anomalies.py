"""Anomalies: what leaves its own past, told once, as it happens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finllm.domain.errors import InputError, SettingsError
from finllm.narrative.alignment.anomalies import (
    AFTER,
    BEFORE,
    CHANNELS,
    MOST_Z,
    N_CHANNELS,
    Anomaly,
    AnomalyDetector,
    AnomalySettings,
    Values,
)

BEAT = 60_000_000_000


def beats(n: int, seed: int = 1) -> Values:
    return np.random.default_rng(seed).normal(0.0, 1.0, (n, N_CHANNELS))


def walk(values: Values, detector: AnomalyDetector | None = None) -> list[Anomaly]:
    detector = detector or AnomalyDetector("us-equity:AAPL")
    found: list[Anomaly] = []
    for i, row in enumerate(values):
        found += detector.push(i * BEAT, (i + 1) * BEAT, row)
    return found


def test_each_kind_of_departure_is_found_on_the_side_that_is_one() -> None:
    for channel, (name, side) in enumerate(zip(CHANNELS, (1, 1, 1, -1, -1, 1), strict=True)):
        values = beats(100).clip(-3.0, 3.0)
        values[80, channel] += side * 12.0
        found = walk(values)
        assert [(one.channel, one.ts_start) for one in found] == [(name, 80 * BEAT)]
        assert side * found[0].z_score > 5.0


def test_a_market_that_fills_up_or_calms_down_is_no_anomaly() -> None:
    values = beats(100).clip(-3.0, 3.0)
    values[80, CHANNELS.index("depth")] += 12.0
    values[80, CHANNELS.index("volatility")] -= 12.0
    assert walk(values) == []


@settings(max_examples=20)
@given(st.integers(0, 5_000), st.integers(40, 150), st.integers(1, 40))
def test_a_later_beat_never_changes_an_earlier_anomaly(seed: int, n: int, more: int) -> None:
    values = beats(n + more, seed)
    values[::17] *= 6.0
    whole = walk(values)
    assert walk(values[:n]) == [one for one in whole if one.ts_recv <= n * BEAT]


def test_a_shock_that_lasts_is_told_once_and_two_shocks_far_apart_are_two_moves() -> None:
    values = beats(160).clip(-3.0, 3.0)
    values[80:86, 5] += 15.0
    values[130, 5] += 15.0
    found = walk(values)
    assert [one.ts_start // BEAT for one in found] == [80, 130]
    assert found[0].move_id != found[1].move_id
    assert len({one.anomaly_id for one in found}) == 2


def test_what_happens_together_is_one_move() -> None:
    values = beats(120).clip(-3.0, 3.0)
    values[90, 0] += 15.0
    values[92, 1] += 15.0
    found = walk(values)
    assert {one.move_id for one in found} == {found[0].anomaly_id}
    assert len(found) == 2


def test_a_shock_does_not_hide_the_next_one() -> None:
    values = beats(140).clip(-3.0, 3.0)
    values[80, 0], values[100, 0] = 1e6, 12.0
    assert [one.ts_start // BEAT for one in walk(values)] == [80, 100]


def test_what_is_not_measured_is_never_an_anomaly_and_spoils_nothing() -> None:
    values = beats(120).clip(-3.0, 3.0)
    values[:, 2:5] = np.nan
    values[50:60] = np.inf
    values[100, 0] = 15.0
    assert [(one.channel, one.ts_start // BEAT) for one in walk(values)] == [("return", 100)]


def test_a_window_asked_for_as_of_an_instant_holds_nothing_later() -> None:
    detector = AnomalyDetector("us-equity:AAPL")
    walk(beats(100), detector)
    whole = detector.window(60 * BEAT)
    early = detector.window(60 * BEAT, as_of=63 * BEAT)
    assert whole.shape == (BEFORE + AFTER, N_CHANNELS)
    assert np.isfinite(whole).all()
    assert np.array_equal(early[: BEFORE + 3], whole[: BEFORE + 3])
    assert np.isnan(early[BEFORE + 3 :]).all()


def test_a_position_as_of_an_instant_does_not_move_when_more_beats_come() -> None:
    values = beats(50)
    short, long = AnomalyDetector("a:B"), AnomalyDetector("a:B")
    walk(values[:40], short)
    walk(values, long)
    for ts in (0, 7 * BEAT + 5, 40 * BEAT, 47 * BEAT):
        assert long.position(ts, as_of=40 * BEAT) == short.position(ts)


def test_z_scores_are_bounded_and_memory_too() -> None:
    settings = AnomalySettings(keep=64)
    detector = AnomalyDetector("a:B", settings)
    values = beats(1_000)
    values[500] = 1e12
    assert all(abs(one.z_score) <= MOST_Z for one in walk(values, detector))
    assert len(detector._starts) <= 2 * settings.keep
    with pytest.raises(InputError, match="no beat began"):
        detector.window(0)
    assert detector.window(999 * BEAT).shape[1] == N_CHANNELS


def test_beats_out_of_order_or_of_another_shape_are_refused() -> None:
    detector = AnomalyDetector("a:B")
    detector.push(BEAT, 2 * BEAT, np.zeros(N_CHANNELS))
    for start, end, n in ((BEAT, 3 * BEAT, 6), (2 * BEAT, BEAT, 6), (3 * BEAT, 4 * BEAT, 5)):
        with pytest.raises(InputError, match="does not follow"):
            detector.push(start, end, np.zeros(n))


def test_settings_under_which_nothing_could_be_usual_are_refused() -> None:
    with pytest.raises(SettingsError):
        AnomalySettings(memory=20, warm=30)
