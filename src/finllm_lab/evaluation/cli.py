"""`finllm_lab evaluate`: walk the training tapes, score, write the report; exit 3 where an alarm stands."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
import typer

from finllm.domain.errors import InputError
from finllm.runtime.tally import Tally
from finllm_lab.evaluation.alarms import AUC_LEAD, SKILL_LOW
from finllm_lab.evaluation.leaks import hunt_features, hunt_walk
from finllm_lab.evaluation.records import Hunt
from finllm_lab.evaluation.report import Verdict, report
from finllm_lab.experiments import FILE
from finllm_lab.tapes import BOOK_TAPES, Session, between, book_sessions, frame_sessions, tape_paths

HUNTED_FRAMES: Final = 20_000
"""Frames of each tape that a hunt rebuilds at every cut."""
CUTS: Final = 8


def evaluate(
    data: Annotated[
        Path, typer.Option("--data", help="Folder with orderbook/ and text_price/.")
    ] = Path("../shared/data"),
    model: Annotated[
        Path | None,
        typer.Option("--model", help="Folder of the artifact. Default: the shipped one."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Where to write the page.")] = Path(
        "runs/evaluation.html"
    ),
    waive: Annotated[
        list[str] | None,
        typer.Option("--waive", help="DATASET=REASON: log why that data set's alarms may pass."),
    ] = None,
    record: Annotated[Path, typer.Option("--record", help="The experiment record.")] = FILE,
    *,
    hunt: Annotated[
        bool, typer.Option("--hunt", help="Also hunt for look-ahead: rebuild from truncated tapes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
) -> None:
    """Score the edge on its training tapes; write one page that holds every figure and plot.

    A figure too good to be true raises a leak alarm: the report is still written, and the exit code is 3
    until a hunt has ended in a waiver with its reason.
    """
    reasons = reasons_of(waive or [])
    verdict = _training(data, model, out, reasons, record, hunt=hunt)
    if as_json:
        typer.echo(msgspec.json.encode(verdict.evaluation).decode())
    else:
        typer.echo("\n".join(in_words(verdict)))
    if verdict.exit_code:
        raise typer.Exit(verdict.exit_code)


def reasons_of(waivers: list[str]) -> dict[str, str]:
    """Return the reasons by data set.

    Raises:
        InputError: If one is not written as DATASET=REASON.
    """
    reasons = {}
    for one in waivers:
        dataset, mark, reason = one.partition("=")
        if not (dataset.strip() and mark and reason.strip()):
            raise InputError("no reason", place=f"--waive {one}", mend="Write DATASET=REASON.")
        reasons[dataset.strip()] = reason.strip()
    return reasons


def in_words(verdict: Verdict) -> list[str]:
    """Return what the evaluation comes to, alarms first."""
    lines = [f"LEAK ALARM {alarm.what}" for alarm in verdict.standing]
    if verdict.standing:
        lines.append(
            f"Stopped: an AUC lead above {AUC_LEAD:g} or a 30 s interval above {SKILL_LOW:.0%} asks for a "
            "leak hunt (--hunt); if it is none, say why with --waive DATASET=REASON."
        )
    return [
        *lines,
        f"{len(verdict.evaluation.datasets)} data sets scored; report in {verdict.page}",
    ]


def _training(
    data: Path, model: Path | None, out: Path, reasons: dict[str, str], record: Path, *, hunt: bool
) -> Verdict:
    """Walk the training tapes of the book model and report."""
    from finllm.edge.artifact import SHIPPED, load_artifact
    from finllm_lab.edge import BOOK_PLAN
    from finllm_lab.walk import walk

    artifact = load_artifact(model or SHIPPED["book"], spec=BOOK_PLAN.spec)
    said, hunts = [], []
    for tape in BOOK_TAPES:
        if tape.use != "train":
            continue
        sessions = book_sessions(tape.name, tape_paths(data, tape))
        for session in sessions:
            said += walk(session, artifact, BOOK_PLAN.grid_ns)
        if hunt:
            hunts.append(_hunt_tape(tape.name, tape_paths(data, tape)))
            hunts.append(
                hunt_walk(
                    lambda part: walk(part, artifact, BOOK_PLAN.grid_ns),
                    _beginning(sessions[0]),
                    dataset=f"{tape.name} {sessions[0].instrument}",
                    cuts=CUTS,
                    rng=np.random.default_rng(0),
                )
            )
    return report(
        said,
        out,
        title="Evaluation on the training tapes (in sample: the shipped model was fitted on them)",
        hunts=hunts,
        waivers=reasons,
        record_file=record,
    )


def _hunt_tape(name: str, paths: list[Path]) -> Hunt:
    from finllm.features.book_spec import BOOK_SPEC
    from finllm.market.tape import read_chain

    return hunt_features(
        lambda frames: frame_sessions(name, frames),
        list(islice(read_chain(paths, Tally()), HUNTED_FRAMES)),
        BOOK_SPEC,
        dataset=name,
        cuts=CUTS,
        rng=np.random.default_rng(0),
    )


def _beginning(session: Session) -> Session:
    """Return the first rows, as many as a hunt rebuilds at every cut."""
    ts = session.heads["ts_recv"]
    last = ts[min(HUNTED_FRAMES, len(ts)) - 1]
    return between(session, int(ts[0]), int(last) + 1)
