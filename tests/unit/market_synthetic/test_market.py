"""The market as the market room sees it: what is planted can be found in the frames."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from finllm.domain.market import BookView, Flag
from finllm.domain.units import NS_PER_S
from finllm.market.synthetic import SyntheticMarket, TruthKind, generate


def _auc(score: NDArray[np.float64], is_up: NDArray[np.bool_]) -> float:
    ranks = rankdata(score)
    n_up = int(is_up.sum())
    n_down = len(is_up) - n_up
    return float((ranks[is_up].sum() - n_up * (n_up + 1) / 2) / (n_up * n_down))


def test_every_frame_is_used_but_diffs_before_a_snapshot(session) -> None:
    tally = session.tally
    assert set(tally.dropped) <= {"before_snapshot"}
    assert tally.used + sum(tally.dropped.values()) == session.n_frames
    assert [each.key for each in session.market.instruments] == [
        each.key for each in session.tape.instruments
    ]
    for met, own in zip(session.market.instruments, session.tape.instruments, strict=True):
        assert (met.tick_size, met.lot_size) == (own.tick_size, own.lot_size)


def test_the_depth_equals_the_touch_at_every_diff(session) -> None:
    checks = session.market.checks
    assert checks.done > 15_000
    assert checks.done == checks.equal == checks.sizes_equal


def test_every_planted_gap_is_seen_and_mended_and_no_other(session) -> None:
    planted = [truth for truth in session.truths if truth.kind is TruthKind.GAP]
    assert len(planted) == 3
    assert sorted(gap.instrument for gap in session.gaps) == sorted(t.instrument for t in planted)
    for truth in planted:
        gap = next(
            gap
            for gap in session.gaps
            if gap.instrument == truth.instrument
            and truth.ts < gap.ts_recv < truth.ts + truth.lag_ns
        )
        assert gap.ts_recv >= truth.ts + truth.duration_ns
        rows = session.rows[truth.instrument]
        ts, flags = rows.ts, rows.flags
        broken = (ts > gap.ts_recv) & (ts < truth.ts + truth.lag_ns)
        mended = (ts > truth.ts + truth.lag_ns + NS_PER_S) & (
            ts < truth.ts + truth.lag_ns + 3 * NS_PER_S
        )
        assert set(flags[broken]) == {int(Flag.RESYNCING)}
        assert set(flags[mended]) == {int(Flag.VALID)}


def test_the_book_is_deep_on_both_sides(session) -> None:
    for rows in session.rows.values():
        valid = rows.flags == Flag.VALID
        assert valid.mean() > 0.95
        assert set(rows.column(BookView.N_BIDS)[valid]) == {10}
        assert set(rows.column(BookView.N_ASKS)[valid]) == {10}


def test_the_touch_leads_the_next_move_but_not_always(session) -> None:
    for rows in session.rows.values():
        ts, mid2 = rows.ts, rows.mid2
        bid, ask = rows.column(BookView.BID_SZ), rows.column(BookView.ASK_SZ)
        imbalance = (bid - ask) / (bid + ask)
        later = np.searchsorted(ts, ts + NS_PER_S, side="right") - 1
        move = mid2[later] - mid2
        moved = (move != 0) & (ts + NS_PER_S < ts[-1])
        assert 0.65 < _auc(imbalance[moved], move[moved] > 0) < 0.92


def test_the_mid_often_stands_still_for_a_second(session) -> None:
    for rows in session.rows.values():
        assert 0.25 < (np.diff(rows.mids(NS_PER_S)) == 0).mean() < 0.65


def test_stressed_times_are_wilder_than_calm_times() -> None:
    tape = generate(SyntheticMarket(seed=5, duration_s=250.0, symbols=("BTCUSDT",), planted=()))
    switches = [truth for truth in tape.truths if truth.kind is TruthKind.REGIME]
    assert switches[0].ts == tape.settings.start
    ends = [truth.ts for truth in switches[1:]] + [tape.settings.end]
    spans = dict.fromkeys(("calm", "active", "stressed"), 0)
    for truth, end in zip(switches, ends, strict=True):
        spans[truth.state] += end - truth.ts
    n_frames = dict.fromkeys(spans, 0)
    number = 0
    for frame in tape.frames():
        while number + 1 < len(switches) and frame.ts_recv >= switches[number + 1].ts:
            number += 1
        n_frames[switches[number].state] += b"bookTicker" in frame.payload
    rates = {state: n_frames[state] * NS_PER_S / span for state, span in spans.items() if span}
    assert set(rates) >= {"calm", "stressed"}
    assert rates["stressed"] > 1.3 * rates["calm"]


def test_announcements_move_the_price_by_what_was_planted_and_not_before(session) -> None:
    planted, realised, early = [], [], []
    for truth in session.of(TruthKind.ANNOUNCEMENT):
        rows = session.rows[truth.instrument]
        onset = truth.ts + truth.lag_ns
        assert 2 * NS_PER_S <= truth.lag_ns <= 11 * NS_PER_S
        sign = 1.0 if truth.effect_bps > 0 else -1.0
        planted.append(abs(truth.effect_bps))
        realised.append(sign * rows.return_bps(onset, onset + 4 * truth.half_life_ns))
        early.append(sign * rows.return_bps(truth.ts, onset))
    assert len(planted) >= 8
    assert 0.6 < np.mean(realised) / np.mean(planted) < 1.4
    assert abs(np.mean(early)) < 0.25 * np.mean(planted)


def test_a_false_rumour_moves_the_price_and_its_denial_takes_that_back(session) -> None:
    rumours, denials = session.of(TruthKind.RUMOUR), session.of(TruthKind.DENIAL)
    assert len(rumours) >= 2
    for rumour in rumours:
        denial = next(each for each in denials if each.about == rumour.document_id)
        assert rumour.is_false
        assert not denial.is_false
        assert denial.effect_bps == -rumour.effect_bps
        assert denial.ts > rumour.ts + rumour.lag_ns + rumour.half_life_ns


def test_a_drain_thins_one_side_before_the_price_slips_that_way(session) -> None:
    shares, slips = [], []
    for truth in session.of(TruthKind.DRAIN):
        rows = session.rows[truth.instrument]
        onset = truth.ts + truth.lag_ns
        window = (rows.ts > onset - 2 * NS_PER_S) & (rows.ts < onset) & (rows.flags == Flag.VALID)
        seen = rows.views[window]
        bid = seen[:, BookView.BID_SZ + 1 : BookView.BID_SZ + 10].mean()
        ask = seen[:, BookView.ASK_SZ + 1 : BookView.ASK_SZ + 10].mean()
        shares.append(bid / ask if truth.state == "bid" else ask / bid)
        assert (truth.effect_bps < 0) == (truth.state == "bid")
        sign = 1.0 if truth.effect_bps > 0 else -1.0
        slips.append(sign * rows.return_bps(onset, onset + 4 * truth.half_life_ns))
    assert len(shares) >= 4
    assert np.mean(shares) < 0.6
    assert np.mean(slips) > 2.0


def test_the_first_instrument_leads_the_second(session) -> None:
    leader, follower = (rows.mids(NS_PER_S // 10) for rows in session.rows.values())
    n = min(len(leader), len(follower))
    moves = [np.diff(np.log(each[:n].astype(float))) for each in (leader, follower)]
    forward = [np.corrcoef(moves[0][:-k], moves[1][k:])[0, 1] for k in range(1, 8)]
    backward = [np.corrcoef(moves[1][:-k], moves[0][k:])[0, 1] for k in range(1, 8)]
    assert np.sum(forward) > np.sum(backward)
