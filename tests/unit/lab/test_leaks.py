"""Laws of the hunt for look-ahead: the honest builder passes, and every planted fault is found."""

import msgspec
import numpy as np
import pytest

from finllm.features.book_spec import BOOK_SPEC
from finllm.market.synthetic import SyntheticMarket, generate
from finllm_lab.evaluation.leaks import Told, cuts_of, hunt, hunt_features, hunt_walk
from finllm_lab.tapes import frame_sessions
from lab_sessions import session_of
from said import make_said


@pytest.fixture(scope="module")
def frames():
    return list(generate(SyntheticMarket(seed=5, duration_s=25)).frames())


def honest(frames):
    return frame_sessions("synthetic", frames)


def changed(sessions, change):
    return [msgspec.structs.replace(one, rows=change(one)) for one in sessions]


def hunted(frames, rows_of, cuts=4):
    return hunt_features(
        rows_of, frames, BOOK_SPEC, dataset="toy", cuts=cuts, rng=np.random.default_rng(0)
    )


def test_the_feature_rows_that_are_served_look_at_nothing_to_come(frames) -> None:
    found = hunted(frames, honest)
    assert found.n_faults == 0
    assert found.cuts == 4
    assert found.compared > 1_000


def with_return_to_come(one):
    """Put the return of the next half second in the place of a flow."""
    rows, mid = one.rows.copy(), one.heads["mid2"].astype(np.float64)
    ts = one.heads["ts_recv"]
    then = np.searchsorted(ts, ts + 5 * 10**8, side="right") - 1
    rows[:, BOOK_SPEC.columns["ofi_2s"]] = mid[then] - mid
    return rows


def test_a_planted_column_that_holds_the_return_to_come_is_found_and_named(frames) -> None:
    found = hunted(frames, lambda part: changed(honest(part), with_return_to_come))
    assert found.n_faults > 0
    assert {fault.columns for fault in found.faults} == {("ofi_2s",)}


@pytest.mark.parametrize("column", ["obi_1", "rv_60s", "lead_ret_100ms"])
def test_a_feature_shifted_one_row_into_the_future_is_found_and_named(frames, column) -> None:
    at = BOOK_SPEC.columns[column]

    def shifted(one):
        rows = one.rows.copy()
        rows[:-1, at] = one.rows[1:, at]
        return rows

    found = hunted(frames, lambda part: changed(honest(part), shifted), cuts=12)
    assert found.n_faults > 0
    assert all(fault.columns == (column,) for fault in found.faults)


def test_rows_that_are_all_one_early_are_found_by_the_one_that_is_missing(frames) -> None:
    def early(part):
        return [
            msgspec.structs.replace(one, heads=one.heads[:-1], rows=one.rows[1:])
            for one in honest(part)
        ]

    found = hunted(frames, early, cuts=2)
    assert found.n_faults > 0
    assert all(not fault.columns for fault in found.faults)


def test_a_scale_fitted_on_the_whole_day_is_found(frames) -> None:
    found = hunted(
        frames,
        lambda part: changed(honest(part), lambda one: one.rows / (1e-9 + one.rows.std(axis=0))),
        cuts=2,
    )
    assert found.n_faults > 0


def claims_of(session):
    """Say the share of ups among outcomes known so far, half a second ahead."""
    ts, mid = session.heads["ts_recv"], session.heads["mid2"]
    due = ts + 5 * 10**8
    end = np.searchsorted(ts, due, side="right")
    known = end < len(ts)
    rows = np.flatnonzero(known)
    label = np.where(mid[end[rows] - 1] > mid[rows], 2, 0)
    told = make_said(len(rows))
    shares = []
    for row in rows:
        seen = label[end[rows] <= row]
        shares.append(np.mean(np.concatenate([[0, 2], seen]) == 2))
    p = np.zeros((len(rows), 4, 3))
    p[:, 0, 2] = np.array(shares)
    return [
        msgspec.structs.replace(
            told,
            ts=ts[rows],
            ts_end=ts[end[rows]],
            label=label,
            return_bps=np.zeros(len(rows)),
            band_bps=np.zeros(len(rows)),
            regime=np.zeros(len(rows), np.int64),
            column=np.zeros(len(rows)),
            is_abstained=np.zeros(len(rows), np.bool_),
            p=p,
            q=np.zeros((len(rows), 3, 5)),
        )
    ]


def test_claims_that_learn_from_known_outcomes_pass() -> None:
    found = hunt_walk(
        claims_of, session_of(400, 3), dataset="toy", cuts=5, rng=np.random.default_rng(1)
    )
    assert found.n_faults == 0
    assert found.compared > 100


def test_a_session_that_keeps_features_on_a_grid_only_is_cut_with_its_grid() -> None:
    whole = session_of(400, 3)
    sparse = msgspec.structs.replace(whole, at=np.arange(0, 400, 3), rows=whole.rows[::3])

    def walk(session):
        kept = session.heads["ts_recv"][session.at]
        assert len(kept) == len(session.rows)
        return claims_of(session)

    found = hunt_walk(walk, sparse, dataset="toy", cuts=5, rng=np.random.default_rng(1))
    assert found.n_faults == 0
    assert found.compared > 100


def test_claims_that_use_the_whole_session_are_found() -> None:
    def hindsight(session):
        (said,) = claims_of(session)
        p = said.p.copy()
        p[:, 0, 2] = np.mean(said.label == 2)
        return [msgspec.structs.replace(said, p=p)]

    found = hunt_walk(
        hindsight, session_of(400, 3), dataset="toy", cuts=5, rng=np.random.default_rng(1)
    )
    assert found.n_faults > 0
    assert all("p" in fault.columns for fault in found.faults)


def test_bits_are_compared_so_that_nan_equals_itself_and_minus_nought_is_not_nought() -> None:
    ts = np.arange(6) * 10

    def build(n, last=0.0):
        column = np.array([np.nan, 0.0, 1.0, 2.0, 3.0, 4.0])[:n]
        column[1] = last if n < 6 else 0.0
        return {"x": Told(ts[:n], {"c": column})}

    def found(build):
        return hunt(build, ts, [3, 5], dataset="toy", what="rows")

    assert found(build).n_faults == 0
    assert found(lambda n: build(n, last=-0.0)).n_faults == 2


def test_a_cut_never_parts_what_was_received_at_the_same_instant() -> None:
    ts = np.array([1, 1, 1, 2, 2, 5, 5, 5, 5, 9])
    for seed in range(20):
        cuts = cuts_of(ts, 3, np.random.default_rng(seed))
        assert set(cuts) <= {3, 5, 9}
        assert cuts == sorted(set(cuts))
    assert cuts_of(np.array([4, 4]), 3, np.random.default_rng(0)) == []


def test_what_is_only_known_later_may_be_absent_and_what_is_known_may_not() -> None:
    ts = np.arange(6) * 10

    def build(n, *, known_at=40):
        told = {"x": Told(ts[:n], {"c": ts[:n]})}
        late = np.array([known_at]) if n > 4 else np.zeros(0, np.int64)
        return told | {"y": Told(late, {"c": np.zeros((len(late), 2))})}

    assert hunt(build, ts, [2, 5], dataset="toy", what="rows").n_faults == 0
    (fault,) = hunt(lambda n: build(n, known_at=10), ts, [2, 5], dataset="toy", what="rows").faults
    assert (fault.where, fault.row, fault.columns) == ("y", 0, ())
