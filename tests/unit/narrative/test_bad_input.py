"""The whole room under texts and floods that are made to cost it time or memory."""

import msgspec
import pytest

from finllm.domain.evidence import Document
from finllm.narrative.reading.claims import LONGEST_QUOTE
from finllm.narrative.reading.encoder import HashingEncoder
from finllm.narrative.repeats.copies import LONGEST_NUMBER, read_for_copies
from finllm.narrative.room import Narrative, NarrativeSettings
from finllm.narrative.sources.documents import LONGEST_NAME
from finllm.narrative.trust.standing import MOST_HELD

T0 = 1_723_118_400_000_000_000
BTC = "binance-usdm:BTCUSDT"


def room(**settings: object) -> Narrative:
    made = Narrative(settings=NarrativeSettings(**settings), encoder=HashingEncoder())  # type: ignore[arg-type]
    made.watch(BTC)
    return made


def document(text: str, i: int = 0) -> Document:
    ts = T0 + i
    return Document(
        document_id=f"d{i}",
        source="social",
        author=f"user{i}",
        ts_published=ts,
        ts_recv=ts,
        text=text,
    )


@pytest.mark.parametrize(
    "piece",
    ["b.", "$1.5m profit ", "\u202e\u05d0"],
    ids=ascii,
)  # fmt: skip
def test_an_endless_run_of_any_piece_passes_the_whole_room_and_makes_short_quotes(
    piece: str,
) -> None:
    text = "Bitcoin " + piece * (100_000 // len(piece))
    made = room()
    admission = made.admit(document(text), T0)
    assert admission.refusal is None
    assert made.tally.read == made.tally.used == 1
    assert all(len(claim.quote) <= LONGEST_QUOTE for claim in made.gather(BTC, T0).evidence)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("document_id", "x" * 1_000_000, "document_id of 1000000 characters, at most 200"),
        ("source", "x" * 1_000_000, "source of 1000000 characters, at most 200"),
        ("author", "x" * 1_000_000, "author of 1000000 characters, at most 200"),
        ("lang", "x" * 1_000_000, "lang of 1000000 characters, at most 200"),
        ("flags", ("x" * 1_000_000,), "flag of 1000000 characters, at most 200"),
        ("flags", ("edited",) * 1_000, "1000 flags, at most 32"),
        ("symbols", ("x" * 1_000_000,), "symbol of 1000000 characters, at most 200"),
        ("symbols", ("BTC",) * 1_000, "1000 symbols, at most 64"),
    ],
    ids=["document_id", "source", "author", "lang", "flag", "flags", "symbol", "symbols"],
)
def test_a_document_whose_names_would_fill_memory_is_refused_and_nothing_of_it_is_kept(
    field: str, value: object, told: str
) -> None:
    made = room()
    for i in range(5):
        bad = msgspec.structs.replace(document("Bitcoin up", i), **{field: value})
        refusal = made.admit(bad, T0 + i).refusal
        assert refusal is not None
        assert (refusal.reason, refusal.detail) == ("too_long", told)
        assert len(refusal.place) <= LONGEST_NAME
    assert dict(made.tally.dropped) == {"too_long": 5}
    assert len(made.tally.first_place["too_long"]) <= LONGEST_NAME
    assert all(made.tables[name].n == 0 for name in ("senders", "records_of_senders", "originals"))


def test_a_number_without_end_is_kept_no_longer_than_a_number_is() -> None:
    (number,) = read_for_copies("Bitcoin " + "7" * 20_000).numbers
    assert len(number) == LONGEST_NUMBER


def test_a_flood_of_near_copies_is_counted_one_by_one_and_fills_no_more_than_its_tables() -> None:
    made = room(originals=64, keep=32, most_text_bytes=4_000)
    text = "Kestrel halts Bitcoin withdrawals citing unusual activity in its wallets"
    for i in range(400):
        words = text.split()
        words.insert(i % len(words), f"q{chr(97 + i % 26)}{chr(97 + i // 26)}")
        made.admit(document(" ".join(words), i), T0 + i)
    assert made.tally.read == made.tally.used == 400
    assert made.tally.noted["near_copy"] > 390
    assert len(made._copies.names) <= 64
    assert len(made._copies.near_names) <= 64
    assert made._texts.n_bytes <= 4_000
    assert len(made._watched[BTC].claims) + len(made._watched[BTC].copies) <= 4 * 32


def test_no_table_outgrows_its_bound_and_what_gives_way_is_counted() -> None:
    made = room(originals=16, keep=8, most_text_bytes=2_000, recent=4)
    for i in range(200):
        number, copy = divmod(i, 2)
        text = f"Bitcoin desk {number} reports q{number}x w{number * 7}z k{number * 13}p and closes"
        made.admit(document(f"BREAKING: {text}" if copy else text, i), T0 + i)
    tables = made.tables
    assert all(0 <= table.n <= table.most for table in tables.values())
    for name in ("claims", "copies", "repeats", "originals", "names_of_originals"):
        assert tables[name].let_go > 0
    assert tables["originals"].n + tables["originals"].let_go == 100
    assert tables["claims"].n + tables["claims"].let_go == 100
    assert tables["senders"].n == 200


def test_a_story_told_without_end_holds_no_more_claims_than_can_still_change() -> None:
    made = room()
    made.watch("binance-usdm:ETHUSDT")
    for i in range(400):
        text = f"Bitcoin and Ethereum funds see record weekly inflows of ${i} million, says desk"
        made.admit(document(text, i), T0 + i)
    held = made._checker._held_in
    assert max(map(len, held.values())) > MOST_HELD
    assert sum(map(len, held.values())) <= 2 * MOST_HELD
