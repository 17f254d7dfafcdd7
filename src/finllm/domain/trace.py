"""Traces: the human-readable why of a revision, made of statements that a machine can check."""

import msgspec


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence of a trace. Every number and quote in it is listed with its evidence."""

    text: str
    evidence_id: str = ""
    """Empty for a sentence that states only the verdict's own figures."""
    number: float | None = None
    """The number as stated in the text, if any."""
    field: str = ""
    """Which field of the evidence, or of the verdict, that number is."""
    quote: str = ""
    """An exact span of the evidence's document, if any."""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """Why one revision was made."""

    trace_id: str
    forecast_id: str
    verdict_id: str
    version: int
    ts: int
    headline: str
    statements: tuple[Statement, ...]
    """Largest effect first."""
