"""Laws of what is counted of a recording."""

import numpy as np

from finllm.domain.market import ROW_HEAD
from finllm.features.book_spec import BOOK_SPEC
from finllm_lab.counting import counts_of, repeated
from finllm_lab.labels import BOOK_HORIZONS
from finllm_lab.regimes.rules import load_rule
from finllm_lab.tapes import Session

N = 600
RULE = load_rule("book")


def session() -> Session:
    """Ten rows a second; the mid rises by a tick a second, which is more than half the spread."""
    heads = np.zeros(N, dtype=ROW_HEAD)
    heads["seq"] = np.arange(1, N + 1)
    heads["ts_recv"] = 10**18 + np.arange(N) * 10**8
    heads["mid2"] = 200_001 + 4 * (np.arange(N) // 10)
    heads["spread"], heads["flags"], heads["kind"] = 1, 1, 1
    rows = np.random.default_rng(0).normal(size=(N, len(BOOK_SPEC)))
    rows[:, BOOK_SPEC.columns["sigma"]] = 0.1
    return Session(name="toy", instrument="x:Y", heads=heads, rows=rows)


def test_shares_of_classes_and_regimes_are_whole():
    made = counts_of(session(), BOOK_HORIZONS, BOOK_SPEC.columns["sigma"], RULE, with_outcomes=True)
    assert (made.rows, made.grid, made.repeated) == (N, N, 0.0)
    assert made.classes["1s"] == (0.0, 0.0, 1.0)
    assert sum(made.regimes.values()) == 1.0
    assert all(abs(sum(shares) - 1.0) < 1e-3 for shares in made.classes.values())


def test_outcomes_that_are_not_to_be_looked_at_are_not():
    made = counts_of(
        session(), BOOK_HORIZONS, BOOK_SPEC.columns["sigma"], RULE, with_outcomes=False
    )
    assert made.classes == {}
    assert made.grid == N


def test_near_copies_are_those_that_differ_by_less_than_a_hundredth_of_a_deviation():
    rows = np.random.default_rng(1).normal(size=(101, 4))
    assert repeated(rows) == 0.0
    rows[1::2] = rows[:-1:2] + 1e-4
    assert repeated(rows) == 0.5
    assert repeated(rows[:1]) == 0.0
