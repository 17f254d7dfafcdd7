"""The live run against a simulated exchange over real sockets, with workers in processes of their own."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import msgspec
import pytest

import finllm
from finllm.app.exchange import Exchange
from finllm.app.feed import streams_of
from finllm.app.record import record_live
from finllm.app.records import open_ledger
from finllm.app.replay import Inputs, Summary, replay
from finllm.app.run import Options, run_live
from finllm.app.settings import ConnectionSettings, FeedSettings, Settings, SourceSettings
from finllm.app.status import Status
from finllm.domain.errors import InputError, SettingsError
from finllm.domain.evidence import Document, EvidenceNotice, Quarantine
from finllm.domain.protocol import Outlook
from finllm.edge.isolated import IsolatedEdge
from finllm.market.streams import stream_of
from finllm.market.synthetic import SyntheticMarket, generate
from support.web import Answer, Site

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def tapes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Minutes of frames, of which a run takes what it needs: a slow machine needs more of them."""
    folder = tmp_path_factory.mktemp("tapes")
    generate(SyntheticMarket(seed=11, duration_s=120)).write(folder)
    return sorted(folder.glob("frames-*"))


def on(exchange: Exchange) -> Settings:
    url, rest = exchange.addresses("usdm")
    connection = ConnectionSettings(
        venue="binance-usdm", symbols=("BTCUSDT", "ETHUSDT"), url=url, rest=rest
    )
    return Settings(feed=FeedSettings(connections=(connection,)))


class Watch:
    """Ends a run once something has happened, or when the exchange has nothing left to send."""

    def __init__(self, exchange: Exchange, wanted: Callable[[Status], bool]) -> None:
        self.exchange, self.wanted = exchange, wanted
        self.seen: Status | None = None
        self.is_done = False

    def told(self, status: Status) -> None:
        self.seen = status
        self.is_done = self.is_done or self.wanted(status)

    def stop(self) -> bool:
        return self.is_done or self.exchange.done.is_set()


STORIES = (
    "Bitcoin and Ethereum plunge 9% as exchange halts withdrawals after hack",
    "Regulator approves Bitcoin and Ethereum fund; record profit lifts miners",
    "BTC and ETH crash: large bank sues custodian over missing coins",
    "Bitcoin and Ethereum soar as pension scheme doubles its purchase",
    "Investors flee Bitcoin and Ethereum on ban of mining in the north",
    "Upgrade of Bitcoin and Ethereum wins support, rally extends to third day",
    "Fraud charges against Bitcoin and Ethereum lender, customers lose savings",
    "Treasury buys BTC and ETH for reserve in surprise approval",
)
"""Each says something new: copies are never asked about."""


def write_news(path: Path, n: int) -> None:
    """Append a line to the newswire, as another process would."""
    line = {
        "source": "wire",
        "ts_published_ns": time.time_ns(),
        "text": STORIES[n % len(STORIES)],
        "symbols": ["BTCUSDT", "ETHUSDT"],
    }
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


HEADLINE = "Bitcoin custodian Gazelle Vaults wins licence in three countries"


def gazette(headers: dict[str, str], *, is_out: bool) -> Answer:
    """Answer with a feed, of one headline once it is out; who has it, by its tag, is not sent it again."""
    tag = f'"{int(is_out)}"'
    if headers.get("if-none-match") == tag:
        return Answer(304)
    stamp = formatdate(time.time() - 1, usegmt=True)
    item = f"<item><title>{HEADLINE}</title><guid>1</guid><pubDate>{stamp}</pubDate></item>"
    body = f"<rss><channel><title>Gazette</title>{item if is_out else ''}</channel></rss>"
    return Answer(body=body.encode(), headers={"ETag": tag})


def live(tapes: list[Path], folder: Path) -> Summary:
    """Run live with faults, news, a source that is polled, and a worker that is killed on the way."""
    news = folder / "news.jsonl"
    edges: list[IsolatedEdge] = []
    steps = {"news": 0, "killed": 0, "out": 0, "asked": 0}

    def wanted(status: Status) -> bool:
        if status.forecasts > 40 * (steps["news"] + 1) and not status.unusable:
            write_news(news, steps["news"])
            steps["news"] += 1
        if status.rows > 1_000 and not steps["killed"]:
            steps["killed"] = edges[0].crew.pids[0]
            os.kill(steps["killed"], signal.SIGSEGV)
        steps["out"] = int(status.forecasts > 40)
        is_asked_again = steps["asked"] > 2
        return status.rows > 1_200 and status.applied > 0 and status.gaps > 0 and is_asked_again

    def answer(_: int, headers: dict[str, str]) -> Answer:
        steps["asked"] += steps["out"]
        return gazette(headers, is_out=bool(steps["out"]))

    # At the recorded pace: sped up, the times in the frames would run away from the machine's.
    with Site(answer) as site, Exchange(tapes, fault_every_s=2.0, seed=5) as exchange:
        polled = SourceSettings(name="gazette", kind="rss", url=site.url, every_s=0.3)
        watch = Watch(exchange, wanted)
        options = Options(
            stop=watch.stop,
            told=watch.told,
            documents=news,
            name=f"law-{os.getpid()}",
            on_edge=edges.append,
        )
        settings = msgspec.structs.replace(on(exchange), source=(polled,))
        summary = run_live(settings, folder / "run", options)
    assert watch.is_done, watch.seen
    assert steps["killed"]
    return summary


@pytest.fixture(scope="module")
def lived(tapes: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    """A live run's folder and summary."""
    folder = tmp_path_factory.mktemp("lived")
    return folder / "run", live(tapes, folder)


def test_a_live_run_replays_to_its_own_digest(lived: tuple[Path, Summary], tmp_path: Path) -> None:
    run, summary = lived
    assert summary.live is not None
    assert summary.live.worker_falls == 1
    assert summary.revisions.applied > 0
    assert summary.frames.read == summary.frames.used + sum(summary.frames.dropped.values())
    assert summary.live.handed_over == summary.live.served + summary.live.conflated
    again = replay(Inputs(tapes=(run,)), Settings(), tmp_path / "again")
    assert again.digest == summary.digest
    assert (again.rows, again.forecasts) == (summary.rows, summary.forecasts)
    assert again.frames.dropped == summary.frames.dropped
    assert again.revisions == summary.revisions
    assert again.traces == summary.traces
    assert summary.traces.written > 0
    silent = msgspec.convert({"reasoning": {"explain": False}}, Settings)
    unexplained = replay(Inputs(tapes=(run,)), silent, tmp_path / "silent")
    assert unexplained.untraced_digest == summary.untraced_digest
    with pytest.raises(InputError, match="own schedule"):
        replay(
            Inputs(tapes=(run,), until=summary.frames.read),
            Settings(),
            tmp_path / "part",
        )


def test_what_a_web_server_sends_becomes_evidence_once_however_often_it_is_asked(
    lived: tuple[Path, Summary],
) -> None:
    run, summary = lived
    assert summary.live is not None
    counts = summary.live.sources["gazette"]
    assert (counts.bodies, counts.failures) == (2, 0)  # without the headline, and with it
    assert counts.not_modified >= 1
    with open_ledger(run) as ledger:
        (sent,) = [one for one in ledger.records(Document) if one.source == "gazette"]
        noticed = [one for one in ledger.records(EvidenceNotice) if one.ts_recv == sent.ts_recv]
    assert sent.text == HEADLINE
    assert [notice.instrument for notice in noticed] == ["binance-usdm:BTCUSDT"]


def test_a_killed_run_whose_last_frames_are_gone_replays_up_to_there(
    lived: tuple[Path, Summary], tmp_path: Path
) -> None:
    run, summary = lived
    killed = tmp_path / "killed"
    shutil.copytree(run, killed)
    [lines] = [path for path in (killed / "journal").glob("frames-0-*") if path.suffix == ".txt"]
    kept = lines.read_bytes().splitlines(keepends=True)[:-200]
    lines.write_bytes(b"".join(kept))
    with pytest.raises(InputError, match="fewer frames than it says"):
        replay(Inputs(tapes=(killed,)), Settings(), tmp_path / "refused")
    (killed / "run.json").unlink()
    again = replay(Inputs(tapes=(killed,)), Settings(), tmp_path / "again")
    assert again.frames.noted["cut_short"] == 1
    assert 0 < summary.frames.read - again.frames.read <= 200 + 512
    assert again.frames.read <= len(kept)


HOAX = "Gazelle Vaults halts Bitcoin withdrawals after a hack, customers lose savings"


def test_a_hoax_is_withdrawn_live_when_it_is_denied_and_the_replay_follows(
    tapes: list[Path], tmp_path: Path
) -> None:
    news = tmp_path / "news.jsonl"
    told: list[str] = []
    served: list[int] = []

    def tell(source: str, text: str) -> None:
        line = {"source": source, "ts_published_ns": time.time_ns(), "text": text}
        with news.open("a") as file:
            file.write(json.dumps({**line, "symbols": ["BTCUSDT"]}) + "\n")
        told.append(source)

    def wanted(status: Status) -> bool:
        if not told and status.forecasts > 40:
            tell("forum", HOAX)
        if told == ["forum"] and status.applied > 0:
            tell("wire", f"No truth to the rumour that {HOAX}, says Gazelle Vaults")
            served.append(status.forecasts)
        return bool(served) and status.forecasts > served[0] + 100

    with Exchange(tapes, seed=6) as exchange:
        watch = Watch(exchange, wanted)
        options = Options(
            stop=watch.stop, told=watch.told, documents=news, name=f"hoax-{os.getpid()}"
        )
        summary = run_live(on(exchange), tmp_path / "run", options)
    assert watch.is_done, watch.seen
    with open_ledger(tmp_path / "run") as ledger:
        (change,) = [q for q in ledger.records(Quarantine) if q.state == "condemned"]
        outlooks = list(ledger.records(Outlook))
    before = [one for one in outlooks if one.ts < change.ts][-1]
    withdrawn = next(one for one in outlooks if one.ts >= change.ts)
    assert change.evidence_id in before.evidence_ids
    assert (withdrawn.ts, withdrawn.reason) == (change.ts, "condemned")
    assert change.evidence_id not in withdrawn.evidence_ids
    again = replay(Inputs(tapes=(tmp_path / "run",)), Settings(), tmp_path / "again")
    assert again.digest == summary.digest


def test_a_recording_is_a_tape_whose_books_are_whole(tapes: list[Path], tmp_path: Path) -> None:
    with Exchange(tapes, speed=4.0) as exchange:
        watch = Watch(exchange, lambda status: status.frames > 6_000 and not status.unusable)
        recorded = record_live(on(exchange), tmp_path / "tape", stop=watch.stop, told=watch.told)
    assert watch.is_done, watch.seen
    assert recorded.recording == "ok"
    assert recorded.gaps == 0
    assert recorded.frames == recorded.used + sum(recorded.dropped.values())
    assert recorded.instruments == ["binance-usdm:BTCUSDT", "binance-usdm:ETHUSDT"]
    again = replay(Inputs(tapes=(tmp_path / "tape",)), Settings(), tmp_path / "run")
    assert again.frames.read == recorded.frames
    assert again.frames.dropped == recorded.dropped
    assert again.book_checks.done == again.book_checks.equal > 0


def test_another_process_is_given_the_rows_by_name(tapes: list[Path], tmp_path: Path) -> None:
    got: dict[str, int] = {}
    heard = f"heard-{os.getpid()}"

    def listen() -> None:
        while not watch.stop():
            try:
                with finllm.subscribe(heard) as feed:
                    for batch in feed:
                        for name in batch.instruments:
                            got[name] = got.get(name, 0) + 1
                        if watch.stop():
                            return
            except InputError:  # it does not publish yet
                time.sleep(0.05)

    with Exchange(tapes) as exchange:
        watch = Watch(exchange, lambda _: len(got) == 2)
        listener = threading.Thread(target=listen)
        listener.start()
        options = Options(stop=watch.stop, told=watch.told, name=heard)
        run_live(on(exchange), tmp_path / "run", options)
        listener.join()
    assert sorted(got) == ["binance-usdm:BTCUSDT", "binance-usdm:ETHUSDT"]


def test_without_a_feed_or_with_an_unknown_one_the_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"feed\.connections"):
        run_live(Settings(), tmp_path, Options(stop=lambda: True))
    with pytest.raises(SettingsError, match="no venue is called 'binanse'"):
        stream_of("binanse", ("BTCUSDT",))
    with pytest.raises(SettingsError, match="symbols"):
        stream_of("binance-usdm", ())
    with pytest.raises(SettingsError, match="url"):
        stream_of("kraken", ("XBT/USD",))


def test_binance_symbols_may_be_written_in_either_case() -> None:
    lower = stream_of("binance-cm", ("btcusd_perp",))
    assert lower == stream_of("binance-cm", ("BTCUSD_PERP",))
    assert lower.symbols == ("BTCUSD_PERP",)
    assert "symbol=BTCUSD_PERP" in lower.snapshots["BTCUSD_PERP"]
    with pytest.raises(SettingsError, match="'BTC/USDT' is no symbol"):
        stream_of("binance-usdm", ("BTC/USDT",))


def test_what_a_venue_has_no_use_for_is_refused_by_connection_and_key() -> None:
    good = ConnectionSettings(venue="binance-usdm", symbols=("BTCUSDT",))
    useless = {
        "rest": ConnectionSettings(venue="kraken", url="wss://a", rest="https://a"),
        "hello": ConnectionSettings(venue="binance-usdm", symbols=("BTCUSDT",), hello=("{}",)),
    }
    for key, one in useless.items():
        with pytest.raises(
            SettingsError, match=rf"connections\]\] number 2, {one.venue}: '{key}'.*Leave it out"
        ):
            streams_of(Settings(feed=FeedSettings(connections=(good, one))))


@pytest.mark.parametrize(
    ("key", "address"),
    [
        ("url", "https://host/?key=hidden"),
        ("url", "wss:///hidden"),
        ("url", "ws://host:hidden"),
        ("url", "ws://hidden@host"),
        ("rest", "file:///hidden"),
        ("rest", "https://me:hidden@host"),
    ],
)
def test_a_bad_address_is_refused_by_its_key_and_not_quoted(key: str, address: str) -> None:
    with pytest.raises(SettingsError, match=f"'{key}'") as refused:
        stream_of("binance-usdm", ("BTCUSDT",), **{key: address})
    assert "hidden" not in str(refused.value)
