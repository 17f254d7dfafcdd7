"""The trace of a verdict, written from exactly what the verdict cites, largest share first.

Every number stands in a statement of its own with the field that it is, rounded as it is shown;
every quote is the evidence's exact span. Fields: one of `Evidence`; `share.shift` and
`share.log_scale` of the citation of that evidence; without an evidence id one of `Verdict`, or
`before.` / `after.` and one of `p_down`, `p_flat`, `p_up`, `width_bps` of the emitted values; within
the verdict a dot leads on, by name where there are several: `hypotheses.priced in.probability`. The
fidelity's are `fidelity.agreement` and `fidelity.r2`; `conflict` marks the verdict's own words.
"""

from collections.abc import Iterator
from typing import Final

from finllm.domain.evidence import Evidence, EvidenceKind, EvidencePack
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Action, Citation, Pool, Verdict
from finllm.domain.trace import UNFAITHFUL, Fidelity, Statement, Trace, named

_SAID: Final = {
    Action.CONFIRM: "confirmed: the evidence asks for nothing that it does not carry already",
    Action.REFINE: "refined",
    Action.RETRACT: "retracted: climatology stands in its place",
}


def explain(
    verdict: Verdict,
    before: Forecast,
    after: Forecast,
    pack: EvidencePack,
    fidelity: Fidelity = Fidelity(),  # noqa: B008 - frozen, so that all may share it
) -> Trace:
    """Return why a forecast went from one version to the next.

    Args:
        verdict: The verdict that was applied.
        before: The version that it was about.
        after: The version that it made.
        pack: What it cites from. A citation that is not in it is not described.
        fidelity: Whether the verdict's terms are why it is what it is.

    Returns:
        The conflict and the fidelity, the verdict's own figures and their effect, what may be behind them
        and which source they hang on, then the cited evidence, largest share first.
    """
    found = {evidence.evidence_id: evidence for evidence in pack.evidence}
    statements = [
        *_conflict(verdict),
        *_faithful(fidelity),
        *_figures(verdict, before, after),
        *_asked(verdict),
        *_pooled(verdict),
        *_tested(verdict),
    ]
    for citation in sorted(verdict.citations, key=_size):
        evidence = found.get(citation.evidence_id)
        if evidence is not None:
            statements.extend(_cited(evidence, citation))
    return named(
        Trace(
            trace_id="",
            forecast_id=after.forecast_id,
            verdict_id=verdict.verdict_id,
            version=after.version,
            ts=after.ts_emit,
            headline=f"{after.instrument} {after.horizon} {_SAID[verdict.action]}",
            statements=tuple(statements),
            fidelity=fidelity,
        )
    )


def _size(citation: Citation) -> tuple[float, str]:
    return -abs(citation.shift) - abs(citation.log_scale), citation.evidence_id


def _conflict(verdict: Verdict) -> Iterator[Statement]:
    """Yield how the signals disagree, in the reasoner's words."""
    if verdict.conflict:
        yield Statement(text=f"Conflict: {verdict.conflict}.", field="conflict")


def _faithful(fidelity: Fidelity) -> Iterator[Statement]:
    """Yield how far what is stated below is why the verdict is what it is."""
    if fidelity.is_low:
        yield Statement(text=UNFAITHFUL)
    if fidelity.agreement is not None:
        yield _number("Ablation agreement: {}.", fidelity.agreement, "fidelity.agreement", ".2f")
    if fidelity.r2 is not None:
        yield _number("Surrogate R\u00b2: {}.", fidelity.r2, "fidelity.r2", ".2f")
    if fidelity.unmeasured:
        yield Statement(text=f"Fidelity not measured in full: {fidelity.unmeasured}.")


def _figures(verdict: Verdict, before: Forecast, after: Forecast) -> Iterator[Statement]:
    """Yield the verdict's own numbers, and what they made of the forecast."""
    yield _number("Shift of the log-odds of up against down: {}.", verdict.shift, "shift", "+.4f")
    yield _number("Volatility scale: {}.", verdict.vol_scale, "vol_scale", ".4f")
    for when, forecast in (("before", before), ("after", after)):
        for name, p in zip(("down", "flat", "up"), forecast.emitted, strict=True):
            yield _number(f"P({name}) {when}: {{}}.", p, f"{when}.p_{name}", ".4f")
        width = forecast.emitted_q[3] - forecast.emitted_q[1]
        yield _number(f"Interquartile range {when}: {{}} bps.", width, f"{when}.width_bps", ".2f")


def _asked(verdict: Verdict) -> Iterator[Statement]:
    """Yield what only a verdict has for which a language model was asked."""
    if verdict.fallback:
        why = verdict.fallback.replace("_", " ")
        said = f"{verdict.reasoner} answers in place of the language model: {why}."
        yield Statement(text=said)
    if verdict.cost.tokens:
        cost = verdict.cost
        yield _number("Tokens: {}.", cost.tokens, "cost.tokens", "d")
        yield _number("US dollars: {}.", cost.usd, "cost.usd", ".6g")
        yield _number("Joules, by model: {}.", cost.energy_j, "cost.energy_j", ".4g")


def _pooled(verdict: Verdict) -> Iterator[Statement]:
    """Yield what each member of an ensemble says with its weight, then how far apart they are."""
    pool = verdict.pool
    if not isinstance(pool, Pool):
        return
    for one in pool.members:
        said, path = f"Reasoner {one.name}", f"pool.members.{one.name}"
        if one.outcome != "answer":
            yield Statement(text=f"{said} has no say: {one.outcome.replace('_', ' ')}.")
            continue
        yield _number(f"{said}, weight: {{}}.", one.weight, f"{path}.weight", ".3f")
        yield _number(f"{said}, shift: {{}}.", one.shift, f"{path}.shift", "+.4f")
        yield _number(f"{said}, scale: {{}}.", one.vol_scale, f"{path}.vol_scale", ".4f")
    yield _number("They disagree about the shift by {}.", pool.shift_sd, "pool.shift_sd", ".4f")
    about = "They disagree about ln k by {}."
    yield _number(about, pool.log_scale_sd, "pool.log_scale_sd", ".4f")


def _tested(verdict: Verdict) -> Iterator[Statement]:
    """Yield each hypothesis with the figures of its test, then the source that most hangs on."""
    for one in verdict.hypotheses:
        said, path = f"Hypothesis: {one.name}", f"hypotheses.{one.name}"
        text = f"{said}, {one.finding}: probability {{}}."
        yield _number(text, one.probability, f"{path}.probability", ".3f")
        for figure in one.figures:
            where = f"{path}.figures.{figure.name}.value"
            yield _number(f"{said}, {figure.name}: {{}}.", figure.value, where, "+.3f")
    driver = verdict.driver
    if driver is None:
        return
    ref = driver.evidence_ids[0]
    yield Statement(text=f"Most hangs on {driver.source}.", evidence_id=ref)
    yield _number("The driver adds to the shift: {}.", driver.shift, "driver.shift", "+.4f")
    yield _number("The driver adds to ln k: {}.", driver.log_scale, "driver.log_scale", "+.4f")
    yield _number("The driver moves of the hypotheses: {}.", driver.moved, "driver.moved", ".3f")


def _cited(evidence: Evidence, citation: Citation) -> Iterator[Statement]:
    """Yield one citation's shares, then what the evidence is."""
    ref = evidence.evidence_id
    yield _number("Share of the shift: {}.", citation.shift, "share.shift", "+.4f", ref)
    yield _number("Share of ln k: {}.", citation.log_scale, "share.log_scale", "+.4f", ref)
    if evidence.kind is EvidenceKind.OBSERVATION:
        unit = "" if evidence.unit == "1" else f" {evidence.unit}"  # 1: a ratio
        about = f"{evidence.feature}: {{}}{unit}."
        yield _number(about, evidence.value, "value", ".6g", ref)
        yield _number("Against its recent past: z {}.", evidence.z_score, "z_score", "+.2f", ref)
        return
    if evidence.quote:
        said = f"{evidence.origin}: \u201c{evidence.quote}\u201d"
        yield Statement(text=said, evidence_id=ref, quote=evidence.quote)
    if evidence.event_type:
        yield Statement(text=f"Read as: {evidence.event_type}.", evidence_id=ref)
    yield _number("Stance {}.", evidence.stance, "stance", "+.2f", ref)
    yield _number("Novelty {}.", evidence.novelty, "novelty", ".2f", ref)
    yield _number("Credibility {}.", evidence.credibility, "credibility", ".2f", ref)
    yield _number("Relevance {}.", evidence.relevance, "relevance", ".2f", ref)


def _number(text: str, value: float, field: str, form: str, evidence_id: str = "") -> Statement:
    """Return a statement of one number, kept as it is shown."""
    shown = format(value, form)
    return Statement(
        text=text.replace("{}", shown, 1),
        evidence_id=evidence_id,
        number=float(shown),
        field=field,
    )
