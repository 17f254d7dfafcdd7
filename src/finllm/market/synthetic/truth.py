"""What was planted: the answers, kept apart from the frames and documents."""

from enum import StrEnum

import msgspec


class TruthKind(StrEnum):
    """What a truth is about."""

    REGIME = "regime"
    ANNOUNCEMENT = "announcement"
    ECHO = "echo"
    RUMOUR = "rumour"
    DENIAL = "denial"
    NOISE = "noise"
    DRAIN = "drain"
    GAP = "gap"


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """One planted thing and what it does to one instrument.

    An announcement about the whole market has one truth per instrument with the same document id.
    """

    kind: TruthKind
    instrument: str
    """Instrument key; empty for a document that is about none."""
    ts: int
    """When it truly happened, ns UTC: publication, switch, first thinning, first missing diff."""
    lag_ns: int = 0
    """From `ts` to the first effect on the price; of a gap: to the new snapshot's request."""
    effect_bps: float = 0.0
    """Signed, in the limit; approached exponentially. 0 = none."""
    half_life_ns: int = 0
    """Half-life of that approach, from `ts + lag_ns` on."""
    volatility_gain: float = 0.0
    """Added to the factor of volatility at the same instant: 1 = doubled."""
    volatility_half_life_ns: int = 0
    is_false: bool = False
    """What the document says did not happen."""
    document_id: str = ""
    about: str = ""
    """Document id of the original that an echo repeats or a denial denies."""
    state: str = ""
    """Regime: `calm`, `active` or `stressed`, from `ts` on. Drain: `bid` or `ask`."""
    duration_ns: int = 0
    """How long a drain thins or diffs are missing."""
