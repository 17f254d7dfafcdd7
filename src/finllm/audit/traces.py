"""Traces checked from records alone: no clock, no model, no store.

A statement holds when every number in it equals its evidence up to displayed rounding and every quote
is an exact span of the document; one that does not is struck, with the reason. A trace is refused when
too few of its statements hold, or when something cited did not lie in the pack, or the pack held what
came later than its as-of time. What is struck or refused without a reason, or for another one, is as much
a failure as what ought to be.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from finllm.audit.numbers import Token, numbers_in, same, without_names
from finllm.domain.evidence import Evidence, EvidenceKind, EvidencePack
from finllm.domain.forecast import Forecast
from finllm.domain.free_words import Stated, stated_by, unproven
from finllm.domain.protocol import Action, Figure, Pool, Verdict
from finllm.domain.revise import revised
from finllm.domain.trace import NOT_WRITTEN, UNFAITHFUL, Statement, Trace, named

_FORMULA: Final = re.compile(r"\D.*\d")
"""A unit that holds a digit which is no figure, such as `log(1 + 1/s)`."""
_QUOTED: Final = re.compile(r'"[^"]*"|\u201c[^\u201d]*\u201d')
LEAST_HOLDING: Final = 0.8
"""Share of a trace's statements that have to hold, or it is refused."""
_CONFLICT: Final = "conflict"
_EMITTED: Final[dict[str, Callable[[Forecast], float]]] = {
    "p_down": lambda forecast: forecast.emitted[0],
    "p_flat": lambda forecast: forecast.emitted[1],
    "p_up": lambda forecast: forecast.emitted[2],
    "width_bps": lambda forecast: forecast.emitted_q[3] - forecast.emitted_q[1],
}
"""What a trace calls the emitted values of a forecast."""


def check_trace(
    trace: Trace,
    verdict: Verdict,
    before: Forecast | None,
    pack: EvidencePack,
    texts: Mapping[str, str],
) -> list[str]:
    """Return what does not hold in a trace; empty means that all of it does. Pure.

    Args:
        trace: The why of one revision.
        verdict: The verdict that it explains.
        before: The version that the verdict was about; None where it is not at hand.
        pack: What the reasoner was allowed to cite.
        texts: Canonical text by document id.
    """
    failures = []
    if named(trace) != trace:
        failures.append("its id is not what its content gives")
    if trace.refused.startswith(NOT_WRITTEN):
        return [*failures, *_check_unwritten(trace, verdict)]
    whole, each = _examine(trace, verdict, before, pack, texts)
    for place, (statement, why) in enumerate(zip(trace.statements, each, strict=True), start=1):
        if statement.struck != why:
            fault = f"struck as {statement.struck!r}, where {why or 'all holds'}"
            failures.append(f"statement {place}: {fault if statement.struck else why}")
    refusal = _refusal(whole, each)
    if trace.refused != refusal:
        failures += whole or [f"refused as {trace.refused!r}, where it is {refusal!r}"]
    return failures


def struck(
    trace: Trace,
    verdict: Verdict,
    before: Forecast | None,
    pack: EvidencePack,
    texts: Mapping[str, str],
) -> Trace:
    """Return a trace with each statement struck that does not hold, refused if need be. Pure.

    Args:
        trace: As its writer wrote it.
        verdict: See `check_trace`, as are the others.
        before: The version that the verdict was about.
        pack: What it cites from.
        texts: Canonical text by document id.
    """
    whole, each = _examine(trace, verdict, before, pack, texts)
    statements = tuple(
        msgspec.structs.replace(statement, struck=why)
        for statement, why in zip(trace.statements, each, strict=True)
    )
    refused = _refusal(whole, each)
    return named(msgspec.structs.replace(trace, statements=statements, refused=refused))


def _examine(
    trace: Trace,
    verdict: Verdict,
    before: Forecast | None,
    pack: EvidencePack,
    texts: Mapping[str, str],
) -> tuple[list[str], list[str]]:
    """Return what is wrong with a trace as a whole, and with each of its statements; "" = nothing."""
    found = {item.evidence_id: item for item in pack.evidence}
    names = _names(trace, verdict, before, pack)
    whole = [
        *_check_identity(trace, verdict, before, pack),
        *_check_citations(verdict, found),
        *_check_hypotheses(verdict, found),
        *_check_pool(verdict),
        *_check_evidence(_used(trace, verdict, found), pack, texts),
        *_check_complete(trace, verdict),
        *_check_headline(trace, pack, before),
    ]
    cited = [found[one.evidence_id] for one in verdict.citations if one.evidence_id in found]
    each = []
    for statement in trace.statements:
        if statement.field == _CONFLICT:
            why = _check_conflict(statement, verdict, cited)
        else:
            item = found.get(statement.evidence_id)
            why = _check_statement(statement, item, _sources(item, verdict, before, trace), names)
        each.append("; ".join(why))
    return whole, each


def _refusal(whole: list[str], each: list[str]) -> str:
    """Return why a trace is refused; empty if it stands."""
    if whole:
        return "; ".join(whole)
    n_struck = sum(map(bool, each))
    if n_struck > (1.0 - LEAST_HOLDING) * len(each):
        return f"{n_struck} of {len(each)} statements do not hold"
    return ""


def _check_unwritten(trace: Trace, verdict: Verdict) -> Iterator[str]:
    if trace.statements or trace.headline:
        yield "not written, yet it says something"
    yield from _check_links(trace, verdict)


def _check_identity(
    trace: Trace, verdict: Verdict, before: Forecast | None, pack: EvidencePack
) -> Iterator[str]:
    """Yield where trace, verdict, forecast and pack are not about the same thing."""
    yield from _check_links(trace, verdict)
    if pack.as_of > trace.ts:
        yield f"the pack is as of {pack.as_of}, after the trace at {trace.ts}"
    if before is None:
        return
    if before.forecast_id != verdict.forecast_id:
        yield f"the verdict is about {verdict.forecast_id}, not {before.forecast_id}"
    if before.instrument != pack.instrument:
        yield f"the pack is about {pack.instrument}, the forecast about {before.instrument}"


def _check_links(trace: Trace, verdict: Verdict) -> Iterator[str]:
    if trace.verdict_id != verdict.verdict_id:
        yield f"explains verdict {trace.verdict_id}, not {verdict.verdict_id}"
    if trace.forecast_id != verdict.forecast_id:
        yield f"is about forecast {trace.forecast_id}, the verdict about {verdict.forecast_id}"
    if trace.version != verdict.base_version + 1:
        yield f"version {trace.version} does not follow version {verdict.base_version}"


def _check_complete(trace: Trace, verdict: Verdict) -> Iterator[str]:
    """Yield a share that is not stated, shares out of order, and a low fidelity that is not told."""
    shares = [s.evidence_id for s in trace.statements if s.field == "share.shift"]
    sizes = {c.evidence_id: -abs(c.shift) - abs(c.log_scale) for c in verdict.citations}
    for name in sorted(sizes.keys() - set(shares)):
        yield f"the share of {name} is not stated"
    known = [name for name in shares if name in sizes]
    if known != sorted(known, key=lambda name: (sizes[name], name)):
        yield "the shares are not stated largest first"
    is_told = any(statement.text == UNFAITHFUL for statement in trace.statements)
    if is_told != trace.fidelity.is_low:
        yield f"says {'' if is_told else 'not '}that it is not faithful enough"


def _check_citations(verdict: Verdict, found: Mapping[str, Evidence]) -> Iterator[str]:
    for citation in verdict.citations:
        if citation.evidence_id not in found:
            yield f"the verdict cites {citation.evidence_id}, which is not in the pack"


def _check_hypotheses(verdict: Verdict, found: Mapping[str, Evidence]) -> Iterator[str]:
    """Yield figures that are not what their terms add up to, and probabilities that are none."""
    total = sum(one.probability for one in verdict.hypotheses)
    if verdict.hypotheses and not same(total, 1.0):
        yield f"the hypotheses' probabilities add up to {total:g}"
    for one in verdict.hypotheses:
        if not 0.0 <= one.probability <= 1.0:
            yield f"the probability of {one.name!r} is {one.probability:g}"
        for figure in one.figures:
            yield from _check_figure(one.name, figure, found)
    driver = verdict.driver
    for name in () if driver is None else driver.evidence_ids:
        if name not in found:
            yield f"the driver is said to be {name}, which is not in the pack"


def _check_figure(test: str, figure: Figure, found: Mapping[str, Evidence]) -> Iterator[str]:
    total = 0.0
    for term in figure.terms:
        item = found.get(term.evidence_id)
        value = None if item is None else _field({"": item}, term.field)
        if value is None:
            yield f"{figure.name!r} of {test!r} rests on {term.evidence_id}, which does not say that"
            return
        total += term.weight * value
    if not same(figure.value, total):
        yield f"{figure.name!r} of {test!r} is {figure.value:g}, its terms add up to {total:g}"


def _check_pool(verdict: Verdict) -> Iterator[str]:
    """Yield where a verdict is not the weighted mean of its members, or their disagreement is another."""
    pool = verdict.pool
    if not isinstance(pool, Pool):
        return
    weights = [member.weight for member in pool.members]
    scales = [verdict.vol_scale, *(member.vol_scale for member in pool.members)]
    if min(weights, default=0.0) < 0.0 or not same(sum(weights), 1.0):
        yield f"the weights of the pool are {', '.join(format(w, 'g') for w in weights)}"
        return
    if not all(scale > 0.0 and math.isfinite(scale) for scale in scales):
        yield "a volatility scale of the pool is not usable"
        return
    pooled, *logs = map(math.log, scales)
    shifts = [member.shift for member in pool.members]
    for name, values, is_, deviation in (
        ("shift", shifts, verdict.shift, pool.shift_sd),
        ("ln k", logs, pooled, pool.log_scale_sd),
    ):
        mean = sum(w * x for w, x in zip(weights, values, strict=True))
        apart = math.sqrt(sum(w * (x - mean) ** 2 for w, x in zip(weights, values, strict=True)))
        if verdict.action is not Action.RETRACT and not same(is_, mean):
            yield f"the {name} is {is_:g}, the members' weighted mean {mean:g}"
        if not same(deviation, apart):
            yield f"the disagreement about {name} is {deviation:g}, recomputed {apart:g}"


def _used(trace: Trace, verdict: Verdict, found: Mapping[str, Evidence]) -> list[Evidence]:
    """Return the evidence that the trace or the verdict points to, each once."""
    ids = [statement.evidence_id for statement in trace.statements]
    ids += [t.evidence_id for h in verdict.hypotheses for f in h.figures for t in f.terms]
    ids += [citation.evidence_id for citation in verdict.citations]
    return [found[name] for name in dict.fromkeys(ids) if name in found]


def _check_evidence(
    used: Iterable[Evidence], pack: EvidencePack, texts: Mapping[str, str]
) -> Iterator[str]:
    """Yield evidence from after the as-of time, and quotes that are not their span."""
    for item in used:
        if item.ts_recv > pack.as_of:
            yield f"{item.evidence_id} was received at {item.ts_recv}, after {pack.as_of}"
        if not item.document_id or (item.kind is not EvidenceKind.CLAIM and not item.quote):
            continue
        text = texts.get(item.document_id)
        start, end = item.span
        if text is None:
            yield f"document {item.document_id} behind {item.evidence_id} is not at hand"
        elif not 0 <= start <= end <= len(text) or text[start:end] != item.quote:
            yield f"the quote of {item.evidence_id} is not at {start} to {end} of its document"


def _check_headline(trace: Trace, pack: EvidencePack, before: Forecast | None) -> Iterator[str]:
    names = [pack.instrument] if before is None else [before.instrument, before.horizon]
    yield from (f"headline: {fault}" for fault in unproven(trace.headline, names=names))


def _check_conflict(
    statement: Statement, verdict: Verdict, cited: Sequence[Evidence]
) -> Iterator[str]:
    """Yield what a verdict's own words show that nothing bears out which the verdict goes by."""
    if statement.text.rstrip(".") != f"Conflict: {verdict.conflict}".rstrip("."):
        yield "is not what the verdict says of the conflict"
    stated = [one for evidence in cited for one in stated_by(evidence)]
    stated += [Stated(name=one.name, value=one.probability) for one in verdict.hypotheses]
    quotes, names = [one.quote for one in cited], [one.feature for one in cited]
    yield from (f"its words: {fault}" for fault in unproven(statement.text, stated, quotes, names))


def _check_statement(
    statement: Statement, item: Evidence | None, sources: Mapping[str, object], names: list[str]
) -> Iterator[str]:
    if statement.evidence_id and item is None:
        yield f"cites {statement.evidence_id}, which is not in the pack"
        return
    text = statement.text
    if statement.quote:
        yield from _check_quote(statement, item)
        text = text.replace(statement.quote, " ")
    for passage in _QUOTED.findall(text):
        if passage[1:-1].strip():
            yield f"quotes {passage}, which is not its listed quote"
    tokens = numbers_in(without_names(text, names))
    yield from _check_number(statement, tokens, sources)


def _check_quote(statement: Statement, item: Evidence | None) -> Iterator[str]:
    if item is None:
        yield "has a quote without evidence"
    elif statement.quote not in item.quote:
        yield f"its quote is not a span of the quote of {item.evidence_id}"
    if statement.quote not in statement.text:
        yield "its quote does not stand in its text"


def _check_number(
    statement: Statement, tokens: list[Token], sources: Mapping[str, object]
) -> Iterator[str]:
    """Yield where the listed number is not its field, or the text shows any other number."""
    if statement.number is None:
        for token in tokens:
            yield f"{token.value:g} in the text is not listed as its number"
        return
    stated = [token for token in tokens if token.states(statement.number)]
    value = _field(sources, statement.field)
    if value is None:
        yield f"{statement.field!r} is no field of its evidence, verdict or forecast"
    elif not any(token.shows(value) for token in stated):
        yield f"{statement.number:g} is not {statement.field} = {value:g} as displayed"
    if len(tokens) > len(stated):
        others = ", ".join(f"{token.value:g}" for token in tokens if token not in stated)
        yield f"{others} in the text is not listed as its number"


def _sources(
    item: Evidence | None, verdict: Verdict, before: Forecast | None, trace: Trace
) -> dict[str, object]:
    """Return the records that a statement's number may be a field of, by the name before the dot.

    The empty name is the statement's own subject: its evidence, else the verdict.
    """
    if item is not None:
        cited = [c for c in verdict.citations if c.evidence_id == item.evidence_id]
        return {"": item, "share": cited[0] if len(cited) == 1 else None}
    sources: dict[str, object] = {"": verdict, "fidelity": trace.fidelity}
    if before is not None:
        sources |= {"before": before, "after": _after(verdict, before, trace.ts)}
    return sources


def _after(verdict: Verdict, before: Forecast, now: int) -> Forecast | None:
    """Return the version that a verdict makes; None where its numbers are not usable."""
    if not (verdict.vol_scale > 0.0 and math.isfinite(verdict.vol_scale + verdict.shift)):
        return None
    return revised(before, verdict, now)


def _field(sources: Mapping[str, object], path: str) -> float | None:
    """Return the number that a field such as `stance`, `cost.tokens` or `after.p_up` names."""
    first, _, rest = path.partition(".")
    subject, names = (sources[first], rest) if first in sources else (sources[""], path)
    value: object = subject
    for name in names.split("."):
        if isinstance(value, Forecast) and name in _EMITTED:
            value = _EMITTED[name](value)
        else:
            value = _part(value, name)
    return float(value) if isinstance(value, int | float) else None


def _part(value: object, name: str) -> object:
    """Return a record's field, or of several records the one of that name; None if there is none."""
    if isinstance(value, tuple):
        return next((one for one in value if getattr(one, "name", None) == name), None)
    fields = value.__struct_fields__ if isinstance(value, msgspec.Struct) else ()
    return getattr(value, name) if name in fields else None


def _names(
    trace: Trace, verdict: Verdict, before: Forecast | None, pack: EvidencePack
) -> list[str]:
    """Return the names that may hold digits and are no figures, longest first."""
    names = {trace.trace_id, trace.forecast_id, trace.verdict_id, verdict.reasoner}
    names |= {pack.pack_id, pack.instrument, pack.instrument.partition(":")[2]}
    for item in pack.evidence:
        names |= {item.evidence_id, item.document_id, item.feature, item.origin}
        names |= {item.event_type, item.encoder, item.instrument}
        names |= {item.unit} if _FORMULA.search(item.unit) else set()
    if before is not None:
        names |= {before.horizon, before.regime, before.model_version}
    if isinstance(verdict.pool, Pool):
        names |= {member.name for member in verdict.pool.members}
    return sorted((name for name in names if name), key=lambda name: (-len(name), name))
