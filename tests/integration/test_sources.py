"""Sources over real sockets on loopback: polling, newswires, what becomes of it, and the command line."""

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finllm.app.ingest import Ingest, ingest
from finllm.app.pace import HostLimit, Pace
from finllm.app.polling import Polls
from finllm.app.recording import read_messages
from finllm.app.settings import Settings, SourceSettings, load_settings
from finllm.app.sources import Sources, check_sources
from finllm.domain.errors import InputError, SettingsError
from finllm.domain.evidence import Document, Refusal
from finllm.domain.units import NS_PER_S
from finllm.narrative.sources.reading import Message
from finllm.narrative.sources.sample import sample
from finllm.runtime.clock import WallClock
from finllm.runtime.tally import Tally
from support.commands import Command
from support.web import Answer, Site, newswire

PATIENCE_S = 30.0


def source(url: str, **how: object) -> SourceSettings:
    given = {"name": "wire", "kind": "rss", "every_s": 0.05, "per_second": 1000.0, **how}
    return SourceSettings(url=url, **given)  # type: ignore[arg-type]


def until(holds: Callable[[], object]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.01)


def polled(settings: SourceSettings, n_polls: int) -> tuple[list[Message], Polls]:
    """Poll until so many requests have been made; return what came."""
    with Polls([settings]) as polls:
        until(lambda: polls.counts["wire"].polls > n_polls)
    messages = []
    while message := polls.take():
        messages.append(message)
    return messages, polls


# --- pace -------------------------------------------------------------------------------------------


@given(n=st.integers(1, 40), seed=st.integers(0, 99), told_s=st.integers(0, 3600))
def test_waits_double_up_to_an_hour_and_never_end_before_one_is_told_to(
    n: int, seed: int, told_s: int
) -> None:
    pace = Pace(60 * NS_PER_S, np.random.default_rng(seed))
    for k in range(1, n + 1):
        wait = pace.failed(0, told_s * NS_PER_S)
        longest = min(60 * 2**k, 3600)
        assert max(longest / 2, told_s) * NS_PER_S <= wait <= max(longest, told_s) * NS_PER_S
    assert 54 * NS_PER_S <= pace.answered(0) <= 66 * NS_PER_S
    assert pace.failures == 0


def test_one_host_is_asked_no_more_often_than_agreed_whoever_asks() -> None:
    hosts = HostLimit()
    assert [hosts.turn("a", 0, 10.0) for _ in range(3)] == [0, NS_PER_S // 10, NS_PER_S // 5]
    assert hosts.turn("b", 0, 10.0) == 0
    hosts.close_until("a", 7 * NS_PER_S)
    assert hosts.turn("a", NS_PER_S, 10.0) == 7 * NS_PER_S


# --- polling ----------------------------------------------------------------------------------------


def test_a_page_that_has_not_changed_is_not_sent_again() -> None:
    def answer(n: int, asked: dict[str, str]) -> Answer:
        tag = '"one"' if n < 3 else '"two"'
        if asked.get("if-none-match") == tag:
            return Answer(304)
        return Answer(
            body=tag.encode(),
            headers={"ETag": tag, "Last-Modified": "Thu, 14 Mar 2024 12:00:00 GMT"},
        )

    with Site(answer) as site:
        messages, polls = polled(source(site.url, user_agent="law test@example.org"), 5)
    assert [one.payload for one in messages] == [b'"one"', b'"two"']
    assert polls.counts["wire"].not_modified >= 2
    assert site.asked[1]["if-modified-since"] == "Thu, 14 Mar 2024 12:00:00 GMT"
    assert {one["user-agent"] for one in site.asked} == {"law test@example.org"}
    assert [one.ts_recv for one in messages] == sorted(one.ts_recv for one in messages)


def test_a_page_without_a_tag_that_is_the_same_is_told_once() -> None:
    with Site(lambda *_: Answer(body=b"same")) as site:
        messages, polls = polled(source(site.url), 4)
    assert [one.payload for one in messages] == [b"same"]
    assert polls.counts["wire"].not_modified >= 2


def test_a_site_that_says_when_to_come_back_is_asked_no_sooner() -> None:
    def answer(n: int, _: dict[str, str]) -> Answer:
        return Answer(429, headers={"Retry-After": "1"}) if n == 1 else Answer(body=b"ok")

    began = time.monotonic()
    with Site(answer) as site, Polls([source(site.url)]) as polls:
        until(lambda: polls.counts["wire"].bodies)
    assert time.monotonic() - began >= 1.0
    counts = polls.counts["wire"]
    assert (counts.told_to_wait, counts.failures) == (1, 1)
    assert counts.last_failure.endswith("HTTP 429")


def test_failures_are_counted_and_polling_goes_on() -> None:
    answers = {
        1: Answer(500),
        2: Answer(301, headers={"Location": "http://elsewhere.example/x?key=1"}),
    }
    site = Site(lambda n, _: answers.get(n, Answer(body=b"ok")))
    with site, Polls([source(site.url + "?key=secret")]) as polls:
        until(lambda: polls.counts["wire"].failures > 1)
        moved = polls.counts["wire"].last_failure
        until(lambda: polls.counts["wire"].bodies)
    assert "moved to elsewhere.example" in moved
    assert "key" not in moved


def test_a_host_that_cannot_be_reached_is_tried_again() -> None:
    with Polls([source("http://127.0.0.1:1/feed")]) as polls:
        until(lambda: polls.counts["wire"].failures > 1)
    assert polls.take() is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(body=b"x" * 10_000_000), "too_long"),
        (
            Answer(body=gzip.compress(b"\0" * 20_000_000), headers={"Content-Encoding": "gzip"}),
            "bomb",
        ),
        (Answer(body=b"no gzip", headers={"Content-Encoding": "gzip"}), "broken_gzip"),
        (Answer(body=b"x", headers={"Content-Encoding": "br"}), "unknown_encoding"),
    ],
    ids=["10 MB", "bomb", "broken", "brotli"],
)
def test_a_body_that_is_not_taken_becomes_one_refusal(answer: Answer, reason: str) -> None:
    tally = Tally()
    journalled: list[Message] = []
    with Site(lambda *_: answer) as site:
        settings = source(site.url, max_mb=1.0)
        with Sources(
            (settings,), tally=tally, clock=WallClock(), journal=journalled.append
        ) as sources:
            until(lambda: sources.counts["wire"].polls > 2)
            (refusal,) = list(sources.read())
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason
    assert tally.dropped == {reason: 1}
    assert [one.refused for one in journalled] == [reason]


def test_a_packed_page_is_unpacked_on_the_way() -> None:
    packed = Answer(body=gzip.compress(sample("rss.xml")), headers={"Content-Encoding": "gzip"})
    with Site(lambda *_: packed) as site:
        messages, _ = polled(source(site.url), 1)
    assert messages[0].payload == sample("rss.xml")


# --- newswires --------------------------------------------------------------------------------------


def headline(n: int) -> str:
    return json.dumps(
        {
            "id": n,
            "headline": f"Acme says {n}",
            "created_at": "2024-03-14T12:00:00Z",
            "symbols": ["ACME"],
        }
    )


def test_a_newswire_is_subscribed_to_again_after_it_hangs_up() -> None:
    sessions = [['{"type":"hello"}', headline(1), "not json"], [headline(2), headline(1)]]
    tally = Tally()
    journalled: list[Message] = []
    with newswire(sessions) as (url, heard):
        settings = source(url, kind="newswire", hello=('{"subscribe":"news"}',))
        with Sources(
            (settings,), tally=tally, clock=WallClock(), journal=journalled.append
        ) as sources:
            made: list[Document | Refusal] = []
            until(lambda: (made.extend(sources.read()), len(journalled) >= 5)[1])
            made.extend(sources.read())
    assert [one.text for one in made if isinstance(one, Document)] == ["Acme says 1", "Acme says 2"]
    assert [one.reason for one in made if isinstance(one, Refusal)] == ["broken_json"]
    assert heard == ['{"subscribe":"news"}'] * 2
    assert tally.noted["shown_again"] == 1
    assert sources.counts["sockets"].polls == 2


def test_a_message_of_many_items_is_handed_on_a_few_at_a_time() -> None:
    lines = "\n".join(
        json.dumps({"text": f"a {n}", "ts_published": "2024-03-14"}) for n in range(50)
    )
    with Site(lambda *_: Answer(body=lines.encode())) as site:
        settings = source(site.url, kind="jsonl")
        with Sources(
            (settings,), tally=Tally(), clock=WallClock(), journal=lambda _: None
        ) as sources:
            until(lambda: sources.counts["wire"].bodies)
            parts = [len(list(sources.read(20))) for _ in range(4)]
    assert parts == [20, 20, 10, 0]


# --- settings ---------------------------------------------------------------------------------------


def test_sources_stand_in_the_settings_file_and_a_misspelt_key_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(
        '[[source]]\nname = "a"\nkind = "rss"\nurl = "https://a.example/feed"\nevery_s = 5\n'
    )
    (one,) = load_settings(path, {}).source
    assert (one.name, one.every_s) == ("a", 5.0)
    path.write_text('[[source]]\nname = "a"\nkind = "rss"\nevry_s = 5\n')
    with pytest.raises(SettingsError, match="every_s"):
        load_settings(path, {})
    path.write_text('[[source]]\nname = "a"\nkind = "rss"\nzone = "Mars/Olympus"\n')
    with pytest.raises(SettingsError, match="zone"):
        load_settings(path, {})


@pytest.mark.parametrize(
    ("sources", "named"),
    [
        ((source("https://a.example"), source("https://b.example")), "twice"),
        ((source("file:///etc/passwd"),), r"http\(s\)"),
        (
            (source("https://data.sec.gov/submissions/x.json", kind="sec-submissions"),),
            "user_agent",
        ),
        ((source("https://a.example", kind="rsss"),), "Known here"),
        ((source("https://a.example", kind="no.such.module:Class"),), "cannot be imported"),
        ((source("https://a.example", kind="json:Nothing"),), "no class"),
    ],
)
def test_sources_that_cannot_be_opened_stop_the_start(
    sources: tuple[SourceSettings, ...], named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        check_sources(sources)


# --- ingest -----------------------------------------------------------------------------------------


def test_what_came_is_journalled_raw_and_read_again_to_the_same_documents(tmp_path: Path) -> None:
    pages = {1: sample("rss.xml"), 2: sample("atom.xml")}
    with Site(lambda n, _: Answer(body=pages.get(n, b"<rss><oops"))) as site:
        settings = Settings(source=(source(site.url),))
        began = time.monotonic()
        told = ingest(
            settings,
            Ingest(
                instruments=("us-equity:ACME",),
                run=tmp_path / "run",
                stop=lambda: len(site.asked) > 4 or time.monotonic() > began + PATIENCE_S,
            ),
        )
    assert (told.admitted, told.refused) == (3, {"broken_xml": 1})
    assert any(fate.instruments == ("us-equity:ACME",) for fate in told.fates)
    assert told.changed["html"] > 0
    payloads = [one.payload for one in read_messages(tmp_path / "run")]
    assert payloads == [*pages.values(), b"<rss><oops"]
    again = ingest(settings, Ingest(files=(tmp_path / "run",), instruments=("us-equity:ACME",)))
    assert again.fates == told.fates
    with pytest.raises(InputError, match="do not name"):
        ingest(Settings(), Ingest(files=(tmp_path / "run",)))


def test_the_command_says_what_became_of_each_document(finllm: Command, tmp_path: Path) -> None:
    path = tmp_path / "news.jsonl"
    lines = [
        {
            "text": "Acme rises on record profit",
            "ts_published": "2024-03-14T12:00:00Z",
            "source": "a",
        },
        {
            "text": "Acme rises on record profit",
            "ts_published": "2024-03-14T12:01:00Z",
            "source": "b",
        },
        {"text": "Undated"},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    told = json.loads(finllm("ingest", str(path), "--json")[0])
    assert (told["read"], told["admitted"], told["copies"]) == (3, 1, 1)
    assert told["refused"] == {"undated": 1}
    assert [fate["fate"] for fate in told["fates"]] == ["admitted", "copy", "refused"]
    assert "1 copies" in finllm("ingest", str(path))[0]
    (tmp_path / "feed.xml").write_bytes(sample("rss.xml"))
    assert "2 read, 2 admitted" in finllm("ingest", "--kind", "rss", str(tmp_path / "feed.xml"))[0]
    assert "nothing to take in" in finllm("ingest", code=2)[1]


def test_a_plug_in_is_checked_from_its_file(finllm: Command, tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "source_plugin.py"
    report = json.loads(finllm("source", "check", f"{example}:Bulletin", "--json")[0])
    assert report["ok"]
    assert all(one["ok"] for one in report["checks"])
    broken = tmp_path / "broken.py"
    broken.write_text(example.read_text().replace('errors="replace"', ""))
    assert "fails" in finllm("source", "check", f"{broken}:Bulletin", code=1)[0]
    report = json.loads(finllm("source", "check", f"{broken}:Bulletin", "--json", code=1)[0])
    line = 1 + broken.read_text().splitlines().index(
        "        for line in payload.decode().splitlines():"
    )
    (failed,) = [one for one in report["checks"] if not one["ok"]]
    assert f"broken.py:{line}" in failed["mend"]


def test_a_plug_in_of_twenty_lines_is_a_kind_in_the_settings(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "source_plugin.py"
    (tmp_path / "b.txt").write_bytes(b"2024-03-14T12:30:00|ACME|Acme raises its outlook\nno line\n")
    asked = Ingest(files=(tmp_path / "b.txt",), kind=f"{example}:Bulletin")
    told = ingest(Settings(), asked)
    assert (told.admitted, told.refused) == (1, {"broken_line": 1})
