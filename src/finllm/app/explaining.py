"""The explaining path: when a trace is written, its fidelity, and what does not hold in it struck.

It comes after the revision that it explains and is the first to be given up. Nothing here is read by
whatever decides.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Final, Protocol

import msgspec

from finllm.app.recording import Traces
from finllm.audit.traces import struck
from finllm.domain.evidence import EvidencePack
from finllm.domain.forecast import Forecast, Rung
from finllm.domain.protocol import Escalate, Verdict
from finllm.domain.trace import NOT_WRITTEN, Fidelity, Trace, not_written
from finllm.domain.units import NS_PER_MS
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.reasoning.explain import explain
from finllm.reasoning.fidelity import Repeatable, measure
from finllm.reasoning.reasoner import Reasoner

TRACE_NS: Final = 25 * NS_PER_MS
"""Least time between two traces, and from a revision to its own: about what one takes to write."""
MOST_WAITING: Final = 16
"""Revisions that wait for their trace; beyond, the newest gets none."""


class Answerable(Repeatable, Reasoner, Protocol):
    """A reasoner that can be asked a question again, and about less evidence."""


class Explainer:
    """Writes traces. Pure: the same records, the same trace.

    Args:
        repeatable: The reasoners that can be asked again; the embedded one that ships when None.
    """

    def __init__(self, repeatable: tuple[Answerable, ...] | None = None) -> None:
        known = (EmbeddedReasoner(),) if repeatable is None else repeatable
        self._repeatable = {reasoner.name: reasoner for reasoner in known}

    def can_ask(self, reasoner: str) -> bool:
        """Return whether a reasoner can be asked again here."""
        return reasoner in self._repeatable

    def judge(
        self, question: Escalate, verdict: Verdict, before: Forecast, pack: EvidencePack, now: int
    ) -> Verdict | None:
        """Return what a verdict's reasoner says again of the same records; None where it is not at hand."""
        reasoner = self._repeatable.get(verdict.reasoner)
        if reasoner is None:
            return None
        (again,) = reasoner.judge(question, (before,), pack, now, 1).verdicts
        return again

    def write(
        self,
        verdict: Verdict,
        before: Forecast,
        after: Forecast,
        pack: EvidencePack,
        texts: Mapping[str, str],
        fidelity: Fidelity | None = None,
    ) -> Trace:
        """Return why a verdict made one version of another.

        Args:
            verdict: The verdict that was applied.
            before: The version that it was about.
            after: The version that it made.
            pack: What it cites from.
            texts: Canonical text of the documents behind the pack, by id.
            fidelity: As measured elsewhere; measured here when None.
        """
        if fidelity is None:
            fidelity = measure(self._repeatable.get(verdict.reasoner), verdict, before, pack)
        draft = explain(verdict, before, after, pack, fidelity)
        return struck(draft, verdict, before, pack, texts)


class Untold(msgspec.Struct, frozen=True, kw_only=True):
    """A revision that waits for its trace."""

    verdict: Verdict
    before: Forecast
    after: Forecast
    pack: EvidencePack


class Explaining:
    """Which revisions get a trace and when: one at a time, and none while the slow path is behind.

    Args:
        explainer: Writes them.
        text_of: Returns a document's canonical text; empty where there is none.
    """

    def __init__(self, explainer: Explainer, text_of: Callable[[str], str]) -> None:
        self._explainer = explainer
        self._text_of = text_of
        self._waiting: deque[tuple[int, Untold]] = deque()
        self._busy_until = 0
        self.traces = Traces()
        """What became of those so far."""

    def put_off(self, untold: Untold, now: int) -> Trace | None:
        """Let a revision wait to be explained; return what stands in place of its trace if too many do."""
        if len(self._waiting) >= MOST_WAITING:
            return self._drop(untold, f"{MOST_WAITING} revisions waited for theirs")
        self._busy_until = max(self._busy_until, now) + TRACE_NS
        self._waiting.append((self._busy_until, untold))
        return None

    def is_next(self, verdict_id: str) -> bool:
        """Return whether a verdict's revision is the next to be explained."""
        return bool(self._waiting) and self._waiting[0][1].verdict.verdict_id == verdict_id

    def tell(self, by: int, rung: Rung) -> Trace | None:
        """Return the next trace if it is due by an instant; below the full rung it is dropped."""
        if not self._waiting or self._waiting[0][0] > by:
            return None
        _, untold = self._waiting.popleft()
        if rung is not Rung.FULL:
            return self._drop(untold, f"the rung was {rung.replace('_', ' ')}")
        names = {e.document_id for e in untold.pack.evidence if e.document_id}
        texts = {name: text for name in sorted(names) if (text := self._text_of(name))}
        trace = self._explainer.write(
            untold.verdict, untold.before, untold.after, untold.pack, texts
        )
        self.traces = _counted(self.traces, trace)
        return trace

    def _drop(self, untold: Untold, why: str) -> Trace:
        after = untold.after
        trace = not_written(
            after.forecast_id, untold.verdict.verdict_id, after.version, after.ts_emit, why
        )
        self.traces = _counted(self.traces, trace)
        return trace


def total(traces: Iterable[Trace]) -> Traces:
    """Return what became of traces."""
    return reduce(_counted, traces, Traces())


def _counted(counts: Traces, trace: Trace) -> Traces:
    if trace.refused.startswith(NOT_WRITTEN):
        return msgspec.structs.replace(counts, dropped=counts.dropped + 1)
    return msgspec.structs.replace(
        counts,
        written=counts.written + 1,
        refused=counts.refused + bool(trace.refused),
        struck=counts.struck + sum(bool(one.struck) for one in trace.statements),
        unfaithful=counts.unfaithful + trace.fidelity.is_low,
    )
