"""Sources: each kind's shape, what is refused, and what a reader remembers."""

import bz2
import gzip
import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finllm.domain.evidence import Document, Refusal
from finllm.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN, NS_PER_S, parse_instant
from finllm.narrative.sources.body import inflated, text_of, unpacked
from finllm.narrative.sources.check import check_source
from finllm.narrative.sources.fomc import Fomc, release_of
from finllm.narrative.sources.kinds import KINDS
from finllm.narrative.sources.reading import MOST_ITEMS, Message, SourceReader
from finllm.narrative.sources.rows import Unusable
from finllm.narrative.sources.rss import Rss
from finllm.narrative.sources.sample import sample
from finllm.narrative.sources.source import Item, Source
from finllm.narrative.sources.stamps import epoch_ns
from finllm.runtime.tally import Tally

NOW = parse_instant("2024-03-15T12:00:00Z")


class Reading:
    """A reader, its tally, and what it made of what it was handed."""

    def __init__(self, kind: str | Source, zone: str = "") -> None:
        source = KINDS[kind]() if isinstance(kind, str) else kind
        self.tally = Tally()
        self.reader = SourceReader("wire", source, self.tally, zone=zone)

    def __call__(self, payload: bytes, ts_recv: int = NOW) -> list[Document | Refusal]:
        return list(self.reader.read(Message(source="wire", ts_recv=ts_recv, payload=payload)))


def documents(made: list[Document | Refusal]) -> list[Document]:
    assert all(isinstance(one, Document) for one in made), made
    return [one for one in made if isinstance(one, Document)]


def reasons(made: list[Document | Refusal]) -> list[str]:
    return [one.reason for one in made if isinstance(one, Refusal)]


def rss(*items: str) -> bytes:
    return f"<rss version='2.0'><channel>{''.join(items)}</channel></rss>".encode()


def item(text: str, published: str = "Thu, 14 Mar 2024 12:00:00 GMT", guid: str = "") -> str:
    dated = f"<pubDate>{published}</pubDate>" if published else ""
    named = f"<guid>{guid}</guid>" if guid else ""
    return f"<item><title>{text}</title>{named}{dated}</item>"


# --- kinds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_source_that_ships_keeps_every_promise(kind: str) -> None:
    report = check_source(kind, KINDS[kind])
    assert report.ok, [one for one in report.checks if not one.ok]


def test_rss_gives_title_and_text_with_the_stamp_of_its_own_zone() -> None:
    first, second = documents(Reading("rss")(sample("rss.xml")))
    assert first.text.startswith("Acme raises its full-year outlook\n\n<p>Acme Corp (ACME)")
    assert first.ts_published == parse_instant("2024-03-14T12:30:00Z")
    assert (first.author, first.lang, first.source) == ("Jane Roe", "en", "wire")
    assert "inquiry into its accounts" in second.text
    assert "\u2019" in second.text  # an entity of HTML that the feed did not declare


def test_atom_gives_the_text_inside_its_markup() -> None:
    (entry,) = documents(Reading("rss")(sample("atom.xml")))
    text = " ".join(entry.text.split())
    assert text.startswith("Gamma Bank completes sale of its leasing arm The sale, for 1.2 billion")
    assert entry.ts_published == parse_instant("2024-03-14T08:00:00Z")


@pytest.mark.parametrize(
    "bomb",
    [
        b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><rss><item>&b;</item></rss>',
        b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss><item>&x;</item></rss>',
        b'<!DOCTYPE r [<!ENTITY % p SYSTEM "http://127.0.0.1/p">%p;]><rss/>',
    ],
)
def test_a_feed_that_declares_entities_is_refused(bomb: bytes) -> None:
    assert reasons(Reading("rss")(bomb)) == ["xml_bomb"]


def test_what_stood_before_a_mistake_in_a_feed_counts() -> None:
    broken = rss(item("Acme rises", guid="1"), item("Beta falls", guid="2"))[:-40] + b"<oops"
    made = Reading("rss")(broken)
    assert [one.text for one in made if isinstance(one, Document)] == ["Acme rises"]
    assert reasons(made) == ["broken_xml"]


def test_elements_within_elements_end_somewhere() -> None:
    assert reasons(Reading("rss")(b"<rss>" + b"<a>" * 5_000)) == ["too_deep"]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("euc-kr", "삼성전자"), ("gb2312", "股市上涨"), ("windows-1251", "Рубль"), ("utf-16", "Acme")],
)  # fmt: skip
def test_a_feed_is_read_in_the_encoding_that_it_declares(encoding: str, text: str) -> None:
    declared = f"<?xml version='1.0' encoding='{encoding}'?>".encode()
    body = rss(item(text)).decode()
    payload = (declared.decode() + body).encode(encoding)
    assert documents(Reading("rss")(payload))[0].text == text


def test_bytes_that_are_no_text_are_replaced_and_flagged() -> None:
    (document,) = documents(
        Reading("rss")(rss(item("Acme \x00X rises")).replace(b"\x00X", b"\xff\xfe"))
    )
    assert "\ufffd" in document.text
    assert "broken_encoding" in document.flags


def test_a_newswire_gives_headlines_symbols_and_outlet_and_ignores_greetings() -> None:
    reading = Reading("newswire")
    assert reading(b'[{"T":"success","msg":"connected"}]') == []
    assert reading(b'{"type":"heartbeat","ts":1710419400}') == []
    first, second = documents(reading(sample("newswire.json")))
    assert first.source == "wire/examplewire"
    assert (first.symbols, first.ts_published) == (("ACME",), parse_instant("2024-03-14T12:30:01Z"))
    assert "Trading in Beta Mines was halted" in second.text
    (third,) = documents(reading(sample("newswire_envelope.json")))
    assert third.ts_published == 1_710_419_525_123 * 1_000_000


def test_an_outlet_cannot_take_the_name_of_another_source() -> None:
    message = b'{"headline":"Acme falls","source":"reuters","created_at":"2024-03-14T12:00:00Z"}'
    assert documents(Reading("newswire")(message))[0].source == "wire/reuters"


def test_a_filer_whose_stamps_show_it_has_its_clock_told() -> None:
    utc = documents(Reading("sec-submissions")(sample("sec_submissions.json")))
    assert [one.ts_published for one in utc] == [
        parse_instant(t)
        for t in ("2024-03-14T20:31:07Z", "2024-03-12T22:15:40Z", "2024-02-09T01:20:11Z")
    ]
    new_york = documents(Reading("sec-submissions")(sample("sec_submissions_ny.json")))
    assert new_york[0].ts_published == parse_instant("2024-03-14T11:30:32Z")
    assert "results of operations" in utc[0].text.lower()
    assert (utc[0].symbols, utc[0].flags) == (("ACME",), ())


def test_a_filer_whose_stamps_do_not_tell_gets_the_later_reading_but_not_one_after_receipt() -> (
    None
):
    page = sample("sec_submissions.json").replace(b"2024-02-09T01:20", b"2024-02-09T15:20")
    page = page.replace(b"2024-03-12T22:15", b"2024-03-12T18:15")
    late = documents(Reading("sec-submissions")(page))[0]
    assert late.ts_published == parse_instant("2024-03-15T00:31:07Z")
    assert late.flags == ("assumed_zone",)
    received = parse_instant("2024-03-14T20:31:30Z")
    live = documents(Reading("sec-submissions")(page, received))[0]
    assert live.ts_published == received


def test_a_hit_of_the_search_has_a_date_which_counts_as_its_end_or_as_its_receipt() -> None:
    end = parse_instant("2024-03-15T04:00:00Z")
    first, second = documents(Reading("sec-search")(sample("sec_search.json"), end + NS_PER_HOUR))
    assert (first.ts_published, first.flags) == (end, ("date_only",))
    assert second.symbols == ("BETA", "BETAW")
    received = parse_instant("2024-03-14T21:00:00Z")
    live = documents(Reading("sec-search")(sample("sec_search.json"), received))[0]
    assert live.ts_published == received
    day_before = received - 2 * NS_PER_DAY
    assert set(reasons(Reading("sec-search")(sample("sec_search.json"), day_before))) == {"future"}


@pytest.mark.parametrize(
    ("day", "release"),
    [
        ("1994-02-04", "1994-02-04"),
        ("1996-01-31", "1996-01-31T14:15:00"),
        ("2001-01-03", "2001-01-03"),
        ("2011-04-27", "2011-04-27T12:30:00"),
        ("2013-01-30", "2013-01-30T14:15:00"),
        ("2013-03-20", "2013-03-20T14:00:00"),
        ("2020-03-15", "2020-03-15"),
        ("2024-01-31", "2024-01-31T14:00:00"),
    ],
)
def test_a_statement_is_timed_by_the_calendar(day: str, release: str) -> None:
    assert release_of(date.fromisoformat(day)) == release


def test_a_page_of_the_board_says_when_it_was_for_release() -> None:
    (statement,) = documents(Reading("fomc")(sample("fomc.html"), NOW + 7 * NS_PER_DAY))
    assert statement.ts_published == parse_instant("2024-03-20T18:00:00Z")
    assert statement.text.startswith("Federal Reserve issues FOMC statement\n\nThe Committee")


def test_statements_in_rows_are_new_york_time_with_summer_time() -> None:
    winter, summer, *_ = documents(Reading("fomc")(sample("fomc.jsonl")))
    assert winter.ts_published == parse_instant("1996-01-31T19:15:00Z")
    assert summer.ts_published == parse_instant("2011-04-27T16:30:00Z")
    assert summer.flags == ("assumed_time",)


def test_posts_of_every_network_have_author_reach_and_reposts() -> None:
    posts = {
        name: documents(Reading("social")(sample(f"social_{name}.json")))
        for name in ("x", "mastodon", "bluesky", "stocktwits", "reddit")
    }
    assert [(p.author, p.followers, p.is_repost) for p in posts["x"]] == [
        ("example_trader", 1200, False), ("example_bot", 3, True),
    ]  # fmt: skip
    assert [p.is_repost for p in posts["mastodon"]] == [False, True]
    assert posts["bluesky"][0].author == "carol.example"
    assert posts["stocktwits"][0].symbols == ("ACME",)
    assert posts["reddit"][0].ts_published == 1_710_419_940 * NS_PER_S
    assert "\U0001f680" in posts["x"][0].text


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_an_epoch_is_read_in_whatever_unit(unit: int) -> None:
    assert epoch_ns(1_710_419_525 * unit) == 1_710_419_525 * NS_PER_S


# --- bodies -----------------------------------------------------------------------------------------


def test_a_bomb_is_given_up_within_its_bound() -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    tracemalloc.start()
    with pytest.raises(Unusable) as refused:
        unpacked(bomb, 1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused.value.reason == "bomb"
    assert peak < 4_000_000


def zipped() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a.xml", "<rss/>")
    return held.getvalue()


def tarred() -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.xml"))
    return held.getvalue()


@pytest.mark.parametrize(
    "archive",
    [zipped(), tarred(), bz2.compress(b"x"), gzip.compress(gzip.compress(b"<a/>")),
     gzip.compress(zipped())],
    ids=["zip", "tar", "bzip2", "gzip in gzip", "zip in gzip"],
)  # fmt: skip
def test_archives_and_archives_within_archives_are_refused(archive: bytes) -> None:
    made = Reading("rss")(archive)
    assert reasons(made) == ["archive"]


def test_a_message_of_ten_megabytes_is_refused_at_once() -> None:
    reading = Reading("jsonl")
    assert reasons(reading(b"x" * 10_000_000)) == ["too_long"]
    assert reading.tally.read == sum(reading.tally.dropped.values()) == 1


@given(content=st.binary(max_size=3000), cut=st.integers(0, 3000))
def test_unpacking_gives_back_what_was_packed_or_says_that_it_breaks_off(
    content: bytes, cut: int
) -> None:
    packed = gzip.compress(content)
    assert inflated(packed, 3000) == content
    if 0 < cut < len(packed):
        with pytest.raises(Unusable):
            inflated(packed[:cut], 3000)


@given(st.binary(max_size=300))
def test_every_bytes_have_some_text(payload: bytes) -> None:
    text, _ = text_of(payload)
    text.encode()


# --- readers ----------------------------------------------------------------------------------------


def test_a_feed_shown_again_gives_only_what_is_new() -> None:
    reading = Reading("rss")
    assert len(reading(rss(item("Acme rises", guid="1")))) == 1
    made = reading(rss(item("Beta falls", guid="2"), item("Acme rises", guid="1")))
    assert [one.text for one in documents(made)] == ["Beta falls"]
    assert reading.tally.noted["shown_again"] == 1


def test_an_edit_is_a_document_of_its_own_received_when_it_came() -> None:
    reading = Reading("rss")
    first = documents(reading(rss(item("Acme to pay 1 dollar", guid="1"))))[0]
    edited = documents(reading(rss(item("Acme to pay 9 dollars", guid="1")), NOW + NS_PER_HOUR))[0]
    assert edited.ts_published == first.ts_published
    assert (edited.ts_recv, edited.document_id != first.document_id) == (NOW + NS_PER_HOUR, True)
    assert "edited" in edited.flags
    assert "edited" not in first.flags


def test_undated_and_future_items_are_refused_once_however_often_they_are_shown() -> None:
    reading = Reading("rss")
    page = rss(
        item("No date", ""), item("Tomorrow", "Sat, 16 Mar 2024 12:00:00 GMT"), item("Odd", "soon")
    )
    assert sorted(reasons(reading(page))) == ["future", "undated", "undated"]
    assert reading(page, NOW + 1) == []
    assert reading.tally.noted["refused_again"] == 3


def test_what_was_refused_as_future_is_admitted_once_its_time_has_come() -> None:
    reading = Reading("rss")
    page = rss(item("Tomorrow", "Sat, 16 Mar 2024 12:00:00 GMT"))
    assert reasons(reading(page)) == ["future"]
    assert len(documents(reading(page, NOW + 2 * NS_PER_DAY))) == 1


def test_a_time_without_a_zone_is_of_the_zone_in_the_settings_or_flagged() -> None:
    page = rss(item("Acme rises", "2024-03-14T08:00:00"))
    (bare,) = documents(Reading("rss")(page))
    assert (bare.ts_published, bare.flags) == (
        parse_instant("2024-03-14T08:00:00Z"), ("no_zone", "lang_detected"),
    )  # fmt: skip
    (zoned,) = documents(Reading("rss", "America/New_York")(page))
    assert zoned.ts_published == parse_instant("2024-03-14T12:00:00Z")
    assert "no_zone" not in zoned.flags


def mis_zoned(offset_ns: int) -> Reading:
    """A wire that tells its headlines within seconds, by a clock that is off."""
    reading = Reading("jsonl")
    for n in range(8):
        now = NOW + n * NS_PER_MIN
        stamp = now - offset_ns - (3 + n % 3) * NS_PER_S
        reading(b'{"text":"Acme said %d","ts_published_ns":%d}' % (n, stamp), now)
    return reading


def test_stamps_off_by_whole_hours_are_flagged_and_left_as_they_are() -> None:
    assert mis_zoned(0).tally.noted["mis_zoned"] == 0
    behind = mis_zoned(5 * NS_PER_HOUR)
    assert behind.tally.noted["mis_zoned"] > 0
    assert behind.reader.clock.offset_ns == 5 * NS_PER_HOUR + 3 * NS_PER_S
    ahead = mis_zoned(-5 * NS_PER_HOUR)
    assert ahead.tally.noted["mis_zoned"] > 0
    assert ahead.tally.dropped == {"future": 8}


class Odd:
    """A plug-in that does what it should not."""

    zone = ""

    def __init__(self, found: object) -> None:
        self.found = found

    def samples(self) -> tuple[bytes, ...]:
        return (b"x",)

    def parse(self, payload: bytes) -> Iterator[Item | Unusable]:
        if isinstance(self.found, Exception):
            raise self.found
        yield from self.found  # type: ignore[misc]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (ValueError("of its own"), "source_failed"),
        (RecursionError(), "source_failed"),
        ([Item(text=7, published="2024-03-14")], "bad_field"),  # type: ignore[arg-type]
        ([Item(text="a", published=7)], "undated"),  # type: ignore[arg-type]
        ([Item(text="a", published_ns="x")], "bad_field"),  # type: ignore[arg-type]
        ([Item(text="a", published="2024-03-14", symbols=None)], "bad_field"),  # type: ignore[arg-type]
        (["no item"], "bad_field"),
        ([Item(text="   ", published="2024-03-14")], "empty_text"),
        ([Item(text="a\ud800", published="2024-03-14")], "not_utf8"),
        ([Item(text="a" * 1_000_001, published="2024-03-14")], "too_long"),
        ([Item(text="a", published_ns=5)], "implausible_time"),
    ],
)
def test_a_plug_ins_mistake_is_a_refusal(found: object, reason: str) -> None:
    assert reasons(Reading(Odd(found))(b"x")) == [reason]


def test_items_without_end_are_cut_off_and_told() -> None:
    def endless() -> Iterator[Item]:
        n = 0
        while True:
            n += 1
            yield Item(text=f"Acme {n}", published="2024-03-14T12:00:00Z")

    made = Reading(Odd(endless()))(b"x")
    assert len(made) == MOST_ITEMS + 1
    assert reasons(made) == ["too_many"]


def test_the_same_messages_give_the_same_documents_again() -> None:
    pages = [rss(item(f"Acme {n}", guid=str(n % 5))) for n in range(20)]
    once, twice = (
        [made for n, page in enumerate(pages) for made in reading(page, NOW + n)]
        for reading in (Reading("rss"), Reading("rss"))
    )
    assert once == twice


@settings(max_examples=40)
@given(kind=st.sampled_from(sorted(KINDS)), payload=st.binary(max_size=400))
def test_whatever_comes_is_a_document_or_a_refusal_and_counted(kind: str, payload: bytes) -> None:
    reading = Reading(kind)
    made = reading(payload)
    assert reading.tally.read == len(made)
    assert sum(reading.tally.dropped.values()) == len(reasons(made))
    assert reading.tally.dropped["source_failed"] == 0


@settings(max_examples=40)
@given(
    kind=st.sampled_from(["newswire", "social", "sec-submissions", "sec-search", "jsonl"]),
    page=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
            st.sampled_from(["data", "text", "title", "headline", "hits", "_source", "filings", "recent",
                             "accessionNumber", "items", "symbols", "user", "created_at", "form"]),
            inner, max_size=4),
        max_leaves=20,
    ),
)  # fmt: skip
def test_json_of_any_shape_is_borne(kind: str, page: object) -> None:
    import msgspec

    reading = Reading(kind)
    try:
        payload = msgspec.json.encode(page)
    except (UnicodeEncodeError, OverflowError):
        return
    reading(payload)
    assert reading.tally.dropped["source_failed"] == 0


def test_a_check_names_the_line_to_mend() -> None:
    class Breaks(Rss):
        def parse(self, payload: bytes) -> Iterator[Item | Unusable]:
            yield from super().parse(payload)
            payload.decode()  # what cannot be decoded raises here

    report = check_source("Breaks", Breaks)
    (failed,) = [one for one in report.checks if not one.ok]
    assert failed.name == "garbage gives refusals"
    assert f"{__file__}:" in failed.mend


def test_a_check_fails_a_source_that_dates_by_itself() -> None:
    ticks = iter(range(10**6))

    class Dates(Fomc):
        def parse(self, payload: bytes) -> Iterator[Item | Unusable]:
            yield Item(text="Acme rises", published_ns=NOW + next(ticks))

    report = check_source("Dates", Dates)
    assert {one.name for one in report.checks if not one.ok} >= {
        "undated is refused", "ids are stable", "the same message again gives nothing new",
    }  # fmt: skip
