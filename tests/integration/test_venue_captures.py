"""The captures of eight venues: every message accounted for, every book the venue's own."""

import gzip
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from finllm.app.replay import Inputs
from finllm.domain.errors import InputError
from finllm.domain.market import BookView, Flag
from finllm.market.capture import look, read_recordings
from finllm.market.check import HARMLESS, check_feed
from finllm.market.markets import open_market, venue_of
from finllm.runtime.tally import Tally

V = BookView

# Files of a feed; venue; messages; comparisons with the venue's touch and by checksum; whether it has
# a continuity rule.
FEEDS = {
    "binance-us": (["BINANCE_US.http.0.0", "BINANCE_US.ws.1.0"], "binance-us", 484, 5, 0, True),
    "binance-spot": (["BINANCE.http.0.0", "BINANCE.ws.1.0"], "binance", 269, 2, 0, True),
    "binance-futures": (
        ["BINANCE_FUTURES.http.0.0", "BINANCE_FUTURES.ws.1.0"], "binance", 1_539, 13, 0, True,
    ),
    "bitstamp": (["BITSTAMP.http.0.0", "BITSTAMP.ws.1.0"], "bitstamp", 757, 0, 0, False),
    "bybit-linear": (["BYBIT.ws.25.0"], "bybit", 3_342, 0, 0, False),
    "bybit-inverse": (["BYBIT.ws.26.0"], "bybit", 1_098, 0, 0, False),
    "bybit-v5": (["bybit_xrpusdt_ob500_20241201.ndjson"], "bybit", 50, 0, 0, True),
    "coinbase": (["COINBASE.ws.28.0"], "coinbase", 9_946, 73, 0, False),
    "deribit": (["DERIBIT.ws.1.0"], "deribit", 136, 33, 0, True),
    "hyperliquid": (["hyperliquid_btc_20250126.ndjson"], "hyperliquid", 55, 0, 0, False),
    "kraken": (["KRAKEN.ws.48.0", "KRAKEN.ws.49.0", "KRAKEN.ws.50.0"], "kraken", 4_430, 0, 4_269, True),
    "okx": (["OKX.ws.1.0"], "okx", 410, 0, 290, True),
}  # fmt: skip


@pytest.fixture(scope="module")
def captures(shared: Path) -> Path:
    return shared / "orderbook" / "wire_captures"


def files(captures: Path, name: str) -> list[Path]:
    return [captures / f"{file}.gz" for file in FEEDS[name][0]]


def walk(paths, *, lost=lambda number, payload: False):
    """Return the books, the tally and (index, ts_recv, flags, view) of each row; some frames lost."""
    tally = Tally()
    books = open_market([venue_of(look(path)) for path in paths], tally)
    rows = []
    for number, frame in enumerate(read_recordings(paths, tally)):
        if lost(number, frame.payload):
            tally.read -= 1
            continue
        index = books.push(frame)
        while index >= 0:
            view = books.view(index)
            assert view[V.TS_RECV] == frame.ts_recv
            rows.append((index, frame.ts_recv, Flag(int(view[V.FLAGS])), view.copy()))
            index = books.more()
    books.finish()
    assert tally.used + sum(tally.dropped.values()) == tally.read
    return books, tally, rows


@pytest.mark.parametrize("name", FEEDS)
def test_every_message_is_accounted_for_and_every_book_is_the_venues_own(captures, name):
    _, venue, n_messages, n_touches, n_checksums, has_rule = FEEDS[name]
    paths = files(captures, name)
    assert {venue_of(look(path)) for path in paths} == {venue}
    books, tally, rows = walk(paths)
    assert tally.read == n_messages
    assert set(tally.dropped) <= HARMLESS
    checks = books.checks
    assert (checks.done, checks.equal) == (n_touches, n_touches)
    assert (checks.checksums, checks.checksums_equal) == (n_checksums, n_checksums)
    assert books.gaps == []
    assert not any(flags & Flag.CROSSED for _, _, flags, _ in rows)
    last = {}
    for index, _, flags, view in rows:
        assert view[V.SEQ] == last.get(index, 0) + 1
        last[index] = view[V.SEQ]
        if flags & Flag.VALID:
            assert view[V.BID_PX] < view[V.ASK_PX]
            assert bool(flags & Flag.UNVERIFIED) != has_rule
    assert sum(bool(flags & Flag.VALID) for _, _, flags, _ in rows) > 0.6 * len(rows)


@pytest.mark.parametrize("name", [name for name, feed in FEEDS.items() if feed[3] + feed[4] > 0])
def test_a_feed_with_comparisons_passes_its_check_by_them(captures, name):
    report = check_feed(files(captures, name))
    assert report.ok, report.complaints
    assert sum(s.touches.done + s.checksums.done for s in report.streams) > 0


def is_update(payload: bytes) -> bool:
    """Whether a message changes a book that is there already."""
    is_depth = b'"books"' in payload or b'"book-1000"' in payload or b"orderbook." in payload
    return is_depth and b"snapshot" not in payload and b'"as"' not in payload


@pytest.mark.parametrize(("name", "every"), [("okx", 41), ("kraken", 397), ("bybit-v5", 9)])
def test_a_lost_update_never_leaves_a_wrong_book_valid(captures, name, every):
    paths = files(captures, name)
    shown = slice(V.N_BIDS, None)
    truth = {(index, ts): view for index, ts, _, view in walk(paths)[2] if view[V.KIND] == 1}
    n_gaps = 0
    for first in (every // 2, every // 3):
        books, _, rows = walk(
            paths,
            lost=lambda number, payload, first=first: (
                number % every == first and is_update(payload)
            ),
        )
        n_gaps += len(books.gaps)
        for index, ts, flags, view in rows:
            if flags & Flag.VALID and view[V.KIND] == 1:
                assert (view[shown] == truth[index, ts][shown]).all()
    assert n_gaps > 0


def test_an_unknown_venues_capture_is_an_error_that_names_the_mend(captures):
    others = [
        path
        for path in sorted(captures.glob("*.gz"))
        if path.name.split(".")[0] in {"BITFINEX", "BITMEX", "GATEIO", "GEMINI", "KUCOIN", "UPBIT"}
    ]
    assert len(others) > 6
    for path in others:
        with pytest.raises(InputError, match="--venue NAME"):
            venue_of(look(path))
        bare = msgspec.structs.replace(look(path), host="")
        if bare.first:
            with pytest.raises(InputError, match="--venue NAME"):
                venue_of(bare)


@pytest.mark.parametrize("name", FEEDS)
def test_a_venue_is_recognised_by_its_messages_alone(captures, name):
    seen = Counter()
    for path in files(captures, name):
        recording = msgspec.structs.replace(look(path), host="")
        if recording.first:
            seen[venue_of(recording)] += 1
    wanted = (
        "binance" if name.startswith("binance") else FEEDS[name][1]
    )  # Binance US speaks the same
    assert set(seen) == {wanted}


def test_frames_of_many_rows_replay_the_same_in_any_chunk(captures, run_inputs):
    tapes = (captures / "hyperliquid_btc_20250126.ndjson.gz", captures / "DERIBIT.ws.1.0.gz")
    runs = [run_inputs(Inputs(tapes=tapes), chunk=chunk) for chunk in (1, 7, 512)]
    assert len({summary.digest for summary, _ in runs}) == 1
    summary, emitted = runs[0]
    assert summary.rows == 46 + 64 + 121
    assert summary.book_checks.done == summary.book_checks.equal == 33
    assert all(emitted == other for _, other in runs)


def test_a_gap_is_told_before_the_next_row(captures, run_inputs, tmp_path):
    lines = gzip.decompress((captures / "OKX.ws.1.0.gz").read_bytes()).splitlines(keepends=True)
    at = next(i for i in range(60, len(lines)) if b'"update"' in lines[i])
    (tmp_path / "lost").write_bytes(b"".join(lines[:at] + lines[at + 1 :]))
    summary, emitted = run_inputs(Inputs(tapes=(tmp_path / "lost",)))
    assert summary.gaps == 1
    [at] = [i for i, (_, record) in enumerate(emitted) if b"to_sequence" in record]
    ts_gap = emitted[at][0]
    assert all(ts <= ts_gap for ts, _ in emitted[:at])
    assert all(ts >= ts_gap for ts, _ in emitted[at + 1 :])
