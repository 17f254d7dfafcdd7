"""One place of a trace, or of what it rests on, changed by a liar who takes care that the id fits."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np

from finllm.app.explaining import Explainer
from finllm.app.records import Explained
from finllm.domain.evidence import Reason
from finllm.domain.protocol import Voiding, named_verdict
from finllm.domain.trace import UNFAITHFUL, Fidelity, Statement, named
from finllm.reasoning.embedded import EMBEDDED

Tamper = Callable[[Explained, np.random.Generator], Explained | None]
"""Returns the changed records; None where there is no such place."""
S: Final = 1_000_000_000
replace = msgspec.structs.replace


def pick(rng: np.random.Generator, among: list[Any]) -> Any:
    return among[int(rng.integers(len(among)))] if among else None


def with_trace(told: Explained, **changes: Any) -> Explained:
    """Return the records with a changed trace under the id of its new content."""
    return replace(told, trace=named(replace(told.trace, **changes)))


def with_verdict(told: Explained, **changes: Any) -> Explained:
    """Return the records with a changed verdict under the id of its new content, and all that name it."""
    verdict = named_verdict(replace(told.verdict, **changes))
    revision = replace(told.revision, verdict_id=verdict.verdict_id)
    changed = replace(told, verdict=verdict, revision=revision)
    return with_trace(changed, verdict_id=verdict.verdict_id)


def with_statement(told: Explained, place: int, **changes: Any) -> Explained:
    statements = list(told.trace.statements)
    statements[place] = replace(statements[place], **changes)
    return with_trace(told, statements=tuple(statements))


def places(told: Explained, wanted: Callable[[Statement], bool]) -> list[int]:
    return [i for i, statement in enumerate(told.trace.statements) if wanted(statement)]


def shown(statement: Statement) -> str:
    """Return the number of a statement as its text shows it; empty if it cannot be told."""
    words = statement.text.rstrip(".").replace("%", " ").split()
    found = [w for w in words if w.lstrip("+-").replace(".", "", 1).isdigit()]
    return next((w for w in found if float(w) == statement.number), "")


def number(told: Explained, rng: np.random.Generator) -> Explained | None:
    place = pick(rng, places(told, lambda s: s.number is not None))
    by = float(rng.choice([-1.0, 1.0])) * float(rng.uniform(0.02, 2.0))
    return with_statement(told, place, number=told.trace.statements[place].number + by)


def number_and_text(told: Explained, rng: np.random.Generator) -> Explained | None:
    place = pick(rng, places(told, lambda s: s.number is not None and bool(shown(s))))
    said = told.trace.statements[place]
    lie = f"{said.number * float(rng.uniform(1.2, 3.0)) + 0.1:+.4f}"
    text = said.text.replace(shown(said), lie, 1)
    return with_statement(told, place, number=float(lie), text=text)


def digit(told: Explained, rng: np.random.Generator) -> Explained | None:
    place = pick(rng, places(told, lambda s: s.number is not None and bool(shown(s))))
    said = told.trace.statements[place]
    start = said.text.rindex(shown(said))
    spots = [i for i in range(start, start + len(shown(said))) if said.text[i].isdigit()]
    i = pick(rng, spots)
    other = pick(rng, [d for d in "0123456789" if d != said.text[i]])
    return with_statement(told, place, text=said.text[:i] + other + said.text[i + 1 :])


def sign(told: Explained, rng: np.random.Generator) -> Explained | None:
    place = pick(rng, places(told, lambda s: bool(s.number) and bool(shown(s))))
    said = told.trace.statements[place]
    was = shown(said)
    turned = was.replace("-", "+") if "-" in was else "-" + was.lstrip("+")
    text = said.text.replace(was, turned, 1)
    return with_statement(told, place, number=-said.number, text=text)


def unit(told: Explained, rng: np.random.Generator) -> Explained | None:
    place = pick(rng, places(told, lambda s: bool(s.number) and bool(shown(s))))
    said = told.trace.statements[place]
    was, ending = shown(said), pick(rng, [" %", " s", " ms", " bps", " points"])
    told_text = said.text.replace(" bps", "") if ending != " bps" else said.text
    return with_statement(told, place, text=told_text.replace(was, was + ending, 1))


def words(told: Explained, rng: np.random.Generator) -> Explained | None:
    pairs = (("up", "down"), ("before", "after"), ("Stance", "Novelty"), ("supported", "rejected"),
             ("rejected", "supported"), ("Credibility", "Relevance"), ("log-odds", "odds"))  # fmt: skip
    found = [
        (i, was, then)
        for i, s in enumerate(told.trace.statements)
        for was, then in pairs
        if was in s.text and not s.quote
    ]
    chosen = pick(rng, found)
    if chosen is None:
        return None
    place, was, then = chosen
    text = told.trace.statements[place].text.replace(was, then, 1)
    return with_statement(told, place, text=text)


def quote(told: Explained, rng: np.random.Generator) -> Explained | None:
    place = pick(rng, places(told, lambda s: len(s.quote) > 3))
    if place is None:
        return None
    said = told.trace.statements[place]
    at = int(rng.integers(len(said.quote)))
    lie = said.quote[:at] + ("x" if said.quote[at] != "x" else "y") + said.quote[at + 1 :]
    return with_statement(told, place, quote=lie, text=said.text.replace(said.quote, lie))


def quote_in_text(told: Explained, rng: np.random.Generator) -> Explained | None:
    place = pick(rng, places(told, lambda s: len(s.quote) > 3))
    if place is None:
        return None
    said = told.trace.statements[place]
    lie = said.quote[: int(rng.integers(1, len(said.quote)))]
    kept = {"text": said.text.replace(said.quote, lie)}
    return with_statement(told, place, **kept if rng.random() < 0.5 else {"quote": lie})


def evidence(told: Explained, rng: np.random.Generator) -> Explained | None:
    place = pick(rng, places(told, lambda s: bool(s.evidence_id)))
    if place is None:
        return None
    was = told.trace.statements[place].evidence_id
    others = [e.evidence_id for e in told.pack.evidence if e.evidence_id != was]
    return with_statement(told, place, evidence_id=pick(rng, [*others, "0" * 32, ""]))


def field(told: Explained, rng: np.random.Generator) -> Explained | None:
    place = pick(rng, places(told, lambda s: bool(s.field)))
    was = told.trace.statements[place].field
    names = [
        "stance",
        "novelty",
        "relevance",
        "shift",
        "vol_scale",
        "before.p_up",
        "after.p_up",
        "",
    ]
    return with_statement(told, place, field=pick(rng, [name for name in names if name != was]))


def order(told: Explained, rng: np.random.Generator) -> Explained | None:
    said = list(told.trace.statements)
    one, other = rng.choice(len(said), 2, replace=False).tolist()
    if said[one] == said[other]:
        return None
    said[one], said[other] = said[other], said[one]
    return with_trace(told, statements=tuple(said))


def left_out(told: Explained, rng: np.random.Generator) -> Explained | None:
    said = list(told.trace.statements)
    del said[int(rng.integers(len(said)))]
    return with_trace(told, statements=tuple(said))


def doubled(told: Explained, rng: np.random.Generator) -> Explained | None:
    said = list(told.trace.statements)
    at = int(rng.integers(len(said)))
    return with_trace(told, statements=(*said[:at], said[at], *said[at:]))


def mark(told: Explained, rng: np.random.Generator) -> Explained | None:
    if rng.random() < 0.3:
        return with_trace(told, refused="it does not suit")
    place = int(rng.integers(len(told.trace.statements)))
    return with_statement(told, place, struck="it does not suit")


def fidelity(told: Explained, rng: np.random.Generator) -> Explained | None:
    """Change a figure, and what is said of it, so that both agree."""
    said = told.trace.fidelity
    if said.agreement is None:
        figures = Fidelity(agreement=0.99, r2=0.99, n_ablations=3, n_subsets=24)
        return _with_fidelity(told, figures)
    better = replace(said, agreement=min(1.0, said.agreement + float(rng.uniform(0.001, 0.3))))
    if better == said:
        return None
    return with_trace(told, fidelity=better)


def _with_fidelity(told: Explained, figures: Fidelity) -> Explained | None:
    """Return the records with a fidelity that is stated as a writer would state it."""
    after = told.revision.forecast
    if after is None:
        return None
    forged = Explainer().write(told.verdict, told.before, after, told.pack, told.texts, figures)
    return replace(told, trace=forged)


def warning(told: Explained, rng: np.random.Generator) -> Explained | None:
    kept = tuple(s for s in told.trace.statements if s.text != UNFAITHFUL)
    if len(kept) == len(told.trace.statements):
        kept = (Statement(text=UNFAITHFUL), *kept)
    return with_trace(told, statements=kept)


def headline(told: Explained, rng: np.random.Generator) -> Explained | None:
    said = told.trace.headline
    turned = said.replace("refined", "confirmed") if "refined" in said else said + ", for sure"
    return with_trace(told, headline=turned)


def trace_id(told: Explained, rng: np.random.Generator) -> Explained | None:
    return replace(told, trace=replace(told.trace, trace_id="f" * 32))


def link(told: Explained, rng: np.random.Generator) -> Explained | None:
    changes = pick(rng, [{"verdict_id": "f" * 32}, {"forecast_id": "f" * 32},
                         {"version": told.trace.version + 1}])  # fmt: skip
    return with_trace(told, **changes)


def time(told: Explained, rng: np.random.Generator) -> Explained | None:
    by = int(rng.choice([-1, 1])) * int(rng.integers(1, 10 * S))
    return with_trace(told, ts=told.trace.ts + by)


def _cited(told: Explained) -> list[int]:
    """Return which pieces of the pack have a share that is shown as more than nothing."""
    ids = {c.evidence_id for c in told.verdict.citations if abs(c.shift) + abs(c.log_scale) > 1e-4}
    return [i for i, e in enumerate(told.pack.evidence) if e.evidence_id in ids]


def _with_evidence(told: Explained, place: int, **changes: Any) -> Explained:
    held = list(told.pack.evidence)
    held[place] = replace(held[place], **changes)
    return replace(told, pack=replace(told.pack, evidence=tuple(held)))


def evidence_time(told: Explained, rng: np.random.Generator) -> Explained | None:
    place = pick(rng, _cited(told))
    if place is None:
        return None
    return _with_evidence(told, place, ts_recv=told.pack.as_of + int(rng.integers(1, 10 * S)))


def evidence_value(told: Explained, rng: np.random.Generator) -> Explained | None:
    place = pick(rng, _cited(told))
    if place is None:
        return None
    name = pick(rng, ["stance", "novelty", "credibility", "relevance"])
    was = getattr(told.pack.evidence[place], name)
    return _with_evidence(told, place, **{name: was + (0.1 if was < 0.5 else -0.1)})


def span(told: Explained, rng: np.random.Generator) -> Explained | None:
    place = pick(rng, [i for i in _cited(told) if told.pack.evidence[i].quote])
    if place is None:
        return None
    start, end = told.pack.evidence[place].span
    return _with_evidence(told, place, span=(start + 1, end + 1))


def evidence_unused(told: Explained, rng: np.random.Generator) -> Explained | None:
    """Change what no statement shows of a cited piece."""
    place = pick(rng, _cited(told))
    if place is None:
        return None
    one = told.pack.evidence[place]
    changes = (
        {"reasons": (*one.reasons, Reason(name="record", log_odds=0.5))},
        {"hawkishness": one.hawkishness + 0.1},
        {"n_copies": one.n_copies + 1},
        {"ts_recv": one.ts_recv - S},
    )
    return _with_evidence(told, place, **pick(rng, list(changes)))


def pack_counts(told: Explained, rng: np.random.Generator) -> Explained | None:
    pack = told.pack
    name = pick(rng, ["n_documents", "n_copies", "n_quarantined", "since"])
    return replace(told, pack=replace(pack, **{name: getattr(pack, name) + 1}))


def evidence_gone(told: Explained, rng: np.random.Generator) -> Explained | None:
    place = pick(rng, _cited(told))
    if place is None:
        return None
    held = told.pack.evidence
    return replace(told, pack=replace(told.pack, evidence=held[:place] + held[place + 1 :]))


def document(told: Explained, rng: np.random.Generator) -> Explained | None:
    place = pick(rng, [i for i in _cited(told) if told.pack.evidence[i].quote])
    if place is None:
        return None
    item = told.pack.evidence[place]
    text = told.texts[item.document_id]
    at = int(rng.integers(*item.span))
    changed = text[:at] + ("x" if text[at] != "x" else "y") + text[at + 1 :]
    return replace(told, texts={**told.texts, item.document_id: changed})


def citation(told: Explained, rng: np.random.Generator) -> Explained | None:
    cited = list(told.verdict.citations)
    if not cited:
        return None
    at = int(rng.integers(len(cited)))
    others = [e.evidence_id for e in told.pack.evidence if e.evidence_id != cited[at].evidence_id]
    one = cited[at]
    lies = (
        {"evidence_id": "f" * 32},
        {"evidence_id": pick(rng, others) or "f" * 32},
        {"shift": one.shift + 0.01},
        {"log_scale": one.log_scale + 0.01},
    )
    cited[at] = replace(one, **pick(rng, list(lies)))
    return replace(told, verdict=replace(told.verdict, citations=tuple(cited)))


def verdict_figure(told: Explained, rng: np.random.Generator) -> Explained | None:
    verdict = told.verdict
    changes = pick(rng, [{"shift": verdict.shift + 0.01}, {"vol_scale": verdict.vol_scale * 1.01}])
    return replace(told, verdict=replace(verdict, **changes))


def hypothesis(told: Explained, rng: np.random.Generator) -> Explained | None:
    tested = list(told.verdict.hypotheses)
    if not tested:
        return None
    at = int(rng.integers(len(tested)))
    tested[at] = replace(tested[at], probability=tested[at].probability + 0.01)
    return replace(told, verdict=replace(told.verdict, hypotheses=tuple(tested)))


def hypotheses_slightly(told: Explained, rng: np.random.Generator) -> Explained | None:
    """Move less from one hypothesis to another than is displayed."""
    tested = list(told.verdict.hypotheses)
    if len(tested) < 2:
        return None
    one, other = rng.choice(len(tested), 2, replace=False).tolist()
    for at, by in ((one, 0.0004), (other, -0.0004)):
        tested[at] = replace(tested[at], probability=tested[at].probability + by)
    return _with_or_without_its_id(told, rng, hypotheses=tuple(tested))


def verdict_unstated(told: Explained, rng: np.random.Generator) -> Explained | None:
    """Change what no statement shows of a verdict."""
    verdict = told.verdict
    others = tuple(v for v in Voiding if v not in verdict.voided_by)
    return _with_or_without_its_id(
        told, rng, voided_by=pick(rng, [others, verdict.voided_by[1:] or others])
    )


def verdict_question(told: Explained, rng: np.random.Generator) -> Explained | None:
    return _with_or_without_its_id(told, rng, question_id="f" * 32)


def _with_or_without_its_id(told: Explained, rng: np.random.Generator, **changes: Any) -> Explained:
    """Return the records with a changed verdict.

    An embedded reasoner judges again, so that its verdict's id may be made to fit.
    """
    if told.verdict.reasoner.startswith(EMBEDDED) and rng.random() < 0.5:
        return with_verdict(told, **changes)
    return replace(told, verdict=replace(told.verdict, **changes))


def probability(told: Explained, rng: np.random.Generator) -> Explained | None:
    after = told.revision.forecast
    if after is None:
        return None
    down, flat, up = after.emitted
    wrong = replace(after, emitted=(down - 0.01, flat, up + 0.01))
    return replace(told, revision=replace(told.revision, forecast=wrong))


def revision_time(told: Explained, rng: np.random.Generator) -> Explained | None:
    by = int(rng.choice([-1, 1])) * int(rng.integers(1, 10 * S))
    return replace(told, revision=replace(told.revision, ts=told.revision.ts + by))


def revision_link(told: Explained, rng: np.random.Generator) -> Explained | None:
    was = told.revision
    changes = pick(rng, [{"verdict_id": "f" * 32}, {"forecast_id": "f" * 32},
                         {"version": was.version + 1}, {"base_version": was.base_version + 1}])  # fmt: skip
    return replace(told, revision=replace(was, **changes))


def version_before(told: Explained, rng: np.random.Generator) -> Explained | None:
    down, flat, up = told.before.emitted
    wrong = replace(told.before, emitted=(down + 0.01, flat, up - 0.01))
    return replace(told, before=wrong)


OF_THE_TRACE: Final[tuple[Tamper, ...]] = (
    number, number_and_text, digit, sign, unit, words, quote, quote_in_text, evidence, field, order,
    left_out, doubled, mark, fidelity, warning, headline, trace_id, link, time,
)  # fmt: skip
OF_WHAT_IT_RESTS_ON: Final[tuple[Tamper, ...]] = (
    evidence_time, evidence_value, evidence_unused, pack_counts, span, evidence_gone, document, citation,
    verdict_figure, verdict_unstated, verdict_question, hypothesis, hypotheses_slightly, probability,
    revision_time, revision_link, version_before,
)  # fmt: skip
KINDS: Final = (*OF_THE_TRACE, *OF_WHAT_IT_RESTS_ON)
