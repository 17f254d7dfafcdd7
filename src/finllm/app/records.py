"""Reading a finished run: its scores, a forecast's story, and the proof of its traces."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from finllm.app.recording import Input, check_run_folder
from finllm.audit.scorecard import Scores
from finllm.audit.scores import examine
from finllm.audit.traces import check_revision, check_trace
from finllm.domain.errors import FinllmError, InputError
from finllm.domain.evidence import Document, EvidencePack
from finllm.domain.forecast import Forecast, Outcome
from finllm.domain.protocol import Closing, Escalate, Hold, Revision, Verdict
from finllm.domain.trace import Trace
from finllm.ledger.reader import LedgerReader
from finllm.ledger.verify import Anchor, verify
from finllm.narrative.canonical import canonical_text
from finllm.runtime.journal import read_journal

T = TypeVar("T")


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Something that does not hold."""

    id: str
    why: str


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a check: shape shared by `ledger verify` and `verify-trace`."""

    ok: bool
    checked: int
    failures: tuple[Failure, ...]


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the ledger holds about one forecast, in order."""

    first: Forecast
    revisions: tuple[Revision, ...]
    verdicts: tuple[Verdict, ...]
    traces: tuple[Trace, ...]
    packs: tuple[EvidencePack, ...]
    closing: Closing | None
    outcome: Outcome | None


def open_ledger(run: Path) -> LedgerReader:
    """Open the ledger of a run for reading."""
    return LedgerReader(check_run_folder(run) / "ledger")


def score_run(run: Path) -> Scores:
    """Score a run from its ledger alone."""
    with open_ledger(run) as ledger:
        return examine(
            ledger.records(Forecast),
            ledger.records(Revision),
            ledger.records(Closing),
            ledger.records(Outcome),
            ledger.records(Escalate),
            ledger.records(Hold),
            ledger.records(Verdict),
        )


def find_forecast(ledger: LedgerReader, prefix: str) -> Forecast:
    """Return the forecast whose id starts with a prefix.

    Raises:
        InputError: If none does, or several do.
    """
    whole = ledger.find(Forecast, prefix)
    if whole is not None:
        return whole
    found = [f for f in ledger.records(Forecast) if f.forecast_id.startswith(prefix)]
    if len(found) != 1:
        raise InputError(
            f"{len(found)} forecasts start with it",
            place=f"forecast id {prefix!r}",
            mend="Give the whole id: 'finllm demo' prints some, the ledger holds all.",
        )
    return found[0]


def story(run: Path, prefix: str) -> Story:
    """Return what the ledger of a run holds about one forecast."""
    with open_ledger(run) as ledger:
        first = find_forecast(ledger, prefix)
        wanted = first.forecast_id
        revisions = tuple(ledger.find_all(Revision, wanted))
        verdicts = tuple(_each(ledger, Verdict, (r.verdict_id for r in revisions)))
        questions = set(_each(ledger, Escalate, (v.question_id for v in verdicts)))
        asked = {(q.instrument, q.ts) for q in questions}
        packs = (p for p in ledger.records(EvidencePack) if (p.instrument, p.as_of) in asked)
        return Story(
            first=first,
            revisions=revisions,
            verdicts=verdicts,
            traces=tuple(t for t in ledger.records(Trace) if t.forecast_id == wanted),
            packs=tuple(packs),
            closing=ledger.find(Closing, wanted),
            outcome=ledger.find(Outcome, wanted),
        )


def _each(ledger: LedgerReader, kind: type[T], ids: Iterable[str]) -> Iterator[T]:
    for entry_id in ids:
        found = ledger.find(kind, entry_id)
        if found is not None:
            yield found


def verify_traces(run: Path, prefix: str = "") -> Proof:
    """Prove every trace of a run (or of one forecast) from its records alone.

    For each applied revision: the transition and the tilt are recomputed from the version before it,
    its trace exists, every number in the trace equals its evidence, every quote is an exact span of
    the canonical text of a recorded document, and every citation lies in the pack.
    """
    failures: list[Failure] = []
    checked = 0
    with open_ledger(run) as ledger:
        for revision, problems in _examined(ledger, prefix):
            checked += 1
            failures += (Failure(id=revision.forecast_id, why=why) for why in problems)
    return Proof(ok=not failures and checked > 0, checked=checked, failures=tuple(failures))


def _examined(ledger: LedgerReader, prefix: str) -> Iterator[tuple[Revision, list[str]]]:
    questions = {q.question_id: q for q in ledger.records(Escalate)}
    packs = {(p.instrument, p.as_of): p for p in ledger.records(EvidencePack)}
    verdicts = {v.verdict_id: v for v in ledger.records(Verdict)}
    traces = {t.verdict_id: t for t in ledger.records(Trace)}
    texts = {d.document_id: canonical_text(d.text) for d in ledger.records(Document)}
    standing = {f.forecast_id: f for f in ledger.records(Forecast)}
    for revision in ledger.records(Revision):
        after = revision.forecast
        if after is None:
            continue
        before, standing[revision.forecast_id] = standing[revision.forecast_id], after
        if not revision.forecast_id.startswith(prefix):
            continue
        verdict = verdicts[revision.verdict_id]
        question = questions[verdict.question_id]
        pack = packs[question.instrument, question.ts]
        problems = check_revision(revision, before, verdict)
        trace = traces.get(revision.verdict_id)
        if trace is None:
            problems.append("the revision has no trace")
        else:
            problems += check_trace(trace, verdict, before, pack, texts)
        yield revision, problems


def verify_ledger(run: Path) -> Proof:
    """Check every record of a run against the hash chain, its head, and the head that was journalled."""
    found = verify(check_run_folder(run) / "ledger", anchors=_anchors(run))
    failures = tuple(Failure(id=one.id, why=one.why) for one in found.failures)
    return Proof(ok=found.ok, checked=found.checked, failures=failures)


def _anchors(run: Path) -> tuple[Anchor, ...]:
    """Return the heads that the run's journal recorded; none if the run did not end in order."""
    try:
        entries = list(read_journal(run / "journal", "run"))
    except FinllmError:
        return ()
    bodies = (payload for _, kind, payload in entries if kind == Input.HEAD)
    return tuple(msgspec.msgpack.decode(body, type=tuple[int, str]) for body in bodies)
