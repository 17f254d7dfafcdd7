"""Traces: the human-readable why of a revision, made of statements that a machine can check."""

from typing import Final

import msgspec

from finllm.domain.identity import content_id

LEAST_FIDELITY: Final = 0.7
"""Ablation agreement and surrogate R2 below which a trace says that its terms do not carry the verdict."""
UNFAITHFUL: Final = (
    "Not faithful enough: its terms do not tell what this verdict would be without them."
)
"""What such a trace says, word for word."""


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence of a trace. Every number and quote in it is listed with its evidence."""

    text: str
    evidence_id: str = ""
    """Empty for a sentence that states only the verdict's own figures."""
    number: float | None = None
    """The number as stated in the text, if any."""
    field: str = ""
    """Which field of the evidence, of the verdict or of the fidelity that number is; `conflict` for the
    verdict's own words."""
    quote: str = ""
    """An exact span of the evidence's document, if any."""
    struck: str = ""
    """Why it does not hold; empty if it does. What is struck is kept, and not to be shown as true."""


class Fidelity(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a trace is why: what its terms say, against what the reasoner says of other packs."""

    agreement: float | None = None
    """Ablation agreement, 0 to 1: leaving out each cited piece moves the verdict as its terms say."""
    r2: float | None = None
    """Surrogate R2, at most 1: how well the terms of what is left add up to the verdicts on random subsets
    of the pack."""
    n_ablations: int = 0
    n_subsets: int = 0
    unmeasured: str = ""
    """Why there is no figure, or not both."""

    @property
    def is_low(self) -> bool:
        """Return whether a figure that was measured is below `LEAST_FIDELITY`."""
        measured = (one for one in (self.agreement, self.r2) if one is not None)
        return any(one < LEAST_FIDELITY for one in measured)


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """Why one revision was made."""

    trace_id: str
    forecast_id: str
    verdict_id: str
    version: int
    ts: int
    """When the version that it explains was made, ns UTC; the trace itself comes later."""
    headline: str
    statements: tuple[Statement, ...]
    """Largest effect first."""
    fidelity: Fidelity = Fidelity()
    refused: str = ""
    """Why it is not to be relied on, or was never written; empty if it stands."""


def named(trace: Trace) -> Trace:
    """Return a trace under the id that its content gives it."""
    content = msgspec.structs.replace(trace, trace_id="")
    return msgspec.structs.replace(trace, trace_id=content_id("trace", content))


NOT_WRITTEN: Final = "not written: "
"""How the refusal of a trace begins that was dropped for want of time; it has no statements."""


def not_written(forecast_id: str, verdict_id: str, version: int, ts: int, why: str) -> Trace:
    """Return what stands in place of a trace that was dropped."""
    return named(
        Trace(
            trace_id="",
            forecast_id=forecast_id,
            verdict_id=verdict_id,
            version=version,
            ts=ts,
            headline="",
            statements=(),
            refused=NOT_WRITTEN + why,
        )
    )
