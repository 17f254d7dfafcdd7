"""Planted causes: anomalies of a simulated market, each with one document that caused it among 100.

Frozen: `FROZEN` is the hash of this file's parameters and of the phrases, fixed before any model was
trained. A case is a function of its seed alone. What makes it hard: of the 99 others a third speak of
other firms in the same words, and of those about the firm, all but a few came out at a fitting time;
they tell of the opposite, of another kind of event, of another size, of the same at another time, or
of nothing. The kind decides the trace in the market: see `TRACES`.
"""

from hashlib import sha256
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from finllm.domain.evidence import Document
from finllm.domain.identity import canonical, content_id
from finllm.domain.units import NS_PER_MIN, NS_PER_S
from finllm.market.synthetic.chance import Draw, between, draws, normal, pick, shuffled
from finllm.market.synthetic.newswire import OUTLETS
from finllm.market.synthetic.settings import LISTINGS, START, VENUE
from finllm_lab.alignment import phrases

FROZEN: Final = "14f10247252a1e679c27c44c64044273e8749380293b7eef73fc7011f2177a1d"
"""What `frozen_hash` must return: the same cases as when it was first set, before any model was trained."""
N_CANDIDATES: Final = 100
BEAT_NS: Final = NS_PER_MIN
N_BEATS: Final = 200
ONSET: Final = 150
"""The beat in which the planted move begins."""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """What a kind of event does to the market, at size 1, in units of each channel's usual deviation."""

    move: float
    """Whole move of the price, in deviations of one beat's return."""
    volatility: float
    spread: float
    depth: float
    flow: float
    volume: float
    half_life: float
    """Beats in which half of the move has happened, and half of the rest has gone."""
    lag: tuple[float, float]
    """Beats from publication to the onset."""


TRACES: Final[dict[str, Trace]] = {
    "earnings": Trace(
        move=24,
        volatility=4,
        spread=1,
        depth=-1,
        flow=3,
        volume=12,
        half_life=3.0,
        lag=(0.1, 2),
    ),
    "guidance": Trace(
        move=24,
        volatility=1,
        spread=0,
        depth=0,
        flow=10,
        volume=6,
        half_life=9,
        lag=(1, 5),
    ),
    "legal": Trace(
        move=16,
        volatility=4,
        spread=10,
        depth=-2,
        flow=2,
        volume=1,
        half_life=7,
        lag=(2, 8),
    ),
    "merger": Trace(
        move=20,
        volatility=0,
        spread=-2,
        depth=6,
        flow=4,
        volume=11,
        half_life=0.7,
        lag=(0.1, 1),
    ),
    "hack": Trace(
        move=20,
        volatility=10,
        spread=8,
        depth=-8,
        flow=5,
        volume=5,
        half_life=4,
        lag=(1, 6),
    ),
    "outage": Trace(
        move=8,
        volatility=3,
        spread=12,
        depth=-10,
        flow=0,
        volume=-5,
        half_life=4,
        lag=(0.1, 2),
    ),
    "listing": Trace(
        move=18,
        volatility=2,
        spread=-3,
        depth=5,
        flow=10,
        volume=7,
        half_life=6,
        lag=(0.5, 4),
    ),
    "macro": Trace(
        move=14,
        volatility=11,
        spread=3,
        depth=-5,
        flow=1,
        volume=5,
        half_life=2,
        lag=(0.1, 1),
    ),
}
SIZES: Final = (0.6, 1.0, 1.8)
JITTER: Final = (0.75, 1.3)
"""Each part of a trace is multiplied by its own factor between these."""
PERCENT: Final = ((1, 4), (8, 20), (30, 80))
MILLIONS: Final = ((5, 20), (80, 300), (1_000, 6_000))
SAID_SIZE: Final = 0.6
"""Chance that the size is also said in words."""
N_WAYS: Final = 4
"""In which a half tells an event."""
FIRMS: Final = (
    ("us-equity:NWAV", ("Northwave Avionics", "Northwave")),
    ("us-equity:GRNL", ("Greenloch Foods", "Greenloch")),
    ("us-equity:TSMR", ("Tessamere Pharma", "Tessamere")),
    ("us-equity:BRKH", ("Brackhollow Steel", "Brackhollow")),
    ("us-equity:QVLT", ("Quillvolt Motors", "Quillvolt")),
)
INSTRUMENTS: Final = (
    *((f"{VENUE}:{one.symbol}", one.places) for one in LISTINGS),
    *FIRMS,
)
"""Key, and the names by which documents call it."""
OTHERS: Final = {"elsewhere": 30, "opposite": 22, "kind": 7, "size": 7, "time": 18, "noise": 15}
"""How many of the 99 are wrong in which way."""
NEAR: Final = (-3.0, 10.0)
"""Beats before the onset at which what has nothing to do with it was published."""
FAR: Final = (20.0, 140.0)
"""The same, of the right news at the wrong time; a third of it as long afterwards, up to 38 beats."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One anomaly with its candidates."""

    instrument: str
    kind: str
    is_good: bool
    size: int
    """Index into `SIZES`."""
    starts: tuple[int, ...]
    """Start of each beat, ns UTC; a beat is known when the next starts."""
    values: bytes
    """float64 [N_BEATS, 6], the channels of `finllm.narrative.alignment.anomalies`."""
    documents: tuple[Document, ...]
    """In order of receipt."""
    why: tuple[str, ...]
    """Of each document: `cause`, or one of `OTHERS`."""

    @property
    def channels(self) -> npt.NDArray[np.float64]:
        """Return the market as [N_BEATS, 6]."""
        return np.frombuffer(self.values).reshape(N_BEATS, 6)

    @property
    def onset(self) -> int:
        """Return when the planted move begins, ns UTC."""
        return self.starts[ONSET]

    @property
    def cause(self) -> str:
        """Return the causing document's id."""
        return self.documents[self.why.index("cause")].document_id


class News(msgspec.Struct, frozen=True):
    """What happened to whom."""

    instrument: str
    kind: str
    """Empty = nothing."""
    is_good: bool
    size: int
    """Index into `SIZES`."""


def frozen_parameters() -> bytes:
    """Return everything that the cases depend on besides the code."""
    return canonical(
        (
            sorted((kind, msgspec.to_builtins(trace)) for kind, trace in TRACES.items()),
            (SIZES, JITTER, PERCENT, MILLIONS, SAID_SIZE, FIRMS, NEAR, FAR),
            sorted(OTHERS.items()),
            (N_CANDIDATES, BEAT_NS, N_BEATS, ONSET),
            sorted((kind, good, told) for (kind, good), told in phrases.TOLD.items()),
            (phrases.FRAMES, sorted(phrases.SIZED.items()), phrases.NOISE),
        )
    )


def frozen_hash() -> str:
    """Return the hash that must be `FROZEN`: parameters, phrases, and one case of each half."""
    cases = [plant(seed, half) for seed, half in ((1, 0), (2, 1))]
    # A machine's own pow may differ in a last bit.
    rounded = [np.rint(case.channels * 1e6).astype(np.int64).tolist() for case in cases]
    # By name, so that a field that documents gain does not look like another generator.
    bare = [msgspec.structs.replace(case, values=b"", documents=()) for case in cases]
    told = [
        [(d.source, d.author, d.ts_published, d.ts_recv, d.text, d.symbols) for d in case.documents]
        for case in cases
    ]
    return sha256(frozen_parameters() + canonical((bare, told, rounded))).hexdigest()


def plant(seed: int, half: int, among: tuple[int, ...] = tuple(range(N_WAYS))) -> Case:
    """Return a case.

    Args:
        seed: Any; the same seed gives the same case.
        half: Which half of the phrases: 0 = those to train on, 1 = the unseen.
        among: Which of the half's four ways to tell an event; fewer, to keep some back within training.
    """
    draw = draws(seed, "planted", half)
    news, starts = _event(draw)
    told = _Teller(draw, half, among)
    onset = starts[ONSET]
    written = [("cause", told.tell(news, onset - _beats(between(draw, *TRACES[news.kind].lag))))]
    for wrong, n in OTHERS.items():
        written += [(wrong, _other(draw, told, news, wrong, onset)) for _ in range(n)]
    written.sort(key=lambda one: (one[1].ts_recv, one[1].document_id))
    bare = _moved(seed, half, news, starts)
    return msgspec.structs.replace(
        bare,
        documents=tuple(document for _, document in written),
        why=tuple(why for why, _ in written),
    )


def moved(seed: int) -> Case:
    """Return a market that news moved, without a document: to learn traces from."""
    return _moved(seed, 0, *_event(draws(seed, "planted", 0)))


def tell_each(
    seed: int, among: tuple[int, ...] = tuple(range(N_WAYS))
) -> list[tuple[Document, News]]:
    """Return documents that tell of each kind of event, good and bad, in each way, and as many of nothing.

    All in the words of the half to train on, each of a drawn instrument and size.

    Args:
        seed: Any; the same seed gives the same documents.
        among: Which of the four ways to tell an event, and which fourths of what tells of nothing.
    """
    draw = draws(seed, "tell each")
    out = []
    for way in among:
        teller = _Teller(draw, 0, (way,))
        for kind, is_good in phrases.TOLD:
            news = News(pick(draw, INSTRUMENTS)[0], kind, is_good, int(draw() * len(SIZES)))
            out.append((teller.tell(news, START), news))
        idle = phrases.NOISE[0][way::N_WAYS]
        for _ in idle:
            news = News(pick(draw, INSTRUMENTS)[0], "", is_good=False, size=0)
            out.append((teller.chatter(news.instrument, START, idle), news))
    return out


def _event(draw: Draw) -> tuple[News, tuple[int, ...]]:
    """Return what happens in a case, and when its beats start."""
    instrument, _ = pick(draw, INSTRUMENTS)
    kind = pick(draw, tuple(TRACES))
    news = News(instrument, kind, draw() < 0.5, int(draw() * len(SIZES)))
    start = START + int(draw() * 86_400 * 28) // 60 * 60 * NS_PER_S
    return news, tuple(start + i * BEAT_NS for i in range(N_BEATS))


def _moved(seed: int, half: int, news: News, starts: tuple[int, ...]) -> Case:
    return Case(
        instrument=news.instrument,
        kind=news.kind,
        is_good=news.is_good,
        size=news.size,
        starts=starts,
        values=_market(seed, half, news).tobytes(),
        documents=(),
        why=(),
    )


def _beats(n: float) -> int:
    return int(n * BEAT_NS)


def _other(draw: Draw, told: "_Teller", news: News, wrong: str, onset: int) -> Document:
    before = _beats(between(draw, *NEAR))
    if wrong == "noise":
        return told.chatter(news.instrument, onset - before)
    changed = news
    if wrong == "elsewhere":
        names = [key for key, _ in INSTRUMENTS if key != news.instrument]
        changed = msgspec.structs.replace(news, instrument=pick(draw, names))
    elif wrong == "opposite":
        changed = msgspec.structs.replace(news, is_good=not news.is_good)
    elif wrong == "kind":
        kinds = [kind for kind in TRACES if kind != news.kind]
        size = int(draw() * len(SIZES))
        changed = msgspec.structs.replace(news, kind=pick(draw, kinds), size=size)
    elif wrong == "size":
        sizes = [size for size in range(len(SIZES)) if size != news.size]
        changed = msgspec.structs.replace(news, size=pick(draw, sizes))
    elif wrong == "time":
        before = _beats(between(draw, *FAR))
        if draw() < 1.0 / 3.0:
            before = -_beats(between(draw, FAR[0], 38.0))
    return told.tell(changed, onset - before)


class _Teller:
    """Puts news into words of one half."""

    def __init__(self, draw: Draw, half: int, among: tuple[int, ...]) -> None:
        self._draw = draw
        self._half = half
        self._among = among
        self._names = dict(INSTRUMENTS)

    def tell(self, news: News, ts: int) -> Document:
        draw, half = self._draw, self._half
        told = phrases.TOLD[news.kind, news.is_good][half]
        text = told[pick(draw, self._among)]
        if draw() < SAID_SIZE:
            text += pick(draw, phrases.SIZED[news.size][half])
        text = pick(draw, phrases.FRAMES[half]).format(x=text)
        return self._document(text, news.instrument, news.size, ts)

    def chatter(self, instrument: str, ts: int, among: tuple[str, ...] = ()) -> Document:
        text = pick(self._draw, among or phrases.NOISE[self._half])
        return self._document(text, instrument, int(self._draw() * len(SIZES)), ts)

    def _document(self, text: str, instrument: str, size: int, ts: int) -> Document:
        draw = self._draw
        text = text.format(
            who=pick(draw, self._names[instrument]),
            n=int(between(draw, *PERCENT[size])),
            m=int(between(draw, *MILLIONS[size])),
        )
        outlet = pick(draw, OUTLETS)
        return Document(
            document_id=content_id(outlet.name, ts, text),
            source=outlet.name,
            ts_published=ts,
            ts_recv=ts,
            lang="en",
            text=text,
            author=pick(draw, outlet.authors),
            followers=outlet.followers,
        )


def _market(seed: int, half: int, news: News) -> npt.NDArray[np.float64]:
    """Return a day without news, plus the trace of one piece of it."""
    draw = draws(seed, "planted market", half)
    trace, size = TRACES[news.kind], SIZES[news.size]
    values = _quiet(draw)
    sign = 1.0 if news.is_good else -1.0
    parts = (trace.volatility, trace.spread, trace.depth, sign * trace.flow, trace.volume)
    gains = [sign * trace.move, *parts]
    gains = [gain * size * between(draw, *JITTER) for gain in gains]
    left = 1.0
    keep = 0.5 ** (1.0 / trace.half_life)
    for beat in range(ONSET, N_BEATS):
        values[beat, 0] += gains[0] * left * (1.0 - keep)
        values[beat, 1:] += left * np.array(gains[1:])
        left *= keep
    values[:, 0] *= 3.0  # bps
    return values


def _quiet(draw: Draw) -> npt.NDArray[np.float64]:
    """Return [N_BEATS, 6] of unit deviation: returns without memory, the rest with a little."""
    rows, state = [], [0.0] * 5
    for _ in range(N_BEATS):
        state = [0.5 * one + 0.75**0.5 * normal(draw) for one in state]
        rows.append([normal(draw), *state])
    return np.array(rows)


def seeds(first: int, n: int) -> list[int]:
    """Return n seeds from one on, in an order of their own."""
    return shuffled(draws(first, "seeds"), list(range(first, first + n)))
