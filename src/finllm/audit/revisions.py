"""Revisions checked from records alone: no clock, no model, no store.

A revision holds when the domain's pure rules, replayed on the standing version, give the same transition
and the same numbers.
"""

from collections.abc import Iterator

from finllm.audit.numbers import same
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Applied, Revision, Verdict, standing_of, transition
from finllm.domain.revise import revised


def check_revision(revision: Revision, before: Forecast, verdict: Verdict) -> list[str]:
    """Return what does not hold in a revision; empty means that all of it does. Pure.

    Args:
        revision: The record of what the verdict did.
        before: The version that stood when it arrived.
        verdict: The verdict.
    """
    failures = _check_names(revision, before, verdict)
    after, applied, _ = transition(standing_of(before), verdict, revision.ts)
    if revision.applied is not applied:
        failures.append(f"recorded as {revision.applied}, the transition rule says {applied}")
    if revision.version != after.version:
        failures.append(f"version {revision.version} stands, the rule says {after.version}")
    if revision.applied is not Applied.APPLIED:
        if revision.forecast is not None:
            failures.append(f"{revision.applied}, yet it carries a new version")
        return failures
    if revision.forecast is None:
        return [*failures, "applied, yet it carries no new version"]
    wanted = revised(before, verdict, revision.ts)
    return [*failures, *_differences(revision.forecast, wanted)]


def _check_names(revision: Revision, before: Forecast, verdict: Verdict) -> list[str]:
    pairs = (
        ("forecast_id", revision.forecast_id, before.forecast_id),
        ("forecast_id of the verdict", verdict.forecast_id, before.forecast_id),
        ("verdict_id", revision.verdict_id, verdict.verdict_id),
        ("base_version", revision.base_version, verdict.base_version),
    )
    return [f"{name} is {is_!r}, not {was!r}" for name, is_, was in pairs if is_ != was]


def _differences(given: Forecast, wanted: Forecast) -> Iterator[str]:
    """Yield each field in which a new version is not what the rules give."""
    for name in Forecast.__struct_fields__:
        is_, should = getattr(given, name), getattr(wanted, name)
        if not same(is_, should):
            yield f"{name} of version {given.version} is {is_!r}, recomputed {should!r}"
