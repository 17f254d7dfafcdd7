"""Memory in a file: what is asked as of an instant, what is refused, and what a crash leaves."""

import inspect
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from finllm.domain.errors import InputError
from finllm.domain.evidence import Document, QuarantineState
from finllm.domain.identity import content_id
from finllm.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_S
from finllm.narrative.memory import schema
from finllm.narrative.memory.asof import AsOf, Memory
from finllm.narrative.memory.vectors import ONE, products, whole
from finllm.narrative.memory.writer import Admitted, MemorySettings, MemoryWriter
from finllm.narrative.reading.cutoff import cutoff_note
from finllm.narrative.reading.encoder import HashingEncoder
from finllm.narrative.room import Narrative, NarrativeSettings
from finllm.narrative.text.canonical import Changes

T0 = 1_723_118_400_000_000_000
BTC, ETH = "binance-usdm:BTCUSDT", "binance-usdm:ETHUSDT"
ENCODER = HashingEncoder()
RUMOUR = "Rumour: Kestrel fund hacked, Bitcoin withdrawals halted, sources say"
DENIAL = "Kestrel fund denies it was hacked, says Bitcoin withdrawals are not halted"


def document(text: str, ts: int = T0, source: str = "wire") -> Document:
    return Document(
        document_id=content_id(source, ts, text),
        source=source,
        ts_published=ts,
        ts_recv=ts,
        text=text,
    )


class Kept:
    """A room that keeps a memory, and the file."""

    def __init__(self, folder: Path, now: int = T0 - NS_PER_DAY, **settings: object) -> None:
        self.path = folder / schema.NAME
        self._settings = MemorySettings(**settings)  # type: ignore[arg-type]
        self.go_on(now)

    def go_on(self, now: int) -> None:
        self.writer = MemoryWriter(self.path, self._settings, ENCODER)
        self.room = Narrative(settings=NarrativeSettings(), memory=self.writer)
        for instrument in (BTC, ETH):
            self.room.watch(instrument, now=now)

    def admit(self, *documents: Document) -> None:
        for one in documents:
            admission = self.room.admit(one, one.ts_recv)
            assert admission.refusal is None, admission.refusal

    def ask(self, ts: int) -> AsOf:
        memory = Memory(self.path)
        return memory.as_of(ts)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path, batch=4)
    yield made
    made.writer.close()


def many(n: int, step: int = NS_PER_S, start: int = T0) -> list[Document]:
    verbs = ("rises", "falls", "halts", "hires", "buys", "sells", "audits")
    return [
        document(f"Bitcoin fund Kestrel{i} {verbs[i % 7]} {i * 37 % 991} units in zone{i % 13}", ts)
        for i in range(n)
        for ts in (start + i * step,)
    ]


def test_nothing_can_be_asked_without_an_instant() -> None:
    asked = {name for name, _ in inspect.getmembers(Memory) if not name.startswith("_")}
    assert asked == {"as_of", "span", "encoders", "close"}
    assert inspect.signature(Memory.as_of).parameters["ts"].default is inspect.Parameter.empty
    assert inspect.signature(AsOf).parameters["ts"].default is inspect.Parameter.empty
    writes = {name for name, _ in inspect.getmembers(MemoryWriter) if not name.startswith("_")}
    assert writes == {
        "create", "open", "keep", "alias", "rest", "settle", "close", "counts", "settled",
    }  # fmt: skip


def test_an_instant_that_is_not_over_is_refused(kept: Kept) -> None:
    kept.admit(document("Bitcoin rises"), document("Bitcoin outage at the Kestrel fund"))
    kept.writer.settle(T0 - 1)  # nothing more is promised than that
    with pytest.raises(InputError, match="not over"):
        kept.ask(T0)
    kept.admit(document("Ether falls at once", source="late"))
    kept.writer.settle(T0)
    assert len(kept.ask(T0).documents()) == 3


def test_what_was_received_at_the_instant_counts_and_later_does_not(kept: Kept) -> None:
    kept.admit(document("Bitcoin rises"), document("Bitcoin fund opens a vault", T0 + 1))
    kept.writer.settle(T0 + 1)
    assert [d.ts_recv for d in kept.ask(T0).documents()] == [T0]
    assert [d.ts_recv for d in kept.ask(T0 + 1).documents()] == [T0 + 1, T0]


def test_documents_of_one_instant_are_in_order_of_their_ids(kept: Kept) -> None:
    kept.admit(*(document(f"Bitcoin note {i} of desk{i}") for i in range(9)))
    kept.writer.settle(T0)
    ids = [d.document_id for d in kept.ask(T0).documents()]
    assert ids == sorted(ids)
    claims = [c.claim.evidence_id for c in kept.ask(T0).claims(instrument=BTC)]
    assert claims == sorted(claims)
    assert [d.document_id for d in kept.ask(T0).documents(limit=3)] == ids[:3]


def test_a_claim_stands_as_it_was_known_to_then(kept: Kept) -> None:
    kept.admit(
        document(RUMOUR, source="desk"), document(DENIAL, T0 + NS_PER_HOUR, source="Kestrel")
    )
    kept.writer.settle(T0 + NS_PER_HOUR)
    before = kept.ask(T0 + 1).claims(instrument=BTC)[-1]
    after = kept.ask(T0 + NS_PER_HOUR).claims(instrument=BTC)[-1]
    assert (before.state, before.since) == (None, T0)
    assert after.state is QuarantineState.CONDEMNED
    assert (after.reason, after.since) == ("denied", T0 + NS_PER_HOUR)
    assert after.claim.credibility < before.claim.credibility
    assert before.claim.evidence_id == after.claim.evidence_id
    assert kept.ask(T0 + 1).standings(before.claim.evidence_id) == ()
    (change,) = kept.ask(T0 + NS_PER_HOUR).standings(before.claim.evidence_id)
    assert change.credibility == after.claim.credibility


def test_a_pack_and_memory_agree_on_what_is_believed(kept: Kept) -> None:
    kept.admit(
        document(RUMOUR, source="desk"), document(DENIAL, T0 + NS_PER_HOUR, source="Kestrel"),
        *many(9, start=T0 + 2 * NS_PER_HOUR),
    )  # fmt: skip
    end = T0 + 3 * NS_PER_HOUR
    kept.writer.settle(end)
    for ts in (T0, T0 + NS_PER_HOUR, end):
        pack = kept.room.gather(BTC, ts)
        recalled = {c.claim.evidence_id: c.claim for c in kept.ask(ts).claims(instrument=BTC)}
        assert pack.evidence
        for evidence in pack.evidence:
            assert recalled[evidence.evidence_id] == evidence


def test_copies_are_known_from_their_own_receipt_on(kept: Kept) -> None:
    first = document("Bitcoin withdrawals halted at the Kestrel fund after an outage")
    copy = document(first.text + "!", T0 + 5, source="echo")
    kept.admit(first, copy)
    kept.writer.settle(T0 + 5)
    assert kept.ask(T0 + 4).copies(first.document_id) == ()
    (found,) = kept.ask(T0 + 5).copies(first.document_id)
    assert (found.document_id, found.copy_of) == (copy.document_id, first.document_id)
    assert found.cluster == kept.ask(T0 + 5).document(first.document_id).cluster


def test_search_by_meaning_is_exact(kept: Kept) -> None:
    documents = many(130)
    kept.admit(*documents)
    kept.writer.settle(T0 + NS_PER_HOUR)
    query = ENCODER.embed("Bitcoin fund Kestrel7 halts 259 units in zone7")
    for until, n in ((T0 + NS_PER_HOUR, 10), (T0 + 100 * NS_PER_S, 25), (T0 + 3 * NS_PER_S, 10)):
        view = kept.ask(T0 + NS_PER_HOUR)
        held = [d for d in view.documents(limit=1_000, until=until) if not d.copy_of]
        mine = whole(query, "").astype(object)
        exact = sorted(
            (-int((whole(ENCODER.embed(d.text), "").astype(object) * mine).sum()), d.document_id)
            for d in held
        )
        found = view.alike(query, ENCODER.name, limit=n, until=until)
        told = [(-round(a.similarity * ONE * ONE), a.document.document_id) for a in found]
        assert told == exact[:n]


def test_search_by_meaning_keeps_to_the_instrument_and_the_encoder(kept: Kept) -> None:
    kept.admit(
        document("Bitcoin miners cut hash rate"), document("Ether staking queue grows", T0 + 1)
    )
    kept.writer.settle(T0 + 1)
    view, query = kept.ask(T0 + 1), ENCODER.embed("staking queue")
    found = view.alike(query, ENCODER.name, instrument=BTC)
    assert [a.document.text for a in found] == ["Bitcoin miners cut hash rate"]
    assert view.alike(query, ENCODER.name)[0].document.text == "Ether staking queue grows"
    with pytest.raises(InputError, match="hashing/1"):
        view.alike(query, "minilm/9")


def test_ties_of_meaning_are_settled_by_id(tmp_path: Path) -> None:
    kept = Kept(tmp_path, batch=2)
    # Five days apart, the same words are news again: equal vectors.
    kept.admit(*(document("Bitcoin rises", T0 + i * 5 * NS_PER_DAY) for i in range(7)))
    kept.writer.settle(T0 + 40 * NS_PER_DAY)
    query = ENCODER.embed("Bitcoin rises")
    every = kept.ask(T0 + 40 * NS_PER_DAY).alike(query, ENCODER.name)
    ids = [a.document.document_id for a in every]
    assert len(ids) == 7
    assert ids == sorted(ids)
    few = kept.ask(T0 + 40 * NS_PER_DAY).alike(query, ENCODER.name, limit=3)
    assert [a.document.document_id for a in few] == ids[:3]


def test_products_are_whole_numbers_whatever_the_block() -> None:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(40, 384))
    rows = np.array([whole(r / np.linalg.norm(r), "") for r in rows])
    rows[0], rows[1] = 0, whole(np.eye(384)[3], "")
    together, alone = np.empty(40, np.int32), np.empty(1, np.int32)
    products(rows[1], rows, together)
    assert together.tolist() == (rows.astype(object) @ rows[1].astype(object)).tolist()
    for i in range(40):
        products(rows[1], rows[i : i + 1], alone)
        assert alone[0] == together[i]


@pytest.mark.parametrize("bad", [np.full(8, np.nan), np.full(8, 1.0)])
def test_a_vector_that_is_not_of_unit_length_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="unit length"):
        whole(bad, "broken/1")


def test_names_are_known_from_when_they_were_learnt_and_valid_when_they_held(kept: Kept) -> None:
    kept.writer.alias("us-equity:META", ("facebook",), known_from=T0)
    kept.writer.alias(
        "us-equity:META", ("meta",), known_from=T0 + 10, valid_from=T0 + 5
    )  # renamed at 5, heard at 10
    kept.writer.alias("us-equity:META", ("facebook",), known_from=T0 + 10, valid_until=T0 + 5)
    kept.writer.settle(T0 + 20)
    assert kept.ask(T0 + 7).aliases("us-equity:META") == ("facebook",)
    assert kept.ask(T0 + 10).aliases("us-equity:META") == ("meta",)
    assert kept.ask(T0 + 10).aliases("us-equity:META", at=T0 + 4) == ("facebook",)
    assert "bitcoin" in kept.ask(T0).aliases(BTC)
    assert kept.ask(T0).aliases("us-equity:NONE") == ()


def test_word_counts_are_those_of_first_appearances_known_then(kept: Kept) -> None:
    kept.admit(
        document("Bitcoin vault opens in Zug"), document("Bitcoin vault opens in Zug!", T0 + 1, "echo"),
        document("Ether vault closes in Lima", T0 + 2),
    )  # fmt: skip
    kept.writer.settle(T0 + 2)
    asked = ("vault", "bitcoin vault", "lima", "nowhere")
    counted = kept.ask(T0 + 1).frequencies(asked)
    assert (counted.n_texts, list(counted.holding.values())) == (1, [1, 1, 0, 0])
    counted = kept.ask(T0 + 2).frequencies(asked)
    assert (counted.n_texts, list(counted.holding.values())) == (2, [2, 1, 1, 0])


def test_what_retirement_would_change_is_refused_also_after_reopening(tmp_path: Path) -> None:
    kept = Kept(tmp_path, batch=4, retention_days=2)
    kept.admit(*many(24, step=NS_PER_HOUR * 4))
    end = T0 + 24 * 4 * NS_PER_HOUR
    kept.writer.settle(end)
    counts = kept.writer.counts
    kept.writer.close()
    assert counts.retired_documents > 0
    with Memory(kept.path) as memory:
        first, last = memory.span
        assert last == end
        with pytest.raises(InputError, match="retired"):
            memory.as_of(first - 1)
        view = memory.as_of(end)
        held = view.documents(after=first - 1, limit=1_000)
        assert len(held) == 24 - counts.retired_documents
        assert view.documents(limit=3) == held[:3]  # the newest need nothing that is gone
        for ask in (
            lambda: view.documents(limit=1_000),
            lambda: view.claims(limit=1_000),
            lambda: view.alike(ENCODER.embed("Bitcoin"), ENCODER.name),
            lambda: view.frequencies(("bitcoin",)),
            lambda: view.document(many(1)[0].document_id),
        ):
            with pytest.raises(InputError, match="retired"):
                ask()
        assert view.frequencies(("bitcoin",), after=first - 1).n_texts == len(held)


def test_the_file_stays_within_its_bound(tmp_path: Path) -> None:
    kept = Kept(tmp_path, batch=64, max_mb=1)
    for i, one in enumerate(many(1_600)):
        long = Admitted(
            document=one, text=one.text * 30, changes=Changes(), copy_of="first", cluster=0, claims=(),
            standings=(), words=np.empty(0, np.uint32), meaning=None,
        )  # fmt: skip
        kept.writer.keep(long)
        if i % 200 == 199:
            kept.writer.settle(one.ts_recv)
            assert kept.path.stat().st_size < 2_000_000
    assert kept.writer.counts.retired_documents > 500
    assert kept.writer.counts.failed == ""
    with Memory(kept.path) as memory:
        first, last = memory.span
        assert memory.as_of(last).documents(after=first - 1, limit=10_000)
    kept.writer.close()


def test_a_memory_goes_on_where_it_ended(tmp_path: Path) -> None:
    kept = Kept(tmp_path, batch=4)
    documents = many(20)
    kept.admit(*documents[:9])
    kept.writer.settle(documents[8].ts_recv)
    kept.writer.close()
    before = kept.ask(documents[8].ts_recv).documents()
    kept.go_on(documents[9].ts_recv)
    kept.admit(*documents[9:])
    kept.writer.settle(documents[-1].ts_recv)
    assert kept.ask(documents[8].ts_recv).documents() == before
    assert len(kept.ask(documents[-1].ts_recv).documents()) == 20
    with pytest.raises(InputError, match="before what memory holds"):
        kept.admit(document("Bitcoin from long ago", documents[-1].ts_recv))
    kept.writer.close()


def test_a_memory_has_one_writer(kept: Kept) -> None:
    with pytest.raises(InputError, match="another process writes"):
        MemoryWriter.open(kept.path, MemorySettings(), ENCODER)
    with pytest.raises(InputError, match="is there already"):
        MemoryWriter.create(kept.path, MemorySettings(), ENCODER)


def test_a_reader_changes_nothing(kept: Kept) -> None:
    kept.admit(*many(4))
    kept.writer.settle(T0 + NS_PER_HOUR)
    memory = Memory(kept.path)
    for statement in ("DELETE FROM documents", "CREATE TABLE more (x)"):
        with pytest.raises(sqlite3.OperationalError, match=r"readonly|read-only"):
            memory._connection.execute(statement)
    memory.close()


_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from unit.narrative.test_memory import Kept, many
from finllm.domain.units import NS_PER_S
kept = Kept(Path(sys.argv[1]), batch=8)
for one in many(100_000):
    kept.admit(one)
    print(one.ts_recv, flush=True)
"""


def test_a_killed_writer_loses_at_most_the_open_batch_and_tears_nothing(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(tmp_path), str(Path(__file__).parents[2])],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    n = 0
    while n < 61:
        assert child.stdout.readline(), "the writer ended by itself"
        n += 1
    child.send_signal(signal.SIGKILL)
    n += len(child.stdout.readlines())
    child.wait(10)
    child.stdout.close()
    path = tmp_path / schema.NAME
    with Memory(path) as memory:
        view = memory.as_of(memory.span[1])
        held = view.documents(limit=10**6)
        # All but the open batch, and the last closed one's last instant, which was not over.
        assert n - 8 - 1 <= len(held) <= n
        assert [d.ts_recv for d in reversed(held)] == [d.ts_recv for d in many(len(held))]
        assert len(view.claims(limit=10**6)) == len(held)
        assert len(view.alike(ENCODER.embed("Bitcoin"), ENCODER.name, limit=10**6)) == len(held)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    kept = Kept(tmp_path, now=view.ts + 1, batch=8)  # and it goes on
    kept.admit(*many(len(held) + 20)[-8:])
    kept.writer.settle(T0 + NS_PER_DAY)
    assert len(kept.ask(T0 + NS_PER_DAY).documents(limit=10**6)) in {len(held) + 8, len(held) + 9}
    kept.writer.close()


def test_a_file_that_is_no_memory_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not there"):
        Memory(tmp_path / "none.sqlite")
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE a (b)")
    connection.close()
    with pytest.raises(InputError, match="no memory of a run"):
        Memory(foreign)
    text = tmp_path / "text.sqlite"
    text.write_text("not a database at all, but long enough to be taken for one " * 50)
    with pytest.raises(InputError, match="cannot be read"):
        Memory(text)


def test_another_version_and_altered_tables_are_refused(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.writer.close()
    with sqlite3.connect(kept.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(InputError, match="version 99"):
        Memory(kept.path)
    with sqlite3.connect(kept.path) as connection:
        connection.execute(f"PRAGMA user_version = {schema.LAYOUT.version}")
        connection.execute("DROP INDEX documents_copy")
    connection.close()
    with pytest.raises(InputError, match="tables"):
        Memory(kept.path)


def test_a_cut_file_is_told_and_not_believed(tmp_path: Path) -> None:
    kept = Kept(tmp_path, batch=16)
    kept.admit(*many(200))
    kept.writer.settle(T0 + NS_PER_HOUR)
    kept.writer.close()
    body = kept.path.read_bytes()
    kept.path.write_bytes(body[: len(body) // 3 // 4096 * 4096])
    with pytest.raises(InputError, match="cannot be read"):
        Memory(kept.path).as_of(T0 + NS_PER_HOUR).documents(limit=1_000)


def test_a_full_disk_stops_memory_and_nothing_else(tmp_path: Path) -> None:
    kept = Kept(tmp_path, batch=16)
    pages = kept.writer._connection.execute("PRAGMA page_count").fetchone()[0]
    kept.writer._connection.execute(f"PRAGMA max_page_count = {pages + 8}")
    kept.admit(*many(200))
    counts = kept.writer.counts
    assert "full" in counts.failed
    assert counts.lost + counts.documents == 200
    assert len(kept.room.gather(BTC, T0 + NS_PER_HOUR).evidence) == 12
    with Memory(kept.path) as memory:
        assert len(memory.as_of(memory.span[1]).documents(limit=1_000)) in {
            counts.documents, counts.documents - 1,
        }  # fmt: skip
    kept.writer.close()


@pytest.mark.parametrize(
    ("knows_until", "said"),
    [("", ""), ("2024-07", ""), ("2024-08", "all documents"), ("2024-12", "all documents")],
)
def test_a_run_over_text_that_its_encoder_may_know_says_so(knows_until: str, said: str) -> None:
    note = cutoff_note("minilm/1", knows_until, T0, T0 + NS_PER_DAY)
    assert note.startswith(said)
    assert bool(note) == bool(said)
    if said:
        assert f"minilm/1 stopped learning ({knows_until})" in note


def test_the_knowledge_cut_off_is_the_end_of_its_month() -> None:
    end = 1_725_148_800 * NS_PER_S  # 2024-09-01
    assert cutoff_note("e", "2024-08", end, end + 1) == ""
    assert cutoff_note("e", "2024-08", end - 1, end).startswith("some documents")
    with pytest.raises(InputError, match="no month"):
        cutoff_note("e", "soon", T0, T0)


def test_the_room_notes_text_that_its_encoder_may_know() -> None:
    class Learned(HashingEncoder):
        name = "learned/1"
        knows_until = "2025-01"

    room = Narrative(settings=NarrativeSettings(), encoder=Learned())
    room.watch(BTC)
    assert room.notes == ()
    room.admit(document("Bitcoin rises"), T0)
    (note,) = room.notes
    assert "learned/1" in note
