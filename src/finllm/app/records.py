"""Reading a finished run: its scores, a forecast's story, and the proof of its traces."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from finllm.app.explaining import Explainer, total
from finllm.app.recording import (
    Ending,
    Input,
    Traces,
    check_run_folder,
    read_ending,
    read_start,
)
from finllm.audit.questions import check_judged, check_question
from finllm.audit.revisions import check_revision
from finllm.audit.scorecard import Scores
from finllm.audit.scores import examine
from finllm.audit.traces import check_trace
from finllm.domain.errors import FinllmError, InputError, TamperedError
from finllm.domain.evidence import Document, EvidencePack
from finllm.domain.forecast import Forecast, Outcome
from finllm.domain.protocol import Closing, Escalate, Hold, Revision, Verdict
from finllm.domain.trace import NOT_WRITTEN, Trace
from finllm.ledger.reader import LedgerReader
from finllm.ledger.verify import Anchor, verify
from finllm.narrative.text.canonical import canonical_text
from finllm.reasoning.embedded import EMBEDDED
from finllm.reasoning.ensemble.track import TrackRecord
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
    documents: tuple[Document, ...]
    """Behind what was cited."""
    closing: Closing | None
    outcome: Outcome | None
    proof: Proof
    """Whether all that holds."""


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


def track_record(run: Path) -> TrackRecord:
    """Return the track record of a run's ensemble, as it was at its end.

    Raises:
        InputError: If there is no run in the folder.
    """
    with open_ledger(run) as ledger:
        start = read_start(run)
        return TrackRecord.of(
            ledger.records(Forecast),
            ledger.records(Verdict),
            ledger.records(Revision),
            ledger.records(Outcome),
            scored=() if start is None else start.scored,
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
        shelf = _Shelf(ledger, read_ending(run))
        questions = dict.fromkeys(verdict.question_id for verdict in verdicts)
        packs = [pack for one in questions if (pack := shelf.pack(one)) is not None]
        return Story(
            first=first,
            revisions=revisions,
            verdicts=verdicts,
            traces=tuple(t for t in ledger.records(Trace) if t.forecast_id == wanted),
            packs=tuple(packs),
            documents=tuple(_each(ledger, Document, _documents(verdicts, packs))),
            closing=ledger.find(Closing, wanted),
            outcome=ledger.find(Outcome, wanted),
            proof=verify_traces(run, wanted),
        )


def _documents(verdicts: Iterable[Verdict], packs: Iterable[EvidencePack]) -> list[str]:
    """Return the ids of the documents behind what verdicts cite, each once."""
    cited = {citation.evidence_id for verdict in verdicts for citation in verdict.citations}
    found = (e for pack in packs for e in pack.evidence if e.evidence_id in cited)
    return list(dict.fromkeys(e.document_id for e in found if e.document_id))


def _each(ledger: LedgerReader, kind: type[T], ids: Iterable[str]) -> Iterator[T]:
    for entry_id in ids:
        found = ledger.find(kind, entry_id)
        if found is not None:
            yield found


def verify_traces(run: Path, prefix: str = "") -> Proof:
    """Prove every trace of a run (or of one forecast) from its records alone.

    For each applied revision: the transition and the tilt are recomputed from the version before it, the
    ids of verdict and pack are what their content gives, its trace exists (unless the run was to write
    none), every number in the trace equals its evidence, every quote is an exact span of the canonical text
    of a recorded document, every citation lies in the pack, and what is struck or refused is so for the
    reason that it states. Where the reasoner is at hand it judges again, and the trace's fidelity is measured
    again. Then the trace is written again from the same records: it must be the same.

    Raises:
        InputError: If no forecast's id, or more than one, starts with the prefix.
        TamperedError: If the ledger cannot be read.
    """
    failures: list[Failure] = []
    notes = []
    checked = 0
    with open_ledger(run) as ledger:
        wanted = find_forecast(ledger, prefix).forecast_id if prefix else ""
        ending = read_ending(run)
        shelf = _Shelf(ledger, ending)
        if not shelf.is_explained:
            notes.append("this run was to write no traces: revisions alone are checked")
        n_applied = sum(r.forecast is not None for r in ledger.records(Revision))
        for revision, before in _applied(ledger, [wanted] if wanted else _revised(ledger)):
            checked += 1
            problems = shelf.problems(revision, before)
            failures += (Failure(id=revision.forecast_id, why=why) for why in problems)
    if not wanted and checked != n_applied:
        why = f"{n_applied} were applied, of which {checked} are filed under their forecast"
        failures.append(Failure(id="revisions", why=why))
    is_whole = not wanted and not shelf.is_cut_off
    if ending is not None and is_whole and shelf.traces != ending.traces:
        why = f"holds {_told(shelf.traces)}, where the summary says {_told(ending.traces)}"
        failures.append(Failure(id="traces", why=why))
    if not checked:
        notes.append("no revision was applied, so there is no trace to check")
    notes += [f"{n:,} traces {what}" for what, n in shelf.notes.items() if n]
    return Proof(ok=not failures, checked=checked, failures=tuple(failures), notes=tuple(notes))


def explained_revisions(run: Path) -> Iterator["Explained"]:
    """Yield each applied revision of a run that has a trace, with what both are proved by."""
    with open_ledger(run) as ledger:
        shelf = _Shelf(ledger, read_ending(run))
        for revision, before in _applied(ledger, _revised(ledger)):
            told = shelf.told(revision, before)
            if isinstance(told, Explained):
                yield told


def _revised(ledger: LedgerReader) -> list[str]:
    """Return the ids of the forecasts that were revised, each once, in order."""
    applied = (r.forecast_id for r in ledger.records(Revision) if r.forecast is not None)
    return list(dict.fromkeys(applied))


def _applied(
    ledger: LedgerReader, forecast_ids: Iterable[str]
) -> Iterator[tuple[Revision, Forecast | None]]:
    """Yield the applied revisions of forecasts with the version that stood before each, None without one."""
    for forecast_id in forecast_ids:
        standing = ledger.find(Forecast, forecast_id)
        for revision in ledger.find_all(Revision, forecast_id):
            if revision.forecast is not None:
                yield revision, standing
                standing = revision.forecast


class _Shelf:
    """Where the records are that a revision and its trace are checked against; none of them is held."""

    def __init__(self, ledger: LedgerReader, ending: Ending | None) -> None:
        self.notes: Counter[str] = Counter()
        """What is worth knowing of the traces that were checked, with how many."""
        self._ledger = ledger
        self._explainer = Explainer()
        self._packs = _packs(ledger)
        self._traces: dict[str, int] = {}
        self.traces = total(self._placed())
        """What became of the traces of the run."""
        self.is_cut_off = ending is None or ending.recording != "ok"
        self.is_explained = bool(self._traces) if ending is None else ending.explained

    def _placed(self) -> Iterator[Trace]:
        """Yield the traces of the run, noting where each is."""
        for place, trace in self._ledger.located(Trace):
            self._traces[trace.verdict_id] = place
            yield trace

    def pack(self, question_id: str) -> EvidencePack | None:
        """Return the pack of a question; None if there is none."""
        place = self._packs.get(question_id)
        return None if place is None else self._ledger.at(EvidencePack, place)

    def problems(self, revision: Revision, before: Forecast | None) -> list[str]:
        """Return what does not hold in an applied revision and its trace."""
        told = self.told(revision, before)
        if not isinstance(told, Explained):
            return told
        self._note(told.trace, told.verdict)
        return prove(told, self._explainer)

    def told(self, revision: Revision, before: Forecast | None) -> "Explained | list[str]":
        """Return what an applied revision and its trace are proved by, or what of it is missing."""
        verdict = self._ledger.find(Verdict, revision.verdict_id)
        if before is None:
            return ["the forecast that it revises is missing from the ledger"]
        if verdict is None:
            return [f"its verdict {revision.verdict_id} is missing from the ledger"]
        place = self._traces.get(revision.verdict_id)
        if place is None:
            self.notes["were not kept before the run was cut off or its recording stopped"] += (
                self.is_cut_off
            )
            is_missing = self.is_explained and not self.is_cut_off
            missing = ["the revision has no trace"] * is_missing
            return check_revision(revision, before, verdict) + missing
        question = self._ledger.find(Escalate, verdict.question_id)
        pack = self.pack(verdict.question_id)
        if question is None or pack is None:
            return [f"question {verdict.question_id} or its pack is missing"]
        ids = dict.fromkeys(e.document_id for e in pack.evidence if e.document_id)
        documents = _each(self._ledger, Document, ids)
        return Explained(
            revision=revision,
            before=before,
            question=question,
            verdict=verdict,
            trace=self._ledger.at(Trace, place),
            pack=pack,
            texts={one.document_id: canonical_text(one.text) for one in documents},
        )

    def _note(self, trace: Trace, verdict: Verdict) -> None:
        is_dropped = trace.refused.startswith(NOT_WRITTEN)
        self.notes["were dropped under load"] += is_dropped
        self.notes["are refused, and say why"] += bool(trace.refused) and not is_dropped
        is_taken_over = _is_taken_over(verdict, self._explainer) and not is_dropped
        self.notes["have a fidelity that cannot be measured again here"] += is_taken_over


def _packs(ledger: LedgerReader) -> dict[str, int]:
    """Return where the pack of each question is, by its id: each is followed by its own, of its instant."""
    waiting: dict[tuple[str, int], deque[str]] = {}
    for question in ledger.records(Escalate):
        key = (question.instrument, question.ts)
        waiting.setdefault(key, deque()).append(question.question_id)
    found = {}
    for place, pack in ledger.located(EvidencePack):
        asked = waiting.get((pack.instrument, pack.as_of))
        if asked:
            found[asked.popleft()] = place
    return found


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """An applied revision, its trace, and the records that both are proved by."""

    revision: Revision
    before: Forecast
    question: Escalate
    verdict: Verdict
    trace: Trace
    pack: EvidencePack
    texts: dict[str, str]
    """Canonical text of the documents behind the pack, by id."""


def prove(told: Explained, explainer: Explainer) -> list[str]:
    """Return what does not hold in a revision and its trace; empty means that all of it does. Pure."""
    question, verdict, before, trace = told.question, told.verdict, told.before, told.trace
    problems = check_revision(told.revision, before, verdict)
    problems += check_question(question, verdict, before, told.pack)
    problems += check_trace(trace, verdict, before, told.pack, told.texts)
    judged = explainer.judge(question, verdict, before, told.pack, told.revision.ts)
    if judged is not None:
        problems += check_judged(verdict, judged)
    if trace.refused.startswith(NOT_WRITTEN) or told.revision.forecast is None:
        return problems
    fidelity = trace.fidelity if _is_taken_over(verdict, explainer) else None
    again = explainer.write(
        verdict, before, told.revision.forecast, told.pack, told.texts, fidelity
    )
    return problems + _differences(trace, again)


def _is_taken_over(verdict: Verdict, explainer: Explainer) -> bool:
    """Return whether a verdict's fidelity was measured on a reasoner that is not at hand here.

    Only an embedded one can be asked again at all, so that no other's trace may have a figure.
    """
    return verdict.reasoner.startswith(EMBEDDED) and not explainer.can_ask(verdict.reasoner)


def _differences(trace: Trace, again: Trace) -> list[str]:
    """Return where a trace is not what its writer makes of the records."""
    found = [
        f"{name} is not what the records give"
        for name in Trace.__struct_fields__
        if name != "statements" and getattr(trace, name) != getattr(again, name)
    ]
    if len(trace.statements) != len(again.statements):
        n = len(again.statements)
        return [*found, f"has {len(trace.statements)} statements, the records give {n}"]
    pairs = enumerate(zip(trace.statements, again.statements, strict=True), start=1)
    return found + [
        f"statement {place}: the records give {should.text!r}"
        for place, (is_, should) in pairs
        if is_ != should
    ]


def _told(traces: Traces) -> str:
    counts = msgspec.structs.asdict(traces)
    return ", ".join(f"{n:,} {what}" for what, n in counts.items())


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
