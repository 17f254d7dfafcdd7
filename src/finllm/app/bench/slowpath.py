"""The whole slow path under measurement: from a document to the traces of what it has changed.

The rooms are those that serve, one after the other on one thread: the narrative room, the gate that learns,
the pack, the embedded reasoner, the ledger on a disk. Documents and forecasts are a known world's. Nothing of
a book is in the packs, and time is the documents' own.
"""

from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from typing import Final

import msgspec

from finllm.app.bench.known import Read, standing_at
from finllm.app.bench.learning import SETTINGS
from finllm.app.explaining import Explainer
from finllm.app.reader import open_room
from finllm.domain.evidence import EvidenceNotice, EvidencePack
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Escalate, Verdict
from finllm.domain.revise import revised
from finllm.escalation.gate import Gate
from finllm.escalation.latency import LatencyBelief, LatencyModel
from finllm.ledger.store import Ledger
from finllm.market.known.law import LAW, LISTINGS
from finllm.market.known.stories import Told
from finllm.market.known.world import make_day
from finllm.market.known.worth import truth_of
from finllm.narrative.room import NarrativeSettings
from finllm.reasoning.embedded import EmbeddedReasoner

DOCUMENT: Final = "documents"
QUESTION: Final = "questions"
TRACE: Final = "traces"
SEED: Final = 811
"""The world's."""


class SlowPath(msgspec.Struct, frozen=True, kw_only=True):
    """Lives through one day of a known world again and again, as fast as it can."""

    folder: Path
    """Where each life's ledger is written; whoever made it removes it, with what is left there."""
    settings: NarrativeSettings = NarrativeSettings()
    most: int = 10_000
    """Documents of a life, at most the day's."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return what is counted: documents read, questions answered, traces written."""
        return DOCUMENT, QUESTION, TRACE

    def work(self) -> Iterator[str]:
        """Work without end, yielding each kind as it is done."""
        day = make_day(LAW, SEED, 0)
        world = Read(SEED, day, truth_of(day), ())
        number = 0
        while True:
            ledger = self.folder / f"ledger-{number}"
            life = _Life(self.settings, Ledger.create(ledger), world)
            for told in day.plan.told[: self.most]:
                yield from life.push(told)
            life.close()
            rmtree(ledger)
            number += 1


class _Life:
    """One slow path, with everything in it new.

    Args:
        settings: The narrative room's.
        ledger: New, and its own.
        world: The day, for the forecasts that stand.
    """

    def __init__(self, settings: NarrativeSettings, ledger: Ledger, world: Read) -> None:
        self._room = open_room(settings)
        for listing in LISTINGS:
            self._room.watch(listing.key, aliases=listing.names, now=0)
        self._ledger, self._world = ledger, world
        self._gate, self._belief, self._latency = Gate(SETTINGS), LatencyBelief(), LatencyModel()
        self._reasoner, self._explainer = EmbeddedReasoner(), Explainer()
        self._n_questions = 0

    def push(self, told: Told) -> Iterator[str]:
        """Take in one document, and whatever follows from it."""
        now = told.document.ts_recv
        admission = self._room.admit(told.document, now)
        self._ledger.append(told.document)
        self._ledger.close_due(now)
        yield DOCUMENT
        for notice in admission.notices:
            yield from self._notify(notice, now)

    def _notify(self, notice: EvidenceNotice, now: int) -> Iterator[str]:
        i = next(i for i, listing in enumerate(LISTINGS) if listing.key == notice.instrument)
        standing = tuple(map(self._stands, standing_at(self._world, i, now)))
        answer = self._gate.decide(notice, standing, now, self._belief)
        self._ledger.append(notice)
        self._ledger.append(answer)
        if isinstance(answer, Escalate):
            yield from self._ask(answer, standing)

    def _stands(self, forecast: Forecast) -> Forecast:
        """Return the version of a forecast that stands, opening it if it is new."""
        self._ledger.open_forecast(forecast)
        return self._ledger.latest(forecast.forecast_id) or forecast

    def _ask(self, question: Escalate, standing: tuple[Forecast, ...]) -> Iterator[str]:
        self._n_questions += 1
        wanted = {one.forecast_id for one in question.standing}
        forecasts = tuple(one for one in standing if one.forecast_id in wanted)
        pack = self._room.gather(question.instrument, question.ts)
        thinking = self._latency.draw(question.question_id)
        came = question.ts + thinking
        judgement = self._reasoner.judge(question, forecasts, pack, came, self._n_questions)
        self._belief.observe(thinking)
        self._ledger.append(pack)
        for verdict in judgement.verdicts:
            self._ledger.append(verdict)
        made = [self._ledger.revise(one, came, revised).forecast for one in judgement.verdicts]
        self._ledger.commit()
        self._gate.hear(question, judgement.outlook, came)
        yield QUESTION
        for before, verdict, after in zip(forecasts, judgement.verdicts, made, strict=True):
            if after is not None:
                self._explain(verdict, before, after, pack)
                yield TRACE

    def _explain(
        self, verdict: Verdict, before: Forecast, after: Forecast, pack: EvidencePack
    ) -> None:
        read = {one.document_id for one in pack.evidence}
        texts = {name: self._room.text(name) for name in read}
        self._ledger.append(self._explainer.write(verdict, before, after, pack, texts))

    def close(self) -> None:
        """Commit what is still open."""
        self._ledger.close()
