"""One call from what was said to a page on disk and a verdict on whether the figures may be believed."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from finllm.audit.scores import CONVENTIONS, RESAMPLES
from finllm_lab.evaluation.alarms import alarm_of_hunt, alarms_of, waive, waived
from finllm_lab.evaluation.examination import data_sets, market_of
from finllm_lab.evaluation.page import page
from finllm_lab.evaluation.records import Alarm, Evaluation, Hunt
from finllm_lab.experiments import FILE, Experiment, experiments
from finllm_lab.walk import Said

STOPPED: Final = 3
"""Exit code of an evaluation that an alarm has stopped."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluation comes to."""

    evaluation: Evaluation
    page: Path
    """Where the report was written, alarm or not."""

    @property
    def standing(self) -> tuple[Alarm, ...]:
        """Return the alarms that no waiver covers."""
        return tuple(one for one in self.evaluation.alarms if one.stands)

    @property
    def exit_code(self) -> int:
        """Return 0, or 3 where an alarm stands: the figures are not to be used before a leak hunt."""
        return STOPPED if self.standing else 0


def report(
    said: Sequence[Said],
    out: Path,
    *,
    title: str = "Evaluation",
    hunts: Sequence[Hunt] = (),
    waivers: Mapping[str, str] | None = None,
    record_file: Path = FILE,
    name_of: Callable[[Said], str] = market_of,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Verdict:
    """Score what was said, write one self-contained page, and say whether an alarm stands.

    Args:
        said: One record for each session, instrument and horizon.
        out: The page, HTML.
        title: Its heading.
        hunts: What hunts for look-ahead have found.
        waivers: Why the alarms of a data set may pass, by data set; logged in the experiment record.
        record_file: The experiment record: trials, openings and waivers are read from it.
        name_of: Which data set a record belongs to.
        resamples: Bootstrap draws.
        seed: Of everything drawn.

    Raises:
        InputError: If a record does not hold together, or a waiver names no alarm that stands.
    """
    found = evaluate(
        said,
        experiments(record_file),
        title=title,
        hunts=hunts,
        name_of=name_of,
        resamples=resamples,
        seed=seed,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(found), encoding="utf-8")
    if waivers:
        waive(found, waivers, file=record_file)
        found = with_waivers(found, experiments(record_file))
        out.write_text(page(found), encoding="utf-8")
    return Verdict(evaluation=found, page=out)


def evaluate(
    said: Sequence[Said],
    past: Sequence[Experiment],
    *,
    title: str = "Evaluation",
    hunts: Sequence[Hunt] = (),
    name_of: Callable[[Said], str] = market_of,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Return all figures, alarms and what is known of earlier trials; writes nothing."""
    datasets = data_sets(said, resamples=resamples, seed=seed, name_of=name_of)
    alarms = [one for one in map(alarm_of_hunt, hunts) if one is not None]
    unchecked: list[str] = []
    for one in datasets:
        rung, missing = alarms_of(one)
        alarms += rung
        unchecked += missing
    found = Evaluation(
        title=title,
        datasets=datasets,
        alarms=tuple(alarms),
        unchecked=tuple(unchecked),
        hunts=tuple(hunts),
        trials=_count(past, "trial"),
        openings=_count(past, "opening"),
        conventions=CONVENTIONS,
    )
    return with_waivers(found, past)


def with_waivers(evaluation: Evaluation, past: Sequence[Experiment]) -> Evaluation:
    """Return an evaluation whose alarms carry the waivers that the record holds for them."""
    alarms = tuple(waived(one, past) for one in evaluation.alarms)
    return msgspec.structs.replace(evaluation, alarms=alarms)


def _count(past: Sequence[Experiment], kind: str) -> dict[str, int]:
    return dict(sorted(Counter(one.family for one in past if one.kind == kind).items()))
