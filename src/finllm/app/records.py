"""Reading a finished run: its scores, a forecast's story, and the proof of its traces."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from finllm.app.recording import Ending, Input, check_run_folder, read_ending
from finllm.audit.revisions import check_revision
from finllm.audit.scorecard import Scores
from finllm.audit.scores import examine
from finllm.audit.traces import check_trace
from finllm.domain.errors import FinllmError, InputError, TamperedError
from finllm.domain.evidence import Document, EvidencePack
from finllm.domain.forecast import Forecast, Outcome
from finllm.domain.protocol import Closing, Escalate, Hold, Revision, Verdict
from finllm.domain.trace import Trace
from finllm.ledger.reader import LedgerReader
from finllm.ledger.verify import Anchor, verify
from finllm.narrative.text.canonical import canonical_text
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
    notes: tuple[str, ...] = ()
    """What is worth knowing and breaks nothing."""


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
    its trace exists (unless the run was to write none), every number in the trace equals its
    evidence, every quote is an exact span of the canonical text of a recorded document, and every
    citation lies in the pack.

    Raises:
        InputError: If no forecast's id, or more than one, starts with the prefix.
        TamperedError: If the ledger cannot be read.
    """
    failures: list[Failure] = []
    notes = []
    checked = 0
    with open_ledger(run) as ledger:
        wanted = find_forecast(ledger, prefix).forecast_id if prefix else ""
        shelf = _Shelf(ledger, read_ending(run))
        if not shelf.is_explained:
            notes.append("this run was to write no traces: revisions alone are checked")
        for revision, before in _applied(ledger):
            if wanted in {"", revision.forecast_id}:
                checked += 1
                problems = shelf.problems(revision, before)
                failures += (Failure(id=revision.forecast_id, why=why) for why in problems)
    if not checked:
        notes.append("no revision was applied, so there is no trace to check")
    return Proof(ok=not failures, checked=checked, failures=tuple(failures), notes=tuple(notes))


def _applied(ledger: LedgerReader) -> Iterator[tuple[Revision, Forecast | None]]:
    """Yield each applied revision with the version that stood before it, None if there is none."""
    standing = {f.forecast_id: f for f in ledger.records(Forecast)}
    for revision in ledger.records(Revision):
        if revision.forecast is not None:
            yield revision, standing.get(revision.forecast_id)
            standing[revision.forecast_id] = revision.forecast


class _Shelf:
    """The records that a revision and its trace are checked against."""

    def __init__(self, ledger: LedgerReader, ending: Ending | None) -> None:
        self._questions = {q.question_id: q for q in ledger.records(Escalate)}
        self._packs = {(p.instrument, p.as_of): p for p in ledger.records(EvidencePack)}
        self._verdicts = {v.verdict_id: v for v in ledger.records(Verdict)}
        self._traces = {t.verdict_id: t for t in ledger.records(Trace)}
        self._texts = {d.document_id: canonical_text(d.text) for d in ledger.records(Document)}
        self.is_explained = bool(self._traces) if ending is None else ending.explained

    def problems(self, revision: Revision, before: Forecast | None) -> list[str]:
        """Return what does not hold in an applied revision and its trace."""
        verdict = self._verdicts.get(revision.verdict_id)
        if before is None:
            return ["the forecast that it revises is missing from the ledger"]
        if verdict is None:
            return [f"its verdict {revision.verdict_id} is missing from the ledger"]
        problems = check_revision(revision, before, verdict)
        trace = self._traces.get(revision.verdict_id)
        if trace is None:
            return problems + ["the revision has no trace"] * self.is_explained
        question = self._questions.get(verdict.question_id)
        pack = self._packs.get((question.instrument, question.ts)) if question else None
        if pack is None:
            return [*problems, f"question {verdict.question_id} or its pack is missing"]
        return problems + check_trace(trace, verdict, before, pack, self._texts)


def verify_ledger(run: Path) -> Proof:
    """Check every record of a run against the hash chain, its head, and the heads noted elsewhere.

    Those are the journal's and the summary's: without them an older copy of the whole ledger would
    pass. Where the summary says that the run ended and was recorded, its journal must be whole.
    """
    check_run_folder(run)
    anchors, failures, notes = _anchors(run)
    found = verify(run / "ledger", anchors=tuple(anchors))
    failures += (Failure(id=one.id, why=one.why) for one in found.failures)
    return Proof(
        ok=not failures,
        checked=found.checked,
        failures=tuple(failures),
        notes=(*found.notes, *notes),
    )


def _anchors(run: Path) -> tuple[list[Anchor], list[Failure], list[str]]:
    """Return the heads that journal and summary noted, what is wrong with either, and notes."""
    anchors, fault = _journalled_heads(run)
    try:
        ending = read_ending(run)
    except TamperedError as why:
        return anchors, [Failure(id="summary", why=str(why))], [fault] if fault else []
    if ending is not None:
        anchors.append((ending.ledger.count, ending.ledger.hash))
    if not fault:
        return anchors, [], []
    if ending is not None and ending.recording == "ok":
        return anchors, [Failure(id="journal", why=fault)], []
    return anchors, [], [f"{fault}: the run was cut off, or its recording stopped"]


def _journalled_heads(run: Path) -> tuple[list[Anchor], str]:
    """Return the heads in a run's journal, and why it cannot be relied on; empty if it can."""
    heads: list[Anchor] = []
    try:
        journal = read_journal(run / "journal", "run")
        for _, kind, body in journal:
            if kind == Input.HEAD:
                heads.append(msgspec.msgpack.decode(body, type=tuple[int, str]))
    except (FinllmError, OSError, msgspec.DecodeError) as why:
        return heads, str(why)
    if journal.ended:
        return heads, ""
    return heads, journal.torn or f"{run / 'journal'}: the journal was not closed"
