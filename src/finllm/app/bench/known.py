"""Known worlds as the gate meets them: every document read by the real room, every flag of the market's own.

Reading depends on no policy, so a world is read once and every policy lives through the same one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from finllm.app.reader import open_room
from finllm.domain.errors import InputError
from finllm.domain.evidence import EvidenceNotice
from finllm.domain.forecast import Forecast, Rung, Status
from finllm.domain.identity import content_id
from finllm.domain.units import NS_PER_S
from finllm.escalation.gate import conflict_of
from finllm.market.known.base import REACH, REGIMES, TILT_C
from finllm.market.known.law import BAND, GRID_S, HORIZONS_S, LISTINGS, Law
from finllm.market.known.stories import Alarm, Told
from finllm.market.known.world import Day, days
from finllm.market.known.worth import Truth, truth_of
from finllm.narrative.room import Narrative, NarrativeSettings

THIN: Final = "thin book"
"""Event type of the notices that the market's own flags raise."""
_MOST_SEED: Final = 2**63 - 1
LIFE: Final = 0.8
"""Of a horizon, in which a verdict may still change its forecast."""


@dataclass(frozen=True, slots=True)
class Occasion:
    """A document received, or a flag of the market's: what a policy may ask about."""

    ts: int
    instrument: int
    notice: EvidenceNotice | None
    """None of a document in which the room sees nothing new for the instrument: the gate is not asked."""
    told: Told | None
    """None of a flag."""


@dataclass(frozen=True, slots=True)
class Read:
    """A day of a world, read."""

    seed: int
    day: Day
    truth: Truth
    occasions: tuple[Occasion, ...]
    """In order of time."""


def check_seed(seed: int, place: str) -> None:
    """Check that there is a world of a seed.

    Raises:
        InputError: If there is none, naming where it was given.
    """
    if not 0 <= seed <= _MOST_SEED:
        raise InputError(f"{seed} is no seed", place=place, mend=f"Say 0 to {_MOST_SEED}.")


def read_world(
    law: Law, seed: int, n_days: int, told: Callable[[str], None] = lambda _: None
) -> Iterator[Read]:
    """Yield the days of a world as read by one room that lives through them all.

    Args:
        law: The world's.
        seed: The world's.
        n_days: How many days.
        told: Told what is being read.
    """
    room = open_room(NarrativeSettings(encoder="hashing"))
    for listing in LISTINGS:
        room.watch(listing.key, aliases=listing.names, now=0)
    for number, day in enumerate(days(law, seed, n_days)):
        told(f"seed {seed}, day {number + 1} of {n_days}: {len(day.plan.told):,} documents")
        truth = truth_of(day)
        found = [_read(room, one, day, truth) for one in day.plan.told]
        found += [_flagged(alarm) for alarm in day.plan.alarms]
        found.sort(key=lambda each: each.ts)
        yield Read(seed, day, truth, tuple(found))


def _read(room: Narrative, one: Told, day: Day, truth: Truth) -> Occasion:
    document, i = one.document, one.story.instrument
    key, ts = LISTINGS[i].key, document.ts_recv
    admission = room.admit(document, ts)
    notice = next((n for n in admission.notices if n.instrument == key), None)
    if notice is not None:
        z = float(truth.base.z[i, day.step(ts)])
        notice = replace(notice, conflict=conflict_of(notice.stance, z))
    return Occasion(ts, i, notice, one)


def _flagged(alarm: Alarm) -> Occasion:
    key = LISTINGS[alarm.instrument].key
    notice = EvidenceNotice(
        notice_id=content_id("flag", key, alarm.ts),
        instrument=key,
        ts_recv=alarm.ts,
        evidence_id=content_id("thin", key, alarm.ts),
        relevance=1.0,
        novelty=1.0,
        credibility=min(0.95, 0.2 * alarm.strength),
        stance=-1.0 if alarm.is_down else 1.0,
        burst=1.0,
        event_type=THIN,
    )
    return Occasion(alarm.ts, alarm.instrument, notice, None)


def standing_at(read: Read, i: int, ts: int) -> tuple[Forecast, ...]:
    """Return the forecasts of an instrument that stand at an instant, shortest horizon first."""
    step = read.day.step(ts)
    issued = read.day.start + step * GRID_S * NS_PER_S
    base = read.truth.base
    made = []
    for h, reach in enumerate(REACH):
        if not base.is_open[h, step]:
            continue
        down, flat, up = base.p[i, h, step].tolist()
        sigma = float(base.sigma[i, h, step])
        q = (-1.28 * sigma, -0.67 * sigma, 0.0, 0.67 * sigma, 1.28 * sigma)
        horizon_ns = reach * GRID_S * NS_PER_S
        made.append(
            Forecast(
                forecast_id=f"{read.seed}-{i}-{h}-{issued}",
                instrument=LISTINGS[i].key,
                horizon=f"{HORIZONS_S[h]}s",
                horizon_ns=horizon_ns,
                horizon_s=float(HORIZONS_S[h]),
                ts_event=issued,
                ts_recv=issued,
                ts_emit=issued,
                valid_until=issued + int(LIFE * horizon_ns),
                epoch=1,
                version=1,
                base_version=0,
                base=(down, flat, up),
                emitted=(down, flat, up),
                base_q=q,
                emitted_q=q,
                band_bps=BAND * sigma,
                regime=REGIMES[int(base.regime[i, step])],
                model_version="known",
                calibration_version=0,
                outlook_version=0,
                spec_hash="known",
                row_seq=step,
                status=Status.SPECULATIVE,
                flags=1,
                rung=Rung.FULL,
                tilt_c=TILT_C,
            )
        )
    return tuple(made)
