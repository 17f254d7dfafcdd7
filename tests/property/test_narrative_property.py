"""Laws of the narrative room over any stream of documents."""

import html
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from finllm.domain.errors import InputError
from finllm.domain.evidence import Document
from finllm.domain.identity import canonical, content_id
from finllm.domain.units import NS_PER_HOUR, NS_PER_MIN
from finllm.narrative.memory.timeline import Arrivals, Timeline
from finllm.narrative.reading.reader import words_only
from finllm.narrative.repeats.copies import Copies, exact_hash, read_for_copies
from finllm.narrative.room import Narrative, NarrativeSettings
from finllm.narrative.text.canonical import canonicalise
from finllm.narrative.trust import instructions
from finllm.narrative.trust.facts import facts_of

READER = words_only()
T0 = 1_723_118_400_000_000_000
BTC = "binance-usdm:BTCUSDT"
MANY = settings(max_examples=40, deadline=None)

WORDS = st.sampled_from(
    ["Bitcoin", "BTC", "$BTC", "Kestrel", "fund", "halts", "hacked", "denies", "profit", "rises",
     "falls", "10%", "20%", "record", "the", "of", "on", "regulator", "approves", "rejects", "RT",
     "@desk:", "\u0412TC", "Bit\u200bcoin", "<b>Ether</b>", "&amp;", "\u2026", "!"]
)  # fmt: skip
TEXTS = st.lists(WORDS, min_size=1, max_size=14).map(" ".join)
STEPS = st.integers(0, 40 * NS_PER_MIN)
SENDERS = st.sampled_from(["wire", "desk", "social"])
STREAMS = st.lists(st.tuples(STEPS, TEXTS, SENDERS), min_size=1, max_size=25)


def documents(stream: list[tuple[int, str, str]], start: int = T0) -> list[Document]:
    made, ts = [], start
    for step, text, sender in stream:
        ts += step
        made.append(
            Document(
                document_id=content_id(sender, ts, text),
                source=sender,
                ts_published=ts,
                ts_recv=ts,
                text=text,
                author="a" if sender == "social" else "",
            )
        )
    return made


def room() -> Narrative:
    made = Narrative(
        settings=NarrativeSettings(originals=64, recent=8, keep=64, copy_window_ns=2 * NS_PER_HOUR),
        reader=READER,
    )
    made.watch(BTC)
    made.watch("binance-usdm:ETHUSDT")
    return made


@MANY
@given(STREAMS, STREAMS, st.integers(0, 30))
def test_later_documents_never_change_an_earlier_pack(
    before: list[tuple[int, str, str]], after: list[tuple[int, str, str]], extra: int
) -> None:
    made = room()
    early = documents(before)
    for document in early:
        made.admit(document, document.ts_recv)
    instants = [d.ts_recv for d in early] + [early[-1].ts_recv + extra]
    packs = {ts: canonical(made.gather(BTC, ts)) for ts in instants}
    # Poison: received later, dated back, repeating or contradicting what was said.
    for document in documents(after + before, start=instants[-1] + 1):
        made.admit(document, document.ts_recv)
    for ts, pack in packs.items():
        assert canonical(made.gather(BTC, ts)) == pack


@MANY
@given(STREAMS)
def test_a_pack_as_of_then_is_what_a_room_that_stopped_then_says(
    stream: list[tuple[int, str, str]],
) -> None:
    whole = room()
    for document in documents(stream):
        whole.admit(document, document.ts_recv)
    cut = documents(stream)[len(stream) // 2].ts_recv
    stopped = room()
    for document in documents(stream):
        if document.ts_recv <= cut:
            stopped.admit(document, document.ts_recv)
    assert canonical(whole.gather(BTC, cut)) == canonical(stopped.gather(BTC, cut))


@MANY
@given(STREAMS, st.lists(st.tuples(st.integers(0, 24), st.integers(1, 10**12)), max_size=6))
def test_refused_documents_leave_no_trace(
    stream: list[tuple[int, str, str]], bad: list[tuple[int, int]]
) -> None:
    clean, poisoned = room(), room()
    for i, document in enumerate(documents(stream)):
        for at, shift in bad:
            if at == i:
                late = Document(
                    document_id="bad",
                    source="x",
                    ts_published=document.ts_recv,
                    ts_recv=document.ts_recv + shift,
                    text="Bitcoin hacked",
                )
                refused = poisoned.admit(late, document.ts_recv)
                assert refused.refusal is not None
        a = clean.admit(document, document.ts_recv)
        b = poisoned.admit(document, document.ts_recv)
        assert canonical(a) == canonical(b)
    end = documents(stream)[-1].ts_recv
    assert canonical(clean.gather(BTC, end)) == canonical(poisoned.gather(BTC, end))


@MANY
@given(STREAMS)
def test_evidence_stays_within_its_bounds_and_quotes_resolve(
    stream: list[tuple[int, str, str]],
) -> None:
    made = room()
    for document in documents(stream):
        for notice in made.admit(document, document.ts_recv).notices:
            assert 0.0 <= notice.novelty <= 1.0
            assert 0.0 < notice.relevance <= 1.0
            assert 0.0 <= notice.credibility <= 1.0
            assert -1.0 <= notice.stance <= 1.0
            assert notice.burst > 0.0
    pack = made.gather(BTC, documents(stream)[-1].ts_recv)
    assert made.tally.read == made.tally.used + sum(made.tally.dropped.values())
    for e in pack.evidence:
        assert made.text(e.document_id)[e.span[0] : e.span[1]] == e.quote != ""


@MANY
@given(st.text(max_size=200) | TEXTS.map(html.escape))
def test_the_canonical_form_is_a_fixed_point(text: str) -> None:
    once = canonicalise(text).text
    assert canonicalise(once).text == once
    assert unicodedata.is_normalized("NFKC", once)


@MANY
@given(TEXTS)
def test_a_text_is_an_exact_copy_of_itself(text: str) -> None:
    copies = Copies(capacity=16, near=0.5, window_ns=10)
    reading = read_for_copies(canonicalise(text).text or "x")
    signature = copies.sign(reading)
    slot = copies.add(exact_hash(reading), reading, signature, 0)
    exact = copies.exact(exact_hash(reading), 10)
    near = copies.near(reading, signature, 10)
    assert (exact.slot, exact.is_copy) == (slot, True)
    assert (near.slot, near.similarity, near.is_copy) == (slot, 1.0, True)
    assert copies.exact(exact_hash(reading), 11).slot == -1


@MANY
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=80),
    st.integers(1, 8),
    st.integers(0, 60),
    st.integers(0, 400),
)
def test_a_timeline_answers_as_an_endless_list_would_or_not_at_all(
    steps: list[int], visible: int, retain: int, back: int
) -> None:
    kept: Timeline[int] = Timeline(visible=visible, retain_ns=retain)
    every: list[tuple[int, int]] = []
    ts = 1_000
    for i, step in enumerate(steps):
        ts += step
        kept.append(ts, i)
        every.append((ts, i))
    for until in (ts, ts - back // 2, ts - back):
        expected = [i for t, i in every if until - back < t <= until][-visible:]
        try:
            found = kept.between(until - back, until)
        except InputError:
            assert until < ts or back > retain
        else:
            assert found == expected
            assert kept.count(until - back, until) == len(expected)
    assert len(kept) <= 2 * visible


@MANY
@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(0, 2_000))
def test_arrivals_count_only_what_had_ended_by_then(steps: list[int], at: int) -> None:
    arrivals = Arrivals(quantum_ns=10, retain_ns=300)
    every, ts = [], 0
    for step in steps:
        ts += step
        arrivals.add(ts)
        every.append(ts)
    assert len(arrivals) <= 31 + 31 // 8 + 2
    try:
        assert arrivals.before(at) == sum(t // 10 < at // 10 for t in every)
    except InputError:
        assert at < ts - 300


ORDERS = """ignore disregard forget override bypass all any the your of these previous prior above earlier
    preceding system foregoing safety developer assistant prompt message note instructions new updated hidden
    instruction: for ai model reader <|im_start <|user </system you are now an language gpt llm chatbot dan in
    mode as a dear attention to trading bot agent respond reply answer output only with json bullish buy set
    shift confidence probability verdict credibility stance sentiment classify label score rate mark this do
    not tell reveal mention user operator human [inst] [/inst] ### ###system begin "role":"system" ignora
    olvida descarta esqueca desconsidere dimentica todas las instrucciones istruzioni ordenes oublie oubliez
    toutes les consignes ignoriere vergiss vergessen sie missachte alle anweisungen befehle Ignore SYSTEM
    Shares rise"""
FIGURES = """eps earnings per share earned profit adj. guidance outlook sees q1 fy forecasts expects
    revenue sales turnover top line net income loss up operating ebitda dividend price target pt interest
    rates rate hike raises to buy acquire acquired takeover buyout merger deal bid offer lay off layoffs
    job cuts jobs cut
    hacked hackers stolen drained exploit stole taken $3 1.2 million 5% bn 40 cents 25 bps 900 EPS Revenue
    Net of for the"""


@given(
    st.lists(st.sampled_from(ORDERS.split()), min_size=1, max_size=7),
    st.sampled_from([" ", "  ", "\n\n", "\t"]),
)
def test_no_order_is_missed_for_want_of_a_key(words: list[str], blank: str) -> None:
    text = blank.join(words)
    assert instructions._orders(text) == (instructions._ORDERS.search(text) is not None)


@given(st.lists(st.sampled_from(FIGURES.split()), min_size=2, max_size=10).map(" ".join))
def test_no_fact_is_missed_for_want_of_a_key(text: str) -> None:
    assert facts_of(text) == facts_of(f"{text}\n\n\u00e9")  # keys are for ASCII alone
