"""The degradation ladder: how much of the system to run, from what is measured. Pure.

Down at once, as far as needed; up one rung at a time, and only when the measures are clearly good
again, so that a load at the threshold does not make the rung flicker.
"""

from typing import Final

import msgspec

from finllm.domain.forecast import Rung


class LadderSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Thresholds of the rungs."""

    backlog_no_explanation: int = 4
    """Questions waiting above which explanations stop."""
    backlog_few: int = 16
    """Questions waiting above which only the most valuable ones are asked."""
    calm_share: float = 0.5
    """A rung is left upwards only when the backlog is at most this share of its threshold."""
    failures_edge_only: int = 3
    """Failed answers in a row after which the slow path is left alone."""


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """What the ladder looks at.

    The explaining path's own load is not among it: the rung stands on every forecast, and whether traces
    are written must change no byte of one.
    """

    backlog: int = 0
    """Questions waiting in the slow path."""
    reasoner_failures: int = 0
    """Failed or late answers in a row; the caller forgets old ones, or none is ever asked again."""
    recording_ok: bool = True
    """Whether inputs and records are being kept."""
    feed_stale: bool = False
    """Whether the market has been silent for longer than its time-out."""


_ORDER: Final = tuple(Rung)
_DEFAULT: Final = LadderSettings()


def rung(
    measures: Measures, standing: Rung = Rung.FULL, settings: LadderSettings = _DEFAULT
) -> Rung:
    """Return the rung to work on.

    Args:
        measures: The state of things now.
        standing: The rung in force.
        settings: Thresholds.

    Returns:
        The rung that the measures call for if that is lower than the standing one; else one rung
        up, if the measures call for it even with the stricter thresholds; else the standing one.
    """
    called = _ORDER.index(_called(measures, settings))
    stands = _ORDER.index(standing)
    if called >= stands:
        return _ORDER[called]
    calm = _ORDER.index(_called(measures, _calmer(settings)))
    return _ORDER[stands - 1] if calm < stands else standing


def _called(measures: Measures, settings: LadderSettings) -> Rung:
    """Return the rung that the measures call for, whatever stands."""
    if measures.feed_stale:
        return Rung.LAST_VALID
    if not measures.recording_ok or measures.reasoner_failures >= settings.failures_edge_only:
        return Rung.EDGE_ONLY
    if measures.backlog > settings.backlog_few:
        return Rung.FEW_ESCALATIONS
    if measures.backlog > settings.backlog_no_explanation:
        return Rung.NO_EXPLANATION
    return Rung.FULL


def _calmer(settings: LadderSettings) -> LadderSettings:
    """Return the thresholds on the way up: a share of the backlog, and no failure at all."""
    return LadderSettings(
        backlog_no_explanation=int(settings.backlog_no_explanation * settings.calm_share),
        backlog_few=int(settings.backlog_few * settings.calm_share),
        failures_edge_only=1,
    )
