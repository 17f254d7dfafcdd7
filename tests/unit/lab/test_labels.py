"""Labels as the lab makes them are the labels that the live resolver makes."""

import numpy as np
import pytest

from finllm.domain.forecast import Outcome
from finllm.domain.instrument import Horizon
from finllm.features.outcomes import OutcomeResolver
from finllm_lab.labels import BAR_HORIZONS, BOOK_HORIZONS, GRID_NS, Targets, grid, targets
from finllm_lab.tapes import Session, between
from lab_sessions import session_of


def _live(session: Session, horizons: tuple[Horizon, ...], made: Targets) -> list[Outcome]:
    resolver = OutcomeResolver("x:Y", horizons)
    at, found = made.at.tolist(), []
    bars = horizons[0].events > 0
    last = None
    for i, ts in enumerate(session.heads["ts_recv"].tolist()):
        head = session.heads[i]
        found += resolver.resolve(head if bars else last, ts)
        last = head
        if i in at:
            n = at.index(i)
            for h in range(len(horizons)):
                resolver.open(f"{n}/{h}", h, ts, int(head["mid2"]), float(made.band_bps[n, h]))
    return found + resolver.abandon(int(session.heads["ts_recv"][-1]))


@pytest.mark.parametrize("bars", [False, True])
def test_lab_and_live_say_the_same_of_every_target(bars: bool) -> None:
    horizons = BAR_HORIZONS if bars else BOOK_HORIZONS
    session = session_of(1_500, 7, bars=bars)
    made = targets(session, horizons, 1, 0 if bars else GRID_NS)
    live = {o.forecast_id: o for o in _live(session, horizons, made)}
    assert len(live) == made.label.size
    for n, h in np.ndindex(made.label.shape):
        outcome = live[f"{n}/{h}"]
        assert outcome.label == made.label[n, h]
        if outcome.label >= 0:
            assert outcome.return_bps == made.return_bps[n, h]
    assert {-1, 0, 1, 2} <= set(made.label.reshape(-1).tolist())


def test_grid_points_are_good_rows_and_far_enough_apart() -> None:
    session = session_of(2_000, 3)
    at = grid(session.heads, GRID_NS)
    assert (session.heads["flags"][at] == 1).all()
    assert (np.diff(session.heads["ts_recv"][at]) >= GRID_NS).all()


def test_a_part_of_a_session_holds_what_was_received_in_it() -> None:
    session = session_of(100, 1, bars=True)
    ts = session.heads["ts_recv"]
    part = between(session, int(ts[20]), int(ts[50]))
    assert part.heads["seq"].tolist() == list(range(21, 51))
    assert part.rows.tobytes() == session.rows[20:50].tobytes()
