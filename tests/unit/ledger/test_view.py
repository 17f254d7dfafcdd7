"""Laws of the latest view: what it remembers of forecasts that are over, and for how long."""

from finllm.domain.protocol import Closing
from finllm.ledger import view as module
from finllm.ledger.view import ENDED_NS, LatestView
from support.ledgers import T0, forecast


def close(view: LatestView, number: int, ts: int) -> str:
    opened = forecast(number)
    view.opened(opened)
    view.closed(Closing(forecast_id=opened.forecast_id, ts=ts, version=1, status=opened.status))
    return opened.forecast_id


def test_a_closed_forecast_is_remembered_for_a_while_and_then_forgotten():
    view = LatestView()
    first = close(view, 0, T0)
    close(view, 1, T0 + ENDED_NS)
    ended = view.ended(first)
    assert ended is not None
    assert ended.version == 1
    assert not view.admits(forecast(0))
    close(view, 2, T0 + ENDED_NS + 1)
    assert view.ended(first) is None
    assert view.admits(forecast(0))


def test_time_that_leaps_leaves_the_newest_remembered():
    view = LatestView()
    close(view, 0, T0)
    last = close(view, 1, T0 + 1_000 * ENDED_NS)
    assert view.ended(last) is not None


def test_of_many_that_close_at_once_the_first_are_forgotten(monkeypatch):
    monkeypatch.setattr(module, "ENDED_KEPT", 3)
    view = LatestView()
    closed = [close(view, i, T0) for i in range(5)]
    assert [view.ended(one) is not None for one in closed] == [False, False, True, True, True]
