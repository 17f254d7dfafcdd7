"""The quick road from stock ticks to rows gives what the served road gives, bit for bit."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finllm.domain.instrument import Horizon
from finllm_lab.labels import targets
from finllm_lab.tapes import between
from finllm_lab.ticks import (
    GRID_NS,
    TICK_TAPES,
    quick_session,
    read_session,
    served_session,
    tick_session,
    tick_sessions,
)

N_LINES = 20_000
BUSY = 200_000
"""Lines before these are of the early morning, hours apart."""


def assert_same(paths: list[Path], grid_ns: int = GRID_NS) -> None:
    quick, slow = quick_session("a", paths, grid_ns), served_session("a", paths, grid_ns)
    assert quick is not None
    for part in ("heads", "rows", "at"):
        assert getattr(quick[0], part).tobytes() == getattr(slow[0], part).tobytes(), part
    assert (quick[1].read, quick[1].used) == (slow[1].read, slow[1].used)
    assert (quick[1].dropped, quick[1].noted) == (slow[1].dropped, slow[1].noted)


def write(folder: Path, quotes: list[str], trades: list[str]) -> list[Path]:
    paths = [folder / f"aig_20131007_{kind}.csv" for kind in ("quote", "trade")]
    for path, lines in zip(paths, (quotes, trades), strict=True):
        path.write_text("".join(line + "\n" for line in lines))
    return paths


@pytest.mark.parametrize(("symbol", "start"), [("aig", 0), ("bac", BUSY)])
def test_real_ticks_give_the_served_rows(
    shared: Path, tmp_path: Path, symbol: str, start: int
) -> None:
    paths = []
    for kind in ("quote", "trade"):
        name = f"{symbol}_20131007_{kind}.csv"
        with gzip.open(shared / "orderbook" / "us_ticks" / f"{name}.gz") as file:
            lines = file.readlines()
        first = start if kind == "quote" else 0
        paths.append(tmp_path / name)
        paths[-1].write_bytes(b"".join(lines[first : first + N_LINES]))
    assert_same(paths)
    session, _ = read_session("a", paths, GRID_NS)
    assert len(session.rows) > 200


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ticks")


steps = st.sampled_from([0, 0, 1, 40, 900, 130_000])
quote = st.tuples(
    steps, st.booleans(), st.integers(480_000, 480_400).map(lambda x: x // 100 * 100),
    st.integers(0, 900), st.sampled_from("PQN"), st.sampled_from("00001"),
)  # fmt: skip
trade = st.tuples(
    steps, st.integers(480_000, 480_400), st.integers(0, 900), st.sampled_from("00001")
)


@settings(max_examples=60)
@given(st.lists(quote, max_size=40), st.lists(trade, max_size=20))
def test_any_ticks_in_order_give_the_served_rows(
    scratch: Path, quotes: list[tuple], trades: list[tuple]
) -> None:
    ms, lines = 34_200_000, ([], [])
    for step, is_bid, price, size, exchange, flag in quotes:
        ms += step
        sides = f"{price},{size},0,0" if is_bid else f"0,0,{price},{size}"
        lines[0].append(f"{ms},{sides},{exchange},1,{flag}")
    ms = 34_200_000
    for step, price, size, flag in trades:
        ms += step
        lines[1].append(f"{ms},{price},{size},Q,0,{flag}")
    assert_same(write(scratch, *lines))


def test_what_comes_after_a_cut_changes_no_row_before_it(shared: Path, tmp_path: Path) -> None:
    days: dict[str, list[bytes]] = {}
    for kind in ("quote", "trade"):
        name = f"aig_20131007_{kind}.csv"
        with gzip.open(shared / "orderbook" / "us_ticks" / f"{name}.gz") as file:
            days[name] = [file.readline() for _ in range(N_LINES)]

    def upto(cut_ms: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        paths = []
        for name, lines in days.items():
            paths.append(tmp_path / name)
            kept = [line for line in lines if float(line.split(b",", 1)[0]) < cut_ms]
            paths[-1].write_bytes(b"".join(kept))
        found = quick_session("a", paths, GRID_NS)
        assert found is not None
        session = found[0]
        return session.heads, session.at, session.rows

    heads, at, rows = upto(np.inf)
    ends = [float(lines[-1].split(b",", 1)[0]) for lines in days.values()]
    for cut in np.linspace(34_200_000, min(ends), 6)[1:-1]:
        some_heads, some_at, some_rows = upto(cut)
        n, k = len(some_heads), len(some_at)
        assert 0 < k < len(at)
        assert heads[:n].tobytes() == some_heads.tobytes()
        assert at[:k].tobytes() == some_at.tobytes()
        assert rows[:k].tobytes() == some_rows.tobytes()


@pytest.mark.parametrize(
    ("odd", "n_rows"),
    [
        ("34200001,x,100,0,0,P,1,0", 2),
        ("34200001,480000,100", 2),
        ("34199000,480000,200,0,0,P,1,0", 2),
        ("", 2),
        ("34200001,480000,100,0,0,NASDAQ,1,0", 3),
        ("34200001, 480000,200,0,0,P,1,0", 3),
    ],
)
def test_what_is_out_of_the_ordinary_is_read_by_the_served_road(
    tmp_path: Path, odd: str, n_rows: int
) -> None:
    quotes = ["34200000,480000,100,0,0,P,1,0", "34200000,0,0,480100,300,P,1,0", odd,
              "34200002,480050,500,0,0,P,1,0"]  # fmt: skip
    paths = write(tmp_path, quotes, ["34200002,480000,10,Q,0,0"])
    assert quick_session("a", paths, 0) is None
    assert len(read_session("a", paths, 0)[0].heads) == n_rows


def test_a_session_holds_regular_hours_and_keeps_features_on_its_grid(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    ms = 34_170_000 + np.cumsum(rng.integers(0, 60, 4_000))
    side = rng.integers(0, 2, len(ms))
    px = 480_000 + 100 * rng.integers(0, 3, len(ms)) + 300 * side
    sizes = rng.integers(1, 9, len(ms))
    quotes = [
        f"{t},0,0,{p},{q},P,1,0" if s else f"{t},{p},{q},0,0,P,1,0"
        for t, s, p, q in zip(ms, side, px, sizes, strict=True)
    ]
    paths = write(tmp_path, quotes, [])
    session = tick_session("a", paths, grid_ns=10**9)
    opened = 1_381_152_600 * 10**9
    ts = session.heads["ts_recv"]
    assert ts[0] >= opened
    assert (np.diff(ts[session.at]) >= 10**9).all()
    every, _ = read_session("a", paths, 0)
    kept = np.flatnonzero(every.heads["ts_recv"] >= opened)[session.at]
    assert every.heads[kept].tobytes() == session.heads[session.at].tobytes()
    assert every.rows_at(kept).tobytes() == session.rows.tobytes()


def test_targets_are_valued_by_all_rows_whatever_is_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    ms = 34_200_000 + np.cumsum(rng.integers(0, 60, 3_000))
    px = 480_000 + 100 * rng.integers(-3, 4, len(ms)).cumsum()
    quotes = [f"{t},{p},5,{p + 100},5,P,1,0" for t, p in zip(ms, px, strict=True)]
    paths = write(tmp_path, quotes, [])
    sparse, _ = read_session("a", paths, 10**9)
    horizons = (
        Horizon(name="1s", ns=10**9, nominal_s=1.0, band="half_spread"),
        Horizon(name="7e", ns=10**9, events=7, nominal_s=0.3, band="sigma"),
    )
    made = targets(sparse, horizons, 25, 10**9)
    assert made.at.tolist() == sparse.at.tolist()
    ts, mid2 = sparse.heads["ts_recv"], sparse.heads["mid2"]
    for n, i in enumerate(made.at.tolist()):
        later = [int(np.flatnonzero(ts <= ts[i] + 10**9)[-1]), i + 7]
        for h, end in enumerate(later):
            if made.label[n, h] >= 0:
                assert made.return_bps[n, h] == (mid2[end] / mid2[i] - 1.0) * 1e4
    assert (made.label >= 0).mean() > 0.9


def test_a_part_of_a_sparse_session_keeps_its_own_rows(tmp_path: Path) -> None:
    quotes = [f"{34_200_000 + 50 * n},{480_000 + n % 3 * 100},5,480500,5,P,1,0" for n in range(900)]
    session, _ = read_session("a", write(tmp_path, quotes, []), 10**9)
    ts = session.heads["ts_recv"]
    part = between(session, int(ts[300]), int(ts[700]))
    assert part.heads.tobytes() == session.heads[300:700].tobytes()
    assert part.at is not None
    assert part.rows_at(part.at).tobytes() == session.rows_at(part.at + 300).tobytes()


def test_a_kept_session_is_never_stale(tmp_path: Path) -> None:
    quotes = [f"{34_200_000 + 50 * n},{480_000 + n % 3 * 100},5,480500,5,P,1,0" for n in range(600)]
    paths, cache = write(tmp_path, quotes, []), tmp_path / "cache"
    fresh = tick_session("a", paths)
    for _ in range(2):
        held = tick_session("a", paths, cache=cache)
        assert held.rows.tobytes() == fresh.rows.tobytes()
        assert held.heads.tobytes() == fresh.heads.tobytes()
    [file] = cache.iterdir()
    file.write_bytes(file.read_bytes()[:-200])  # torn: built anew
    assert tick_session("a", paths, cache=cache).rows.tobytes() == fresh.rows.tobytes()
    write(tmp_path, quotes[:-100], [])
    assert len(tick_session("a", paths, cache=cache).heads) < len(fresh.heads)
    assert len(list(cache.iterdir())) == 2


def test_lobsters_morning_is_to_train_on_and_only_that(shared: Path) -> None:
    [session] = tick_sessions(shared, TICK_TAPES[-1:], cache=None)
    last = int(session.heads["ts_recv"][-1])
    assert last < 1_340_299_800 * 10**9 <= last + 60 * 10**9  # 17:30 UTC
    assert len(session.rows) > 1_000
    assert tick_sessions(shared, TICK_TAPES[6:8], cache=None) == []
