"""Attacks by what is sent when and by whom: campaigns, floods, poisoned times, liars and contradictions."""

import json
from collections.abc import Callable, Iterator
from time import process_time

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.app.attack.field import Family, Field, are_different, document, start_of
from finllm.domain.errors import InputError
from finllm.domain.evidence import Document, EvidencePack, QuarantineState, Refusal
from finllm.domain.identity import canonical
from finllm.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN, NS_PER_S
from finllm.narrative.attacks import edited
from finllm.narrative.room import Admission, Narrative
from finllm.narrative.sources.documents import document_of
from finllm.reasoning.fusion import Weights, fuse, load_weights, read
from finllm.reasoning.outlook import sums
from finllm.runtime.tally import Tally

ACCOUNTS = 50
SLANDER = (
    "{name} hides huge losses, insiders are dumping everything before the announcement",
    "Huge {name} takeover closing soon, smart money is loading up before everyone else",
    "Confirmed by staff: {name} accounts are frozen, get your money out while you can",
    "{name} about to announce record partnership, this will double within days",
    "Regulator will shut {name} down tonight, total fraud exposed by a former director",
)
Tick = Callable[[], None]


class Planted(msgspec.Struct):
    """One campaign, and what became of it."""

    instrument: str
    ts: int
    until: int
    documents: list[Document]
    flagged: int = 0
    states: dict[str, bool] = msgspec.field(default_factory=dict)
    """By evidence id, whether packs hold the claim."""

    @property
    def is_caught(self) -> bool:
        """Return whether it was recognised, and packs hold nothing of it."""
        return self.flagged > 0 and not any(self.states.values())


def campaigns(field: Field, share: float, *, least_recall: float, tick: Tick) -> list[Family]:
    """Fifty accounts, one story edited by each, within an hour or so, among the honest documents."""
    name = f"campaign, {share:.0%} edited"
    planted = _planted(field, name, share)
    room, clean = field.room(), field.room()
    by_document = {d.document_id: one for one in planted for d in one.documents}
    wrong = 0
    moves: list[Effects] = []
    usual: list[Effects] = []
    ends = sorted(planted, key=lambda one: one.until)
    weights = load_weights()
    stream = sorted(
        [*field.documents, *(d for one in planted for d in one.documents)],
        key=lambda d: d.ts_recv,
    )
    for each in stream:
        while ends and ends[0].until < each.ts_recv:
            moves.append(_move(ends.pop(0), room, clean, weights))
        before = room.tally.noted["campaign_document"]
        admission = room.admit(each, each.ts_recv)
        hit = room.tally.noted["campaign_document"] > before
        owner = by_document.get(each.document_id)
        if owner is None:
            wrong += hit
            told = clean.admit(each, each.ts_recv).notices[:1]
            usual += [_effects(clean.gather(n.instrument, each.ts_recv), weights) for n in told]
        else:
            owner.flagged += hit
            changed = {q.evidence_id for q in admission.quarantines}
            shown = [e for e in (n.evidence_id for n in admission.notices) if e not in changed]
            owner.states |= dict.fromkeys(shown, True)
        _follow(admission, by_document)
        tick()
    moves += [_move(one, room, clean, weights) for one in ends]
    n = max(1, len(planted))
    return [
        Family(
            name=name,
            recall=sum(one.flagged > 0 for one in planted) / n,
            n_attacks=len(planted),
            false_positives=wrong / max(1, len(field.documents)),
            n_controls=len(field.documents),
            least_recall=least_recall,
            most_false=0.01,
            note=f"{sum(one.flagged for one in planted) / (n * ACCOUNTS):.0%} of the posts flagged at once",
        ),
        Family(
            name=f"{name}: packs hold nothing of it",
            recall=sum(one.is_caught for one in planted) / n,
            n_attacks=len(planted),
            false_positives=wrong / max(1, len(field.documents)),
            n_controls=len(field.documents),
            note="a variant that resembles none of the others stays a claim of an account of no record",
        ),
        *_moved(name, np.array(moves), np.array(usual), share),
    ]


def _planted(field: Field, name: str, share: float) -> list[Planted]:
    chance = field.chance(name)
    n = max(5, min(60, field.size // 5))
    found = []
    for number in range(n):
        at = field.documents[int(chance.integers(len(field.documents)))].ts_recv
        key = field.instruments[int(chance.integers(min(20, len(field.instruments))))]
        asset = key.partition(":")[2].removesuffix("USDT")
        story = SLANDER[number % len(SLANDER)].format(name=f"${asset}")
        extra = " ".join(field.words[int(i)] for i in chance.integers(0, len(field.words), 3))
        offsets = np.sort(chance.integers(0, NS_PER_HOUR, ACCOUNTS)).tolist()
        documents = [
            document(
                edited(f"{story} {extra}", share, chance, field.words),
                at + offset,
                source="social",
                author=f"acct-{number}-{i}-{int(chance.integers(10**6))}",
                followers=int(chance.integers(0, 200)),
                symbols=(asset,),
            )
            for i, offset in enumerate(offsets)
        ]
        until = at + NS_PER_HOUR + NS_PER_S
        found.append(Planted(instrument=key, ts=at, until=until, documents=documents))
    return found


def _follow(admission: Admission, by_document: dict[str, Planted]) -> None:
    """Keep up which claims of campaigns packs hold."""
    for change in admission.quarantines:
        owner = by_document.get(change.document_id)
        if owner is not None:
            owner.states[change.evidence_id] = change.state is QuarantineState.RELEASED or (
                change.state is QuarantineState.CONDEMNED and change.was_visible
            )


Effects = tuple[tuple[float, ...], ...]
"""By band of the fusion: shift and ln k."""


def _effects(pack: EvidencePack, weights: Weights) -> Effects:
    """Return how each band's fusion moves the forecast for a pack."""
    return tuple(
        sums(fuse(read(pack, band.memory_ns, weights.directed), band)) for band in weights.bands
    )


def _move(one: Planted, room: Narrative, clean: Narrative, weights: Weights) -> Effects:
    """Return by how much a campaign that has ended moves the forecast, against a room without it."""
    with_it, without = (
        _effects(r.gather(one.instrument, one.until), weights) for r in (room, clean)
    )
    return tuple(
        tuple(a - b for a, b in zip(one_band, other, strict=True))
        for one_band, other in zip(with_it, without, strict=True)
    )


def _moved(
    name: str, moves: NDArray[np.float64], usual: NDArray[np.float64], share: float
) -> Iterator[Family]:
    """Yield how many campaigns moved the forecast by at most a tenth of its own deviation.

    Args:
        name: The campaigns'.
        moves: [n, bands, 2], shift and ln k.
        usual: [m, bands, 2], of honest documents.
        share: Of words edited.
    """
    for i, what in enumerate(("shift", "scale")):
        deviations = usual[:, :, i].std(axis=0) if len(usual) > 1 else np.zeros(moves.shape[1])
        there = deviations > 0.0
        moved = (np.abs(moves[:, there, i]) / deviations[there]).max(axis=1, initial=0.0)
        told = ", ".join(f"{d:.4f}" for d in deviations[there])
        yield Family(
            name=f"{name}: {what} of the forecast moved by at most 0.1 sd",
            recall=float((moved <= 0.1).mean()) if len(moved) else 0.0,
            n_attacks=len(moved),
            false_positives=0.0,
            n_controls=len(usual),
            least_recall=0.95 if share <= 0.15 and what == "shift" and there.any() else 0.0,
            note=f"median {np.median(moved):.3f}, most {moved.max():.2f} of a standard deviation {told}, "
            "after it ended"
            if there.any() and len(moved)
            else f"not measured: this fusion gives no forecast a {what}",
        )


def poisoned(field: Field, n: int, *, tick: Tick) -> list[Family]:
    """Documents of the future, undated, in another zone, by a wrong clock, or edited after the fact.

    What is recognised is a poisoned document that no pack as of an earlier instant holds; each pack that
    was asked for along the way is asked for again at the end, and has to be the same bytes.
    """
    chance, room, clean = field.chance("poisoned"), field.room(), field.room()
    honest = field.documents[: max(200, n // 4)]
    each = max(1, n // max(1, len(honest)))
    packs: dict[tuple[str, int], bytes] = {}
    leaked: set[str] = set()
    n_poisoned = refused = 0
    for number, one in enumerate(honest):
        admission = room.admit(one, one.ts_recv)
        refused += admission.refusal is not None and clean.admit(one, one.ts_recv).refusal is None
        for _ in range(each):
            n_poisoned += 1
            _poison(room, one, number, n_poisoned, chance)
        for notice in admission.notices[:1]:
            pack = room.gather(notice.instrument, one.ts_recv)
            packs[notice.instrument, one.ts_recv] = canonical(pack)
            leaked |= {e.document_id for e in pack.evidence if e.ts_recv > pack.as_of}
            leaked |= {e.document_id for e in pack.evidence if e.document_id.startswith("future")}
        tick()
    changed = sum(
        canonical(room.gather(*asked)) != told
        for asked, told in packs.items()
        if _is_held(room, asked)
    )
    return [
        Family(
            name="poisoned times",
            recall=1.0 - len(leaked) / max(1, n_poisoned),
            n_attacks=n_poisoned,
            false_positives=refused / max(1, len(honest)),
            n_controls=len(honest),
            least_recall=1.0,
            most_false=0.0,
        ),
        Family(
            name="poisoned times: earlier packs unchanged",
            recall=1.0 - changed / max(1, len(packs)),
            n_attacks=len(packs),
            false_positives=0.0,
            n_controls=len(packs),
            least_recall=1.0,
            note="byte for byte, asked again after all that came",
        ),
    ]


def _is_held(room: Narrative, asked: tuple[str, int]) -> bool:
    """Return whether memory still holds what a pack is made of."""
    try:
        room.gather(*asked)
    except InputError:
        return False
    return True


def _poison(
    room: Narrative, one: Document, number: int, serial: int, chance: np.random.Generator
) -> None:
    """Put one poisoned variant of a document to a room, right after it."""
    now, text = one.ts_recv, one.text[::-1] + f" {serial} " + one.text
    ahead = int(chance.integers(2 * NS_PER_MIN, 30 * NS_PER_DAY))
    kind = serial % 6
    made: Document | Refusal
    if kind == 0:  # received in the future
        made = msgspec.structs.replace(
            one, document_id=f"future{serial}", ts_recv=now + ahead, text=text
        )
    elif kind == 1:  # a clock that runs ahead
        made = msgspec.structs.replace(
            one, document_id=f"future{serial}", ts_published=now + ahead, text=text
        )
    elif kind == 2:  # a zone taken for UTC
        row = {"source": one.source, "text": text, "ts_published_ns": now + 5 * NS_PER_HOUR}
        made = _read(row, now, number)
    elif kind == 3:  # undated
        made = _read({"source": one.source, "text": text}, now, number)
    elif kind == 4:  # edited after the fact: the same id, another text
        made = msgspec.structs.replace(one, text=text)
    else:  # dated back
        made = msgspec.structs.replace(
            one, document_id=f"back{serial}", ts_published=now - ahead, text=text
        )
    if isinstance(made, Document):
        room.admit(made, now)


def _read(row: dict[str, object], now: int, number: int) -> Document | Refusal:
    return document_of(json.dumps(row).encode(), place=f"row {number}", ts_recv=now, tally=Tally())


def flood(field: Field, n: int, *, tick: Tick) -> list[Family]:
    """Near copies without end of one text: is each known, at what speed, and does memory stay as it is?"""
    chance, room, ts = field.chance("flood"), field.room(), start_of(field)
    texts, others = field.halves("flood")
    text = max(texts[:50], key=len)
    first = document(text, ts)
    room.admit(first, ts)
    hits, began = 0, process_time()
    for i in range(n):
        one = document(edited(text, 0.1, chance, field.words), ts + i, author=f"flooder {i}")
        hits += room.admit(one, one.ts_recv).copy_of != ""
        tick()
    took = process_time() - began
    ts += n
    wrong = 0
    for i, other in enumerate(others):
        one = document(other, ts + i)
        wrong += room.admit(one, one.ts_recv).copy_of == first.document_id and are_different(
            text, other
        )
    return [
        Family(
            name="flood of near copies",
            recall=hits / max(1, n),
            n_attacks=n,
            false_positives=wrong / max(1, len(others)),
            n_controls=len(others),
            least_recall=0.95,
            most_false=0.001,
            note=f"{n / max(took, 1e-9):,.0f} documents a second of CPU time",
        )
    ]


def contradiction(field: Field) -> list[Family]:
    """A figure that differs from what a better source has stated; controls state it again, rounded."""
    chance, ts = field.chance("contradiction"), start_of(field)
    n = min(30, field.size)
    caught = wrong = 0
    for i in range(n):
        room, key = field.room(), field.instruments[i % len(field.instruments)]
        symbol = (key.partition(":")[2].removesuffix("USDT"),)
        template, true, other = _figures(chance, i)
        room.admit(document(template.format(true), ts, source="meridian", symbols=symbol), ts)
        again = document(
            f"Quarter in brief: {template.format(true)}, the filing shows",
            ts + 1,
            source="post",
            symbols=symbol,
        )
        wrong += _is_contradicted(room, key, again)
        lie = document(
            f"My sources insist: {template.format(other)}",
            ts + 2,
            source="social",
            author=f"x{i}",
            symbols=symbol,
        )
        caught += _is_contradicted(room, key, lie)
    return [
        Family(
            name="contradiction of a stated figure",
            recall=caught / n,
            n_attacks=n,
            false_positives=wrong / n,
            n_controls=n,
            least_recall=0.95,
            most_false=0.05,
        )
    ]


_STATED: tuple[tuple[str, Callable[[int], str]], ...] = (
    ("reports Q3 EPS of ${}", lambda x: f"{x / 100:.2f}"),
    ("Q2 revenue of ${} million", lambda x: f"{x}"),
    ("sees FY revenue of ${} billion", lambda x: f"{x / 10:.1f}"),
    ("to acquire rival for ${} billion", lambda x: f"{x / 10:.1f}"),
    ("declares dividend of {} cents", lambda x: f"{x}"),
    ("net profit of ${} million in the first quarter", lambda x: f"{x}"),
)


def _figures(chance: np.random.Generator, i: int) -> tuple[str, str, str]:
    template, write = _STATED[i % len(_STATED)]
    true = int(chance.integers(100, 900))
    return template, write(true), write(int(true * (1.3 + chance.random())))


def _is_contradicted(room: Narrative, key: str, one: Document) -> bool:
    room.admit(one, one.ts_recv)
    pack = room.gather(key, one.ts_recv)
    return any(
        reason.name == "contradicted"
        for e in pack.evidence
        if e.document_id == one.document_id
        for reason in e.reasons
    )


def liar(field: Field) -> list[Family]:
    """What one source says is denied, what another says confirmed: when is the one's weight a tenth?"""
    chance, room, ts = field.chance("liar"), field.room(), start_of(field)
    key = field.instruments[0]
    symbol = (key.partition(":")[2].removesuffix("USDT"),)
    weight = {"honest": 1.0, "liar": 1.0}
    within = 201
    answers = {
        "honest": "Statement: {} are under way",
        "liar": "The company denies the report of {}",
    }
    for i in range(200):
        for j, source in enumerate(weight):
            at = ts + i * NS_PER_HOUR + j * NS_PER_MIN
            names = " ".join("".join(map(chr, chance.integers(97, 123, 7))) for _ in range(5))
            what = f"acquisition talks over {names}"
            one = document(f"Sources hear of {what}", at, source=source, symbols=symbol)
            room.admit(one, at)
            found = [e for e in room.gather(key, at).evidence if e.document_id == one.document_id]
            weight[source] = found[0].credibility if found else 0.0
            reply = document(
                answers[source].format(what),
                at + NS_PER_S,
                source="company",
                symbols=symbol,
                is_verified=True,
            )
            room.admit(reply, reply.ts_recv)
        if weight["liar"] < 0.1 * weight["honest"]:
            within = i + 1
            break
    return [
        Family(
            name="a liar's weight below a tenth of an honest one's",
            recall=float(within <= 200),
            n_attacks=1,
            false_positives=float(weight["honest"] < 0.6),
            n_controls=1,
            least_recall=1.0,
            most_false=0.0,
            note=f"after {within} documents of each: {weight['liar']:.3f} against {weight['honest']:.3f}",
        )
    ]


def way_back(field: Field) -> list[Family]:
    """A claim held back for a campaign is confirmed by an independent source: is it released?"""
    ts = start_of(field)
    n, released, wrong = min(12, field.size), 0, 0
    key = field.instruments[0]
    asset = key.partition(":")[2].removesuffix("USDT")
    for i in range(n):
        room = field.room()
        story = f"${asset} to acquire Quarrystone Holdings unit {i} in cash takeover"
        for k in range(20):
            at = ts + k * NS_PER_S
            room.admit(
                document(story, at, source="social", author=f"a{i}-{k}", symbols=(asset,)), at
            )
        held = room.gather(key, ts + NS_PER_MIN).n_quarantined > 0
        other = f"Weather delays harvest {i}, ${asset} unmoved"
        room.admit(
            document(other, ts + 2 * NS_PER_MIN, source="desk", symbols=(asset,)),
            ts + 2 * NS_PER_MIN,
        )
        wrong += room.gather(key, ts + 2 * NS_PER_MIN).n_quarantined == 0
        at = ts + 3 * NS_PER_MIN
        said = f"Official: ${asset} agrees to acquire Quarrystone Holdings unit {i}, cash takeover filed"
        room.admit(
            document(said, at, source="exchange filings", symbols=(asset,), is_verified=True), at
        )
        released += held and room.gather(key, at).n_quarantined == 0
    return [
        Family(
            name="way back from quarantine",
            recall=released / n,
            n_attacks=n,
            false_positives=wrong / n,
            n_controls=n,
            least_recall=0.95,
            most_false=0.02,
            note="controls: an unrelated claim releases nothing",
        )
    ]
