"""Laws of memory over any stream of documents: a later one never changes an earlier answer."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from finllm.domain.errors import InputError
from finllm.domain.evidence import (
    Document,
    Evidence,
    EvidenceKind,
    Quarantine,
    QuarantineState,
)
from finllm.domain.identity import canonical, content_id
from finllm.domain.units import NS_PER_DAY, NS_PER_HOUR
from finllm.narrative.memory.asof import AsOf, Memory
from finllm.narrative.memory.schema import NAME
from finllm.narrative.memory.vectors import ONE, whole
from finllm.narrative.memory.writer import Admitted, MemorySettings, MemoryWriter
from finllm.narrative.reading.encoder import HashingEncoder
from finllm.narrative.repeats.copies import read_for_copies
from finllm.narrative.text.canonical import Changes

ENCODER = HashingEncoder()
T0 = 1_723_118_400_000_000_000
BTC, ETH = "binance-usdm:BTCUSDT", "binance-usdm:ETHUSDT"
QUERY = ENCODER.embed("Bitcoin fund Kestrel halts withdrawals")
FEW = settings(max_examples=12, deadline=None)

TEXTS = st.lists(
    st.sampled_from(["Bitcoin", "Ether", "Kestrel", "fund", "halts", "hacked", "rises", "10%"]),
    min_size=1, max_size=5,
).map(" ".join)  # fmt: skip
# Steps of nothing put several documents at one instant; of days, let age retire what is old.
STEPS = st.sampled_from([0, 0, 1, NS_PER_HOUR, NS_PER_DAY])
SPOKEN = st.tuples(STEPS, TEXTS, st.sampled_from(["wire", "desk"]), st.integers(0, 3))
STREAMS = st.lists(SPOKEN, max_size=9)
Stream = list[tuple[int, str, str, int]]


def documents(stream: Stream, start: int, earlier: tuple[Admitted, ...] = ()) -> list[Admitted]:
    """Return documents as a room would hand them over; every other one changes how an earlier one stands."""
    made: list[Admitted] = []
    ts, claimed = start, [claim for one in earlier for claim in one.claims]
    for step, text, source, what in stream:
        ts += step
        document = Document(
            document_id=content_id(source, ts, text),
            source=source,
            ts_published=ts,
            ts_recv=ts,
            text=text,
        )
        claims = tuple(_claim(document, key) for key, name in NAMES.items() if name in text)
        changes = [_change(claimed[-what], ts, what)] if 0 < what <= len(claimed) else []
        claimed += claims
        copy_of = next(
            (one.document.document_id for one in [*earlier, *made] if one.text == text), ""
        )
        made.append(
            Admitted(
                document=document, text=text, changes=Changes(), copy_of=copy_of, cluster=len(made),
                claims=claims, standings=tuple(changes), words=read_for_copies(text).sample,
                meaning=None,
            )
        )  # fmt: skip
    return made


NAMES = {BTC: "Bitcoin", ETH: "Ether"}


def _claim(document: Document, instrument: str) -> Evidence:
    return Evidence(
        evidence_id=content_id(document.document_id, instrument), kind=EvidenceKind.CLAIM,
        instrument=instrument, ts_recv=document.ts_recv, origin=document.source,
        document_id=document.document_id, quote=document.text, credibility=0.6,
    )  # fmt: skip


def _change(claim: Evidence, ts: int, what: int) -> Quarantine:
    return Quarantine(
        quarantine_id=content_id(claim.evidence_id, ts, what), evidence_id=claim.evidence_id,
        instrument=claim.instrument, document_id=claim.document_id, ts=ts,
        state=list(QuarantineState)[what - 1], reason="denied", credibility=what / 10,
    )  # fmt: skip


class Run:
    """The writer of a memory in a folder."""

    def __init__(self, folder: str, **given: int) -> None:
        self.path = Path(folder) / NAME
        self.writer = MemoryWriter.create(self.path, MemorySettings(batch=3, **given), ENCODER)
        for instrument, name in NAMES.items():
            self.writer.alias(instrument, (name,), known_from=T0 - 1)

    def admit(self, made: list[Admitted]) -> None:
        for one in made:
            self.writer.keep(one)


def everything(view: AsOf, after: int) -> bytes:
    """Return every answer that a view gives, as bytes."""
    claims = view.claims(after=after, limit=1_000)
    return canonical(
        (
            view.documents(after=after, limit=1_000),
            view.documents(instrument=ETH, source="wire", after=after, limit=3),
            claims,
            view.claims(instrument=BTC, after=after, limit=2),
            [view.standings(one.claim.evidence_id) for one in claims],
            [view.claims_of(one.claim.document_id) for one in claims],
            view.alike(QUERY, ENCODER.name, after=after, limit=4),
            view.alike(QUERY, ENCODER.name, instrument=BTC, after=after, limit=2),
            view.frequencies(("bitcoin", "kestrel fund"), after=after),
            view.aliases(BTC),
            view.instruments(),
        )
    )


@FEW
@given(STREAMS, STREAMS)
def test_an_answer_once_given_is_given_for_ever_whatever_comes_later(
    before: Stream, after: Stream
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(folder)
        early = documents(before, T0)
        run.admit(early)
        run.writer.settle(T0)
        with Memory(run.path) as memory:
            last = memory.span[1]
            instants = sorted(
                {T0 - 1, last, *(d.document.ts_recv for d in early if d.document.ts_recv <= last)}
            )
            answers = {ts: everything(memory.as_of(ts), -1) for ts in instants}
            # Later, from the very next instant on: the same again, and what changes how it stood.
            run.writer.alias(BTC, ("kestrel coin",), known_from=last + 1)
            run.writer.alias(BTC, ("Bitcoin",), known_from=last + 1, valid_until=T0)
            start = max(
                last + 1, early[-1].document.ts_recv if early else 0
            )  # also at an instant that is not over yet
            run.admit(documents(after + before, start, tuple(early)))
            run.writer.settle(last + 400 * NS_PER_DAY)
            for ts, answer in answers.items():
                assert everything(memory.as_of(ts), -1) == answer
        run.writer.close()
        with Memory(run.path) as memory:
            for ts, answer in answers.items():
                assert everything(memory.as_of(ts), -1) == answer


@FEW
@given(STREAMS)
def test_an_instant_is_refused_until_every_document_of_it_is_in(
    stream: Stream,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(folder)
        made = documents(stream, T0)
        answers: dict[int, bytes] = {}
        with Memory(run.path) as memory:
            for one in made:
                run.admit([one])
                for ts in {d.document.ts_recv for d in made}:
                    try:
                        view = memory.as_of(ts)
                    except InputError:
                        continue
                    answer = everything(view, -1)
                    assert answers.setdefault(ts, answer) == answer
            run.writer.settle(made[-1].document.ts_recv if made else T0)
            for ts, answer in answers.items():
                assert everything(memory.as_of(ts), -1) == answer
        run.writer.close()


@FEW
@given(STREAMS)
def test_retirement_refuses_and_never_changes(stream: Stream) -> None:
    with tempfile.TemporaryDirectory() as kept, tempfile.TemporaryDirectory() as retired:
        whole_run, bounded = Run(kept), Run(retired, retention_days=2)
        made = documents(stream, T0)
        for run in (whole_run, bounded):
            run.admit(made)
            run.writer.settle(made[-1].document.ts_recv if made else T0)
            run.writer.close()
        with Memory(whole_run.path) as all_of_it, Memory(bounded.path) as rest:
            first, last = rest.span
            for ts in {d.document.ts_recv for d in made}:
                if ts < first:
                    continue
                after = first - 1
                view, mine = all_of_it.as_of(ts), rest.as_of(ts)
                assert everything(mine, after) == everything(view, after)
                for limit in (1, 3, 1_000):
                    try:
                        found = mine.documents(limit=limit)
                    except InputError:
                        continue
                    assert found == view.documents(limit=limit)
            assert last == (made[-1].document.ts_recv if made else T0)


@FEW
@given(STREAMS, st.integers(1, 6))
def test_every_answer_equals_brute_force(stream: Stream, limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(folder)
        admitted = documents(stream, T0)
        run.admit(admitted)
        made = [one.document for one in admitted]
        first_seen = [one.document for one in admitted if not one.copy_of]
        run.writer.settle(made[-1].ts_recv if made else T0)
        run.writer.close()
        with Memory(run.path) as memory:
            for ts in sorted({d.ts_recv for d in made}):
                view = memory.as_of(ts)
                known = sorted(
                    (-d.ts_recv, d.document_id) for d in made if d.ts_recv <= ts
                )[:limit]  # fmt: skip
                told = [(-d.ts_recv, d.document_id) for d in view.documents(limit=limit)]
                assert told == known
                mine = whole(QUERY, "").astype(object)
                exact = sorted(
                    (-int((whole(ENCODER.embed(d.text), "").astype(object) * mine).sum()), d.document_id)
                    for d in first_seen
                    if d.ts_recv <= ts
                )[:limit]  # fmt: skip
                found = view.alike(QUERY, ENCODER.name, limit=limit)
                assert [
                    (-round(a.similarity * ONE * ONE), a.document.document_id) for a in found
                ] == exact
