"""Leak alarms: figures too good to be true stop the evaluation until somebody has hunted for the leak.

Per data set: the 1 s AUC more than 0.03 above that of the baseline column alone, which nearly exhausts
direction; or skill over climatology at 30 s on order books whose interval lies above 3 %, where nobody
has found any. An alarm passes only by a waiver in the experiment record, with its reason; a waiver holds
for the data set, the sessions, the alarm and the model that it was given for, up to the figure that was
looked at.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from finllm.audit.scorecard import ALL, Row
from finllm.domain.errors import InputError
from finllm_lab.evaluation.records import Alarm, DataSet, Evaluation, Hunt
from finllm_lab.experiments import Experiment, record

AUC_LEAD: Final = 0.03
SKILL_LOW: Final = 0.03
NEAR_S: Final = 1.0
FAR_S: Final = 30.0
_SLACK: Final = 1e-9


def alarms_of(found: DataSet) -> tuple[list[Alarm], list[str]]:
    """Return the alarms that a data set raises, and what could not be looked at."""
    if not found.is_book:
        return [], [f"{found.name}: bars have no alarm"]
    alarms: list[Alarm] = []
    unchecked: list[str] = []
    _check_direction(found, alarms, unchecked)
    _check_far_skill(found, alarms, unchecked)
    return alarms, unchecked


def _check_direction(found: DataSet, alarms: list[Alarm], unchecked: list[str]) -> None:
    near = [one for one in found.directions if one.horizon_s == NEAR_S]
    if not near:
        unchecked.append(f"{found.name}: no moves both up and down at {NEAR_S:g} s, so no AUC")
    for one in near:
        if one.lead > AUC_LEAD:
            what = (
                f"{found.name}: at {one.horizon} up is told from down with an AUC of {one.auc:.3f}, "
                f"{one.lead:.3f} above the {one.reference:.3f} of the baseline column alone; "
                f"more than {AUC_LEAD:g} asks for a leak hunt."
            )
            alarms.append(_alarm(found, "auc_1s", one.lead, AUC_LEAD, what))


def _check_far_skill(found: DataSet, alarms: list[Alarm], unchecked: list[str]) -> None:
    far = [row for row in found.rows if _is_pooled(row) and row.horizon_s == FAR_S]
    if not far:
        unchecked.append(f"{found.name}: no forecasts {FAR_S:g} s ahead")
    for row in far:
        span = row.interval.climatology
        if span is None:
            unchecked.append(f"{found.name}: too little time for an interval at {FAR_S:g} s")
        elif span[0] > SKILL_LOW:
            what = (
                f"{found.name}: skill over climatology at {row.horizon} lies between "
                f"{span[0]:.1%} and {span[1]:.1%}; a lower end above {SKILL_LOW:.0%} on order books "
                "asks for a leak hunt."
            )
            alarms.append(_alarm(found, "skill_30s", span[0], SKILL_LOW, what))


def _is_pooled(row: Row) -> bool:
    return row.instrument == ALL and row.regime == ALL


def _alarm(found: DataSet, kind: str, figure: float, bound: float, what: str) -> Alarm:
    return msgspec.convert(
        {
            "dataset": found.name,
            "kind": kind,
            "figure": figure,
            "bound": bound,
            "model": " ".join(found.models),
            "sessions": " ".join(found.sessions),
            "what": what,
        },
        Alarm,
    )


def alarm_of_hunt(hunt: Hunt) -> Alarm | None:
    """Return the alarm that a hunt raises; None if it found nothing. A look-ahead cannot be waived."""
    if not hunt.n_faults:
        return None
    first = hunt.faults[0]
    return Alarm(
        dataset=hunt.dataset,
        kind="look_ahead",
        figure=float(hunt.n_faults),
        bound=0.0,
        model="",
        sessions="",
        what=(
            f"{hunt.dataset}: {hunt.what} depend on what came later: {hunt.n_faults} times, first in "
            f"{first.where}, row {first.row}, {', '.join(first.columns) or 'its very presence'}."
        ),
    )


def waived(alarm: Alarm, past: Sequence[Experiment]) -> Alarm:
    """Return an alarm with the newest waiver in the record that covers it, if any does."""
    if alarm.kind == "look_ahead":
        return alarm
    for one in reversed(past):
        if one.kind == "waiver" and _covers(one, alarm):
            return msgspec.structs.replace(
                alarm, waiver=f"{one.what} (record {one.number}, {one.at})"
            )
    return alarm


def _covers(one: Experiment, alarm: Alarm) -> bool:
    is_same = all(one.config.get(name) == value for name, value in _asked(alarm).items())
    return is_same and alarm.figure <= one.scores.get(alarm.kind, float("-inf")) + _SLACK


def _asked(alarm: Alarm) -> dict[str, str]:
    """Return what a waiver is of."""
    return {
        "dataset": alarm.dataset,
        "alarm": alarm.kind,
        "model": alarm.model,
        "sessions": alarm.sessions,
    }


def waive(evaluation: Evaluation, reasons: Mapping[str, str], *, file: Path) -> list[Experiment]:
    """Log a waiver for every alarm that stands in the data sets named, and return what was logged.

    Args:
        evaluation: What was found.
        reasons: By data set.
        file: The experiment record.

    Raises:
        InputError: If no alarm stands in a data set, a reason is empty, or the alarm cannot be waived.
    """
    logged = []
    for dataset, reason in reasons.items():
        standing = [one for one in evaluation.alarms if one.dataset == dataset and one.stands]
        if not standing:
            raise InputError(
                "no alarm stands in it",
                place=f"--waive {dataset}",
                mend="Waive only what has rung.",
            )
        for alarm in standing:
            _may_be_waived(alarm, reason)
            logged.append(
                record(
                    "waiver",
                    "evaluation",
                    reason,
                    config=_asked(alarm),
                    scores={alarm.kind: alarm.figure},
                    file=file,
                )
            )
    return logged


def _may_be_waived(alarm: Alarm, reason: str) -> None:
    place = f"--waive {alarm.dataset}"
    if alarm.kind == "look_ahead":
        raise InputError(
            "a look-ahead was found", place=place, mend="Mend it; it cannot be waived."
        )
    if not reason.strip():
        raise InputError("no reason is given", place=place, mend=f"Write {alarm.dataset}=why.")
