"""How fast the embedded reasoner judges, what explaining adds, and whether what it cites is what moves it.

On the questions of a whole run: packs are the room's, with what its encoder read, and forecasts stand as they
stood. Everything is asked again one at a time, on one thread.
"""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time_ns
from typing import Final

import msgspec
import numpy as np

from finllm.app.bench.measure import Nanoseconds, Quiet, Say, Spread
from finllm.app.explaining import Explainer
from finllm.app.fastpath import quiet_collector
from finllm.app.reader import open_room
from finllm.app.records import Explained, explained_revisions, open_ledger
from finllm.app.replay import Inputs, replay
from finllm.app.settings import Settings
from finllm.domain.errors import InputError
from finllm.domain.evidence import Document, EvidenceNotice
from finllm.domain.identity import canonical, content_id
from finllm.domain.protocol import Action, Escalate
from finllm.market.synthetic import SyntheticMarket, generate
from finllm.reasoning.conflict import without
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.runtime.clock import stopwatch_ns

TARGETS: Final = {"verdict_p50_ms": 10.0, "cited_moves_more": 0.8}
SIZES: Final = (8, 16, 24, 32)
"""Pieces of evidence up to which questions are taken together; the last takes the rest."""
_DRAWS: Final = 2_000
_S_PER_MIN: Final = 60.0


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict of the run, with the question that it answers."""

    question: Escalate
    explained: Explained
    document_id: str
    """Behind the notice that raised the question."""


class Sized(msgspec.Struct, frozen=True, kw_only=True):
    """Verdicts by packs of about one size."""

    most: int
    """Pieces of evidence, at most; 0 = more than all others."""
    verdict_us: Spread
    explained_us: Spread
    """A verdict and its trace."""


class Ablation(msgspec.Struct, frozen=True, kw_only=True):
    """Leaving out some of what a verdict cites, against as much of what it does not cite."""

    share: float
    """Of the cases in which what is cited moves it more."""
    interval: tuple[float, float]
    """95 %, by drawing whole questions again."""
    cited_p50: float
    """By how much leaving out what is cited moves a verdict, |shift| + |ln k|, median,"""
    uncited_p50: float
    """and leaving out what is not."""
    cases: int
    nothing_uncited: int
    """Verdicts that cite all of their pack, which make no case."""
    nothing_cited: int


class ReasoningFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What `finllm bench reasoning` reports. Times are of one forecast asked about alone."""

    reasoner: str
    encoders: tuple[str, ...]
    """What read the texts of the packs."""
    questions: int
    verdicts: int
    pieces_p50: float
    verdict_us: Spread
    verdict_cpu_us: Spread
    """The processor's time of the same, which other work on the machine does not lengthen."""
    read_and_verdict_us: Spread | None
    """With the reading of the document that raised the question; None where none is in the run."""
    read_and_verdict_cpu_us: Spread | None
    explained_us: Spread
    """A verdict and its trace, with fidelity, and what does not hold struck."""
    by_pieces: list[Sized]
    differing: int
    """Verdicts that another instance, asked again, gave in other bytes than the run's."""
    ablation: Ablation
    quiet: dict[str, Quiet]
    targets: dict[str, float]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    run: Path | None = None
    """A run whose questions are asked again; None = a synthetic market is walked first."""
    settings: Settings = Settings()
    minutes: float = 10.0
    seed: int = 31
    most: int = 1_000
    """Verdicts."""


def bench_reasoning(plan: Plan, say: Say) -> ReasoningFigures:
    """Measure, and return the figures.

    Args:
        plan: What to measure.
        say: Told what is being measured.

    Raises:
        InputError: If the run holds no verdict of the embedded reasoner that was applied.
    """
    if plan.run is not None:
        return _measure(plan, plan.run, say)
    with TemporaryDirectory() as folder:
        say(f"walking {plan.minutes:g} minutes of a synthetic market")
        return _measure(plan, _walked(plan, Path(folder)), say)


def _walked(plan: Plan, folder: Path) -> Path:
    duration_s = plan.minutes * _S_PER_MIN
    (folder / "tape").mkdir()
    generate(SyntheticMarket(seed=plan.seed, duration_s=duration_s)).write(folder / "tape")
    tapes = tuple(sorted((folder / "tape").glob("frames-*")))
    inputs = Inputs(tapes=tapes, documents=folder / "tape" / "documents.jsonl")
    replay(inputs, plan.settings, folder / "run")
    return folder / "run"


def _measure(plan: Plan, run: Path, say: Say) -> ReasoningFigures:
    reasoner, explainer = EmbeddedReasoner(), Explainer()
    cases = _cases(run, reasoner.name, plan.most)
    pieces = np.array([len(case.explained.pack.evidence) for case in cases])
    for case in cases[:20]:
        _judge(reasoner, case)
    quiet_collector()
    quiet = {"before": Quiet.look()}
    say(f"judging {len(cases):,} times")
    verdicts, cpu = np.array([_timed_verdict(reasoner, case) for case in cases], dtype=np.int64).T
    say("judging and explaining")
    explained = np.array([_timed_trace(explainer, c) for c in cases], dtype=np.int64)
    say("reading the documents that raised the questions")
    reading = _readings(run, plan.settings)
    both = np.stack([verdicts, cpu], axis=1)
    pairs = zip(cases, both, strict=True)
    read = np.array([t + reading[c.document_id] for c, t in pairs if c.document_id in reading])
    say("asking again")
    again = EmbeddedReasoner()
    differing = sum(
        canonical(_judge(again, case)) != canonical(case.explained.verdict) for case in cases
    )
    quiet["after"] = Quiet.look()
    encoders = {e.encoder for c in cases for e in c.explained.pack.evidence if e.encoder}
    return ReasoningFigures(
        reasoner=reasoner.name,
        encoders=tuple(sorted(encoders)),
        questions=len({case.question.question_id for case in cases}),
        verdicts=len(cases),
        pieces_p50=float(np.median(pieces)),
        verdict_us=Spread.of(verdicts),
        verdict_cpu_us=Spread.of(cpu),
        read_and_verdict_us=Spread.of(read[:, 0]) if len(read) else None,
        read_and_verdict_cpu_us=Spread.of(read[:, 1]) if len(read) else None,
        explained_us=Spread.of(verdicts + explained),
        by_pieces=_by_pieces(pieces, verdicts, explained),
        differing=differing,
        ablation=ablate(reasoner, [case.explained for case in cases]),
        quiet=quiet,
        targets=TARGETS,
    )


def _cases(run: Path, reasoner: str, most: int) -> list[Case]:
    with open_ledger(run) as ledger:
        questions = {one.question_id: one for one in ledger.records(Escalate)}
        notices = {one.notice_id: one for one in ledger.records(EvidenceNotice)}
    found = []
    for explained in explained_revisions(run):
        verdict = explained.verdict
        if verdict.reasoner != reasoner or verdict.fallback:
            continue
        question = questions[verdict.question_id]
        behind = notices[question.notice_id].evidence_id
        documents = {e.evidence_id: e.document_id for e in explained.pack.evidence}
        found.append(
            Case(question=question, explained=explained, document_id=documents.get(behind, ""))
        )
    if not found:
        raise InputError(
            "holds no applied verdict of the embedded reasoner",
            place=str(run),
            mend="Name a run with documents, judged by the weights of this version.",
        )
    step = max(1, len(found) // most)
    return found[::step][:most]


def _judge(reasoner: EmbeddedReasoner, case: Case) -> object:
    one = case.explained
    judgement = reasoner.judge(case.question, (one.before,), one.pack, one.revision.ts, 1)
    return judgement.verdicts[0]


def _timed_verdict(reasoner: EmbeddedReasoner, case: Case) -> tuple[int, int]:
    """Return what a verdict takes by the wall's clock and of processor time, ns."""
    cpu, started = process_time_ns(), stopwatch_ns()
    _judge(reasoner, case)
    took = stopwatch_ns() - started
    return took, process_time_ns() - cpu


def _timed_trace(explainer: Explainer, case: Case) -> int:
    one = case.explained
    after = one.before if one.revision.forecast is None else one.revision.forecast
    started = stopwatch_ns()
    explainer.write(one.verdict, one.before, after, one.pack, one.texts)
    return stopwatch_ns() - started


def _readings(run: Path, settings: Settings) -> dict[str, Nanoseconds]:
    """Return what admitting each document of a run takes a room: wall and processor time, ns, [2], by id."""
    with open_ledger(run) as ledger:
        documents = list(ledger.records(Document))
        instruments = {one.instrument for one in ledger.records(Escalate)}
    room = open_room(settings.narrative)
    for instrument in sorted(instruments):
        room.watch(instrument)
    took = {}
    for document in documents:
        cpu, started = process_time_ns(), stopwatch_ns()
        room.admit(document, document.ts_recv)
        wall = stopwatch_ns() - started
        took[document.document_id] = np.array([wall, process_time_ns() - cpu])
    return took


def _by_pieces(pieces: Nanoseconds, verdicts: Nanoseconds, explained: Nanoseconds) -> list[Sized]:
    found = []
    for low, high in zip((0, *SIZES), (*SIZES, 0), strict=True):
        among = (pieces > low) & ((pieces <= high) | (high == 0))
        if among.any():
            found.append(
                Sized(
                    most=high,
                    verdict_us=Spread.of(verdicts[among]),
                    explained_us=Spread.of((verdicts + explained)[among]),
                )
            )
    return found


def ablate(reasoner: EmbeddedReasoner, verdicts: Iterable[Explained]) -> Ablation:
    """Return how often leaving out what is cited moves a verdict more than as much of what is not.

    As many are left out as there are of the fewer, drawn from either by the verdict's id.
    """
    wins: dict[str, list[bool]] = {}
    moves: list[tuple[float, float]] = []
    all_cited = none_cited = 0
    for one in verdicts:
        cited = {citation.evidence_id for citation in one.verdict.citations}
        names = [evidence.evidence_id for evidence in one.pack.evidence]
        rest = [name for name in names if name not in cited]
        all_cited += not rest
        none_cited += not cited
        n = min(len(cited), len(rest))
        if n:
            chance = np.random.default_rng(int(content_id("ablate", one.verdict.verdict_id), 16))
            gone, kept = (
                tuple(chance.permutation(sorted(among))[:n].tolist()) for among in (cited, rest)
            )
            moved = _moved(reasoner, one, gone), _moved(reasoner, one, kept)
            moves.append(moved)
            wins.setdefault(one.verdict.question_id, []).append(moved[0] > moved[1])
    share, interval = _share(list(wins.values()))
    middle = np.median(np.array(moves), axis=0) if moves else np.full(2, np.nan)
    return Ablation(
        share=share,
        interval=interval,
        cited_p50=float(middle[0]),
        uncited_p50=float(middle[1]),
        cases=sum(map(len, wins.values())),
        nothing_uncited=all_cited,
        nothing_cited=none_cited,
    )


def _moved(reasoner: EmbeddedReasoner, one: Explained, left_out: tuple[str, ...]) -> float:
    """Return by how much a verdict moves: |shift| + |ln k|, and one more to or from a retraction."""
    said = reasoner.again(one.before, one.pack)
    left = reasoner.again(one.before, without(one.pack, left_out))
    is_turned = (said.action is Action.RETRACT) != (left.action is Action.RETRACT)
    return abs(said.shift - left.shift) + abs(said.log_scale - left.log_scale) + is_turned


def _share(questions: list[list[bool]]) -> tuple[float, tuple[float, float]]:
    """Return the share of wins with its 95 % interval, questions drawn whole."""
    if not questions:
        return float("nan"), (float("nan"), float("nan"))
    won = np.array([sum(one) for one in questions], dtype=np.float64)
    n = np.array([len(one) for one in questions], dtype=np.float64)
    drawn = np.random.default_rng(7).integers(len(n), size=(_DRAWS, len(n)))
    low, high = np.quantile(won[drawn].sum(axis=1) / n[drawn].sum(axis=1), (0.025, 0.975))
    return round(float(won.sum() / n.sum()), 4), (round(float(low), 4), round(float(high), 4))
