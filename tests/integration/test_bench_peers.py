"""The peers of `finllm bench edge` do the job that they are timed at."""

from pathlib import Path

import numpy as np
import pytest

from finllm.app.bench.context import NEEDS, ReplayedBook
from finllm.app.bench.peers import KINDS, Kind, PeerPath, missing, tick_sizes
from finllm.app.bench.queue import QueueLine
from finllm.domain.market import ROW_HEAD, BookView, Frame
from finllm.edge.artifact import SHIPPED, Artifact, load_artifact
from finllm.features.book import BookRows
from finllm.features.book_spec import BOOK_SPEC
from finllm.market.feed import Market
from finllm.market.synthetic import SyntheticMarket, generate
from finllm.market.tape import read_chain
from finllm.runtime.tally import Tally

TOUCH = [BookView.BID_PX, BookView.BID_SZ, BookView.ASK_PX, BookView.ASK_SZ]
SAME = ("obi_1", "log_queue_ratio", "log_spread", "last_move_sign")
"""Columns that must be ours to the bit; the others below end their windows elsewhere."""
ALIKE = (
    "ofi_500ms",
    "mlofi_500ms",
    "flow_2s",
    "event_rate_2s",
    "trade_rate_2s",
    "ret_1s",
)


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return load_artifact(SHIPPED["book"], spec=BOOK_SPEC)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return list(generate(SyntheticMarket(seed=7, duration_s=15.0)).frames())


def _path(kind: Kind, artifact: Artifact, frames: list[Frame]) -> PeerPath:
    if lacking := missing(kind.needs):
        pytest.skip(f"{lacking} is not installed")
    return PeerPath(kind.book, kind.columns, artifact, tick_sizes(frames))


def _agree_on_the_touch(path: PeerPath, frames: list[Frame]) -> int:
    """Return how many rows both made, having seen that their best levels are the same."""
    market, n = Market(Tally()), 0
    for frame in frames:
        index = market.push(frame)
        if path.push(frame) is None:
            continue
        n += 1
        lot = market.instruments[index].lot_size
        ours = market.view(index)[TOUCH] * np.array([1.0, lot, 1.0, lot])
        theirs = path.peers[frame.source].sides[:, 0]
        assert ours == pytest.approx(theirs, rel=1e-9), frame
    return n


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_peer_has_our_best_bid_and_ask_at_every_row(
    kind: Kind, artifact: Artifact, frames: list[Frame]
) -> None:
    assert _agree_on_the_touch(_path(kind, artifact, frames), frames) > 0.9 * len(frames)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_peer_has_our_best_bid_and_ask_on_a_recording(
    kind: Kind, artifact: Artifact, shared: Path
) -> None:
    (tape,) = (shared / "orderbook" / "binance_frames").glob("cm_btcusd_perp_20240808*")
    read = [frame for frame, _ in zip(read_chain([tape], Tally()), range(4_000), strict=False)]
    assert _agree_on_the_touch(_path(kind, artifact, read), read) > 0.9 * len(read)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_peer_makes_our_columns(kind: Kind, artifact: Artifact, frames: list[Frame]) -> None:
    path, market = _path(kind, artifact, frames), Market(Tally())
    makers = BookRows()
    features = {}
    ours, theirs = [], []
    row, head = np.zeros(len(BOOK_SPEC)), np.zeros(1, ROW_HEAD)
    for i, frame in enumerate(frames):
        index = market.push(frame)
        claim = path.push(frame)
        if index < 0:
            continue
        key = market.instruments[index].key
        made = features.setdefault(index, makers.features(key))
        made.push(market.view(index), row, head)
        if claim is not None and i > len(frames) // 2:
            ours.append(row.copy())
            theirs.append(path.peers[frame.source].row.copy())
    mine, other = np.array(ours), np.array(theirs)
    for name in SAME:
        at = BOOK_SPEC.columns[name]
        assert other[:, at] == pytest.approx(mine[:, at], abs=1e-9), name
    for name in ALIKE:
        at = BOOK_SPEC.columns[name]
        assert np.corrcoef(mine[:, at], other[:, at])[0, 1] > 0.98, name


def test_the_queues_worker_makes_our_claim_of_every_row(
    artifact: Artifact, frames: list[Frame]
) -> None:
    sent = frames[:1_500]
    with QueueLine(artifact, sent, len(sent)) as line:
        answers = line.answers()
    market, makers = Market(Tally()), BookRows()
    features, claims = {}, []
    rows, head = np.zeros((1, len(BOOK_SPEC))), np.zeros(1, ROW_HEAD)
    for frame in sent:
        index = market.push(frame)
        if index >= 0:
            key = market.instruments[index].key
            made = features.setdefault(index, makers.features(key))
            made.push(market.view(index), rows[0], head)
            claims.append(artifact.model.infer(rows)[0])
    assert len(claims) > 1_000
    assert answers.raw == pytest.approx(np.array(claims), abs=1e-5)


def test_hftbacktests_book_ends_where_ours_does(frames: list[Frame]) -> None:
    if lacking := missing(NEEDS):
        pytest.skip(f"{lacking} is not installed")
    mine = [frame for frame in frames if frame.source == 0]
    market = Market(Tally())
    for frame in mine:
        if b"@book" not in frame.payload[:64]:
            market.push(frame)
    instrument, view = market.instruments[0], market.view(0)
    book = ReplayedBook(mine, instrument.tick_size, instrument.lot_size)
    ours = (
        view[BookView.BID_PX] * instrument.tick_size,
        view[BookView.ASK_PX] * instrument.tick_size,
    )
    assert book.best == pytest.approx(ours)
