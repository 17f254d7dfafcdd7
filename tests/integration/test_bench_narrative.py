"""`finllm bench narrative` feeds the room what it says, and takes its hands off when told to."""

import time

import msgspec
import pytest

from finllm.app.attack.field import Field, read_field
from finllm.app.bench.interference import Headlines, LoadProcess
from finllm.app.bench.narrative import LOOKS, Plan, bench_narrative
from finllm.app.bench.texts import TOKENS, headlines_of, token_counter
from finllm.narrative.reading.encoder import HashingEncoder
from finllm.narrative.room import NarrativeSettings

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def field() -> Field:
    return read_field(None, settings=NarrativeSettings(), seed=7, size=0, most=300)


def test_headlines_have_as_many_tokens_as_they_should(field: Field) -> None:
    count = token_counter(HashingEncoder())
    made = [msgspec.json.decode(sent.line) for sent in headlines_of(field, 40, count)]
    assert {count(row["text"]) for row in made} <= {TOKENS, TOKENS - 1}
    assert all(len(row["symbols"]) == 1 for row in made)


def test_headlines_are_no_copies_and_every_document_is_accounted_for() -> None:
    plan = Plan(encoder="hashing", headlines=120, most=200, edge_pairs=0, flood=60)
    figures = bench_narrative(plan, lambda _: None, lambda lines: lines)
    assert (figures.headlines.documents, figures.headlines.copies) == (120, 0)
    assert 0 < figures.stream.copies < figures.stream.documents == 200
    assert figures.headlines.refused == figures.stream.refused == 0
    for one in (figures.headlines, figures.stream):
        assert one.per_s_low <= one.per_s <= one.per_s_high
        assert one.latency_us.n == one.documents
        assert 0.7 < sum(one.stages.values()) <= 1.001
        assert all(share >= 0.01 for share in one.stages.values())
    assert figures.flood is not None
    assert (figures.flood.documents, len(figures.flood.rss_mb)) == (60, LOOKS + 1)
    assert 0 < figures.flood.copies < figures.flood.documents
    assert figures.flood.full_after == 0
    assert 0 < figures.flood.tables["text_bytes"].n < figures.flood.tables["text_bytes"].most


def test_a_room_beside_the_edge_reads_until_it_is_to_stand_still(field: Field) -> None:
    lines = headlines_of(field, 80, token_counter(HashingEncoder()))
    load = Headlines(
        settings=NarrativeSettings(encoder="hashing"),
        instruments=field.instruments,
        lines=tuple(lines),
    )
    with LoadProcess(load) as room:
        before = room.done
        time.sleep(0.2)
        assert room.done == before
        room.go()
        wanted, ends = before["documents"] + len(lines), time.monotonic() + 60
        while room.done["documents"] < wanted and time.monotonic() < ends:
            time.sleep(0.05)
        assert room.done["documents"] >= wanted
        room.stand()
        after = room.done
        time.sleep(0.2)
        assert room.done == after
