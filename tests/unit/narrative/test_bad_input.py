"""The whole room under texts and floods that are made to cost it time or memory."""

import time

import pytest

from finllm.domain.evidence import Document
from finllm.narrative.reading.claims import LONGEST_QUOTE
from finllm.narrative.reading.encoder import HashingEncoder
from finllm.narrative.room import Narrative, NarrativeSettings
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
def test_an_endless_run_of_any_piece_passes_the_whole_room_in_bounded_time(piece: str) -> None:
    text = "Bitcoin " + piece * (100_000 // len(piece))
    made, began = room(), time.process_time()
    admission = made.admit(document(text), T0)
    assert time.process_time() - began < 20.0
    assert admission.refusal is None
    assert made.tally.read == made.tally.used == 1
    assert all(len(claim.quote) <= LONGEST_QUOTE for claim in made.gather(BTC, T0).evidence)


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
