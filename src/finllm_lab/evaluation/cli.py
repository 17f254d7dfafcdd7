"""`finllm_lab evaluate`: walk tapes, score, write the report; exit 3 where an alarm stands."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

import msgspec
import typer

from finllm.audit.scorecard import ALL, Interval
from finllm.domain.errors import InputError
from finllm.edge.artifact import SHIPPED, read_manifest
from finllm_lab.evaluation.alarms import AUC_LEAD, SKILL_LOW
from finllm_lab.evaluation.heard import SETS, TRAIN, VALIDATE, hear, ready
from finllm_lab.evaluation.records import Evaluation
from finllm_lab.evaluation.report import Verdict, report
from finllm_lab.experiments import FILE, open_validation
from finllm_lab.export import put_scores
from finllm_lab.options import DATA, Data

TITLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        TRAIN: "Evaluation on the training tapes (in sample: the models were fitted on them)",
        VALIDATE: "Evaluation on the validation part: nothing was fitted on it; openings are counted below",
    }
)


def evaluate(
    data: Data = DATA,
    split: Annotated[
        str,
        typer.Option(
            help="`train` (in sample), or `validate`: opens that part, which is counted, logged and refused "
            "after three times; this project's own record has them all for `book`."
        ),
    ] = TRAIN,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="SET=FOLDER, the artifact for `book` or `stock`. Default: the shipped ones.",
            metavar="SET=FOLDER",
        ),
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
    card: Annotated[
        bool, typer.Option("--card", help="Put the pooled figures on the models' cards.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
) -> None:
    """Score the edge on recorded tapes; write one page that holds every figure and plot.

    A figure too good to be true raises a leak alarm: the report is still written, and the exit code is 3
    until a hunt has ended in a waiver with its reason.

    Example: finllm_lab evaluate --model book=models/mine --out mine.html
    """
    reasons = reasons_of(waive or [])
    models = models_of(model or [])
    if out.is_dir():
        raise InputError("is a folder", place=f"--out {out}", mend="Name the page to write.")
    _open(data, models, split, record)
    heard = [hear(data, name, folder, split, is_hunted=hunt) for name, folder in models.items()]
    verdict = report(
        [said for one in heard for said in one.said],
        out,
        title=TITLES[split],
        hunts=[found for one in heard for found in one.hunts],
        waivers=reasons,
        record_file=record,
    )
    if card:
        _put_on_cards(models.values(), verdict, split)
    if as_json:
        typer.echo(msgspec.json.encode(verdict.evaluation).decode())
    else:
        typer.echo("\n".join(in_words(verdict)))
    if verdict.exit_code:
        raise typer.Exit(verdict.exit_code)


def _open(data: Path, models: Mapping[str, Path], split: str, record: Path) -> None:
    """See that all is there, and only then count an opening of the validation part."""
    for name, folder in models.items():
        ready(data, name, folder, split)
    for name, folder in models.items() if split == VALIDATE else ():
        open_validation(name, f"evaluate {read_manifest(folder).version}", file=record)


def _put_on_cards(folders: Iterable[Path], verdict: Verdict, split: str) -> None:
    """Put figures on cards in place of those of the same part; none while an alarm stands."""
    if verdict.exit_code:
        typer.echo("an alarm stands: no figure goes on a card", err=True)
        return
    for folder in folders:
        manifest = read_manifest(folder)
        others = [line for line in manifest.card.scores if not line.startswith(f"{split}, ")]
        put_scores(folder, (*others, *on_card(verdict.evaluation, manifest.version, split)))


def models_of(named: list[str]) -> dict[str, Path]:
    """Return the artifact's folder of each set of tapes; where none is named, the shipped ones.

    Raises:
        InputError: If a set is unknown, or one is not written as SET=FOLDER.
    """
    if not named:
        return {name: SHIPPED[name] for name in SETS if name in SHIPPED}
    found: dict[str, Path] = {}
    for one in named:
        name, mark, folder = one.partition("=")
        if name not in SETS or not mark:
            raise InputError(
                "no set of tapes is called so",
                place=f"--model {one}",
                mend=f"Sets: {', '.join(SETS)}.",
            )
        if name in found:
            raise InputError(
                "is named twice",
                place=f"--model {one}",
                mend="Evaluate one model of a set at a time.",
            )
        found[name] = Path(folder)
    return found


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


def on_card(found: Evaluation, version: str, split: str) -> tuple[str, ...]:
    """Return the pooled figures of a model, a line a horizon."""
    return tuple(
        f"{split}, {one.name}, {row.horizon}: log skill over climatology"
        f" {_percent(row.skill.climatology, row.interval.climatology)}, EWMA"
        f" {_percent(row.skill.ewma, row.interval.ewma)}, imbalance"
        f" {_percent(row.skill.obi, row.interval.obi)}; pinball skill over climatology"
        f" {_percent(row.skill_crps.climatology, row.interval_crps.climatology)}; ECE {row.ece:.3f}"
        f" (perfect {row.ece_perfect:.3f}); n {row.n}, effective {row.n_eff}, {row.n_blocks} blocks of"
        f" {row.block_s:g} s{', tentative' if row.tentative else ''}"
        for one in found.datasets
        if version in one.models
        for row in one.rows
        if row.instrument == ALL and row.regime == ALL
    )


def _percent(share: float | None, span: Interval | None) -> str:
    if share is None:
        return "none"
    return f"{100 * share:.1f} %" + (f" [{100 * span[0]:.1f}, {100 * span[1]:.1f}]" if span else "")
