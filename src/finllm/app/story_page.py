"""A forecast's story as one page of HTML that needs nothing else: no script, no font, no image, no address.

All words of documents, models and records are escaped, and the page's own policy forbids it to load or run
anything, whatever they say.
"""

import html
from collections.abc import Iterable, Iterator
from typing import Final

from finllm.app.records import Story
from finllm.domain.evidence import Evidence
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Revision, Verdict
from finllm.domain.trace import UNFAITHFUL, Fidelity, Statement, Trace
from finllm.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN, NS_PER_MS, NS_PER_S, iso
from finllm.narrative.text.canonical import canonical_text

_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
_AROUND: Final = 240
"""Characters of a document that are shown on either side of a quote."""
_SHARES: Final = {"share.shift": "shift of the log-odds", "share.log_scale": "ln k, width"}
_UNITS: Final = (
    ("d", NS_PER_DAY), ("h", NS_PER_HOUR), ("min", NS_PER_MIN), ("s", NS_PER_S), ("ms", NS_PER_MS),
)  # fmt: skip
_LABELS: Final = ("down", "flat", "up")
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5c6670; --line: #d5dae0; --page: #fff;
  --card: #f6f8fa; --up: #1a7f64; --flat: #9aa4ae; --down: #b5472f; --mark: #ffe9a8; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #9aa4ae; --line: #3a424b;
  --page: #15191e; --card: #1d232a; --up: #4cc2a0; --flat: #5c6670; --down: #ef8468; --mark: #6b5410;
  --warn: #f0b850; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 60rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; } p { margin: .35rem 0; }
.soft { color: var(--soft); font-size: .875rem; } .warn { color: var(--warn); font-weight: 600; }
.good { color: var(--up); font-weight: 600; } .bad { color: var(--down); font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: normal; }
th { color: var(--soft); font-weight: 500; font-size: .875rem; }
@media (min-width: 40rem) { .fix { white-space: nowrap; } }
.chances { display: flex; width: min(12rem, 22vw); height: .9rem; border-radius: 3px; overflow: hidden; }
.chances i:nth-child(1) { background: var(--down); } .chances i:nth-child(2) { background: var(--flat); }
.chances i:nth-child(3) { background: var(--up); }
.term { display: grid; grid-template-columns: 10rem 1fr 5rem; gap: .75rem; align-items: center;
  font-size: .875rem; font-variant-numeric: tabular-nums; }
.term b { text-align: right; font-weight: 500; }
.axis { position: relative; height: .8rem; background: linear-gradient(var(--line), var(--line))
  center / 1px 100% no-repeat; }
.axis i { position: absolute; top: 0; bottom: 0; border-radius: 2px; }
.plus { left: 50%; background: var(--up); } .minus { right: 50%; background: var(--down); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  padding: .75rem 1rem; margin: .75rem 0; } .card h3 { margin: 0 0 .35rem; }
blockquote { margin: .5rem 0; padding-left: .75rem; border-left: 3px solid var(--line);
  white-space: pre-wrap; } mark { background: var(--mark); color: inherit; padding: 0 .1em; }
ul { margin: .35rem 0; padding-left: 1.2rem; } .wide { columns: 20rem; }
"""


def page(story: Story) -> str:
    """Return a forecast's story as a page."""
    first = story.first
    title = f"{first.instrument}, {first.horizon} ahead"
    body = "\n".join(
        [
            f"<h1>{_text(title)}</h1>",
            f'<p class="soft">issued {iso(first.ts_emit)}, valid until {iso(first.valid_until)}; '
            f"flat band \u00b1{first.band_bps:.4f} bps; regime {_text(first.regime)}; "
            f"model {_text(first.model_version)}; id {_text(first.forecast_id)}</p>",
            *_proof(story),
            "<h2>What was said when</h2>",
            *_timeline(story),
            *_whys(story),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _text(words: object) -> str:
    """Return anything as text of a page: escaped, control characters shown as such, direction its own."""
    shown = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in str(words))
    return html.escape(shown, quote=True)


def _proof(story: Story) -> Iterator[str]:
    proof = story.proof
    if proof.ok:
        n = proof.checked
        yield f'<p><span class="good">Holds.</span> {n} revision{"s" * (n != 1)} proved from the records.</p>'
    else:
        yield '<p class="bad">Does not hold:</p>'
        yield _list(_text(failure.why) for failure in proof.failures)
    if proof.notes:
        yield _list(_text(note) for note in proof.notes)


def _list(points: Iterable[str], *, wide: bool = False) -> str:
    kind = ' class="wide"' if wide else ""
    return f"<ul{kind}>{''.join(f'<li>{point}</li>' for point in points)}</ul>"


# --- the timeline --------------------------------------------------------------------------------


def _timeline(story: Story) -> Iterator[str]:
    first = story.first
    verdicts = {verdict.verdict_id: verdict for verdict in story.verdicts}
    yield "<table><tr><th>when</th><th>what</th><th>chances</th><th>down / flat / up</th></tr>"
    yield _row("0 ms", "version 1, the edge's", first)
    for revision in story.revisions:
        after = _after(revision.ts - first.ts_emit)
        verdict = verdicts.get(revision.verdict_id)
        action = str(verdict.action) if verdict else "a verdict that is missing"
        if revision.forecast is None:
            yield _row(after, f"{action}: {revision.applied}, {revision.reason}", None)
        else:
            yield _row(after, f"version {revision.version}: {action}", revision.forecast)
    closing, outcome = story.closing, story.outcome
    if closing is not None:
        when = _after(closing.ts - first.ts_emit)
        yield _row(when, f"ended as {closing.status} at version {closing.version}", None)
    if outcome is None:
        yield _row("", "outcome: not resolved in this run", None)
    else:
        when = _after(outcome.ts_resolved - first.ts_emit)
        became = (
            f"{_LABELS[outcome.label]}, {outcome.return_bps:+.3f} bps"
            if outcome.label >= 0
            else f"void, {outcome.void}"
        )
        yield _row(when, f"outcome: {became}", None)
    yield "</table>"


def _after(duration_ns: int) -> str:
    """Return a duration since issue in the largest unit of which it is at least two."""
    fitting = (one for one in _UNITS if duration_ns >= 2 * one[1])
    name, size = next(fitting, _UNITS[-1])
    return f"+{duration_ns / size:,.1f} {name}"


def _row(when: str, what: str, forecast: Forecast | None) -> str:
    chances = numbers = ""
    if forecast is not None:
        parts = "".join(f'<i style="width:{100.0 * p:.2f}%"></i>' for p in forecast.emitted)
        chances = f'<div class="chances">{parts}</div>'
        numbers = " / ".join(f"{p:.3f}" for p in forecast.emitted)
    return (
        f'<tr><td class="fix">{_text(when)}</td><td>{_text(what)}</td><td>{chances}</td>'
        f'<td class="fix">{numbers}</td></tr>'
    )


# --- why -----------------------------------------------------------------------------------------


def _whys(story: Story) -> Iterator[str]:
    verdicts = {verdict.verdict_id: verdict for verdict in story.verdicts}
    traces = {trace.verdict_id: trace for trace in story.traces}
    evidence = {one.evidence_id: one for pack in story.packs for one in pack.evidence}
    texts = {one.document_id: canonical_text(one.text) for one in story.documents}
    for revision in story.revisions:
        trace, verdict = traces.get(revision.verdict_id), verdicts.get(revision.verdict_id)
        if trace is not None and verdict is not None:
            yield from _why(revision, verdict, trace, evidence, texts)


def _why(
    revision: Revision,
    verdict: Verdict,
    trace: Trace,
    evidence: dict[str, Evidence],
    texts: dict[str, str],
) -> Iterator[str]:
    yield f"<h2>Why version {revision.version}</h2>"
    if trace.refused:
        yield f'<p class="warn">Refused: {_text(trace.refused)}.</p>'
    if not trace.statements:
        return
    yield f"<p><strong>{_text(trace.headline)}.</strong> {_text(verdict.reasoner)}</p>"
    yield _fidelity(trace.fidelity)
    own = [s for s in trace.statements if not s.evidence_id]
    tested = [s for s in own if s.field.startswith("hypotheses")]
    told = (s for s in own if s.struck or not s.field.startswith("fidelity"))
    yield _list(
        (_statement(s) for s in told if s not in tested and s.text != UNFAITHFUL), wide=True
    )
    if tested:
        yield "<h3>Hypotheses</h3>"
        yield from _hypotheses(tested)
    yield "<h3>Evidence, largest term first</h3>"
    shown = list(dict.fromkeys(s.evidence_id for s in trace.statements if s.field in _SHARES))
    most = max((abs(s.number or 0.0) for s in trace.statements if s.field in _SHARES), default=0.0)
    for name in shown:
        about = [s for s in trace.statements if s.evidence_id == name]
        yield _card(evidence.get(name), about, most, texts)


def _fidelity(fidelity: Fidelity) -> str:
    parts = []
    if fidelity.agreement is not None:
        n = fidelity.n_ablations
        parts.append(f"ablation agreement {fidelity.agreement:.2f} over {n} left out")
    if fidelity.r2 is not None:
        parts.append(f"surrogate R\u00b2 {fidelity.r2:.2f} over {fidelity.n_subsets} subsets")
    if fidelity.unmeasured:
        parts.append(f"not measured in full: {_text(fidelity.unmeasured)}")
    warning = f'<p class="warn">{_text(UNFAITHFUL)}</p>' if fidelity.is_low else ""
    return f'{warning}<p class="soft">Fidelity: {"; ".join(parts)}.</p>'


def _statement(statement: Statement) -> str:
    said = f"<bdi>{_text(statement.text)}</bdi>"
    if statement.struck:
        return f'<s>{said}</s> <span class="warn">struck: {_text(statement.struck)}</span>'
    return said


def _hypotheses(tested: Iterable[Statement]) -> Iterator[str]:
    """Yield a table of what a trace states of hypotheses: each with the figures that follow it."""
    yield "<table><tr><th>hypothesis</th><th>figures of its test</th></tr>"
    rows: list[list[str]] = []
    for one in tested:
        if one.field.endswith(".probability") or not rows:
            rows.append([])
        rows[-1].append(_statement(one))
    for first, *figures in rows:
        yield f"<tr><td>{first}</td><td>{' '.join(figures)}</td></tr>"
    yield "</table>"


def _card(item: Evidence | None, about: list[Statement], most: float, texts: dict[str, str]) -> str:
    """Return one piece of evidence: its terms as bars, its quote in its place, and what is said of it."""
    name = "evidence that is missing" if item is None else f"{item.origin} ({item.kind})"
    parts = [f"<h3><bdi>{_text(name)}</bdi></h3>"]
    parts += [_bar(s, most) for s in about if s.field in _SHARES]
    quoted = next((s for s in about if s.quote), None)
    if item is not None and quoted is not None and not quoted.struck:
        parts.append(_quote(item, quoted.quote, texts.get(item.document_id, "")))
        parts.append(f'<p class="soft">received {iso(item.ts_recv)}, {_text(item.document_id)}</p>')
    rest = [s for s in about if s.field not in _SHARES and (s is not quoted or s.struck)]
    said = " ".join(_statement(s) for s in rest)
    return f'<div class="card">{"".join(parts)}<p class="soft">{said}</p></div>'


def _bar(statement: Statement, most: float) -> str:
    value = 0.0 if statement.number is None else statement.number
    width = 50.0 * abs(value) / most if most > 0.0 else 0.0
    side = "plus" if value >= 0.0 else "minus"
    name = _SHARES[statement.field]
    struck = (
        f'<span class="warn">struck: {_text(statement.struck)}</span>' if statement.struck else ""
    )
    return (
        f'<div class="term"><span>{_text(name)}</span>'
        f'<div class="axis"><i class="{side}" style="width:{width:.2f}%"></i></div>'
        f"<b>{value:+.4f}</b></div>{struck}"
    )


def _quote(item: Evidence, quote: str, text: str) -> str:
    """Return a quote marked in what stands around it, where the document is at hand."""
    start = (
        text.find(quote, item.span[0]) if text[item.span[0] : item.span[1]] == item.quote else -1
    )
    if start < 0:
        return f"<blockquote><bdi><mark>{_text(quote)}</mark></bdi></blockquote>"
    end = start + len(quote)
    before, after = text[max(0, start - _AROUND) : start], text[end : end + _AROUND]
    cut_before = "\u2026" if start > _AROUND else ""
    cut_after = "\u2026" if len(text) > end + _AROUND else ""
    return (
        f"<blockquote><bdi>{cut_before}{_text(before)}<mark>{_text(quote)}</mark>"
        f"{_text(after)}{cut_after}</bdi></blockquote>"
    )
