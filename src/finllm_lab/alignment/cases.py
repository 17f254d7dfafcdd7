"""Cases as arrays: what the space is trained and weighed on."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from finllm.domain.evidence import Document, Evidence, EvidenceKind
from finllm.domain.identity import content_id
from finllm.narrative.alignment.anomalies import Anomaly, AnomalyDetector, Window
from finllm.narrative.alignment.explanations import Move, moves_of
from finllm.narrative.alignment.space import LAG_EDGES, text_features
from finllm.narrative.reading.claims import event_of
from finllm.narrative.reading.encoder import Encoder
from finllm.narrative.reading.linking import Link, Linker
from finllm.narrative.reading.reader import Reader
from finllm.narrative.text.canonical import canonical_text
from finllm_lab.alignment.planted import BEAT_NS, INSTRUMENTS, Case, plant

Array = npt.NDArray[np.float64]
REACH_NS = 8 * BEAT_NS
"""A move that begins this long after the planted one is another."""


class CaseReader:
    """Reads documents as the room does, without its memory: each as if nothing like it came before."""

    def __init__(self, encoder: Encoder, heads: Reader, linker: Linker) -> None:
        self.encoder = encoder
        self._heads = heads
        self._linker = linker

    def links(self, text: str, symbols: tuple[str, ...] = ()) -> tuple[Link, ...]:
        """Return the instruments that a canonical text is about."""
        return self._linker.link(text, symbols)

    def claims(self, document: Document, instrument: str) -> list[Evidence]:
        """Return a document's claims about an instrument: one, or none."""
        text = canonical_text(document.text)
        links = self.links(text, document.symbols)
        about = [link for link in links if link.instrument == instrument]
        if not text or not about:
            return []
        names = tuple(sorted({span for link in links for span in link.spans}))
        stance = self._heads.stance(text, names)
        kind = event_of(text, text)
        return [
            Evidence(
                evidence_id=content_id(document.document_id, link.instrument),
                kind=EvidenceKind.CLAIM,
                instrument=link.instrument,
                ts_recv=document.ts_recv,
                origin=document.source,
                document_id=document.document_id,
                span=(0, len(text)),
                quote=text,
                stance=stance,
                novelty=1.0,
                relevance=link.relevance,
                event_type=kind,
                encoder=self.encoder.name,
            )
            for link in about
        ]

    def features(self, claim: Evidence) -> Array:
        """Return what the text's network reads."""
        return text_features(claim, self.encoder.embed(claim.quote))


def planted_reader(encoder: Encoder, heads: Reader) -> CaseReader:
    """Return a reader that watches the planted instruments."""
    linker = Linker()
    for instrument, names in INSTRUMENTS:
        linker.watch(instrument, names)
    return CaseReader(encoder, heads, linker)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A case as found: its move, and what was claimed about its instrument."""

    case: Case
    move: Move
    detector: AnomalyDetector
    claims: tuple[Evidence, ...]


def watch(case: Case) -> tuple[AnomalyDetector, Move | None]:
    """Return a case's market as walked, and the planted move; None if it was not noticed."""
    detector = AnomalyDetector(case.instrument)
    found: list[Anomaly] = []
    for start, values in zip(case.starts, case.channels, strict=True):
        found += detector.push(start, start + BEAT_NS, values)
    moves = (m for m in moves_of(found) if 0 <= m.ts_start - case.onset < REACH_NS)
    return detector, next(moves, None)


def see(case: Case, reader: CaseReader) -> Seen | None:
    """Return a case as found; None if its move was not noticed."""
    detector, move = watch(case)
    if move is None:
        return None
    claims = [
        claim for document in case.documents for claim in reader.claims(document, case.instrument)
    ]
    return Seen(case=case, move=move, detector=detector, claims=tuple(claims))


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A case as arrays, with all its candidates within reach."""

    kind: str
    window: Window
    ts: int
    """When the move began, ns UTC."""
    texts: Array
    """[n, F] of the candidates."""
    claims: tuple[Evidence, ...]
    """The n candidates."""
    lags: Array
    """[n] beats."""
    right: int
    """Index of the cause; -1 = it is not among them."""


def example(seed: int, reader: CaseReader, among: tuple[int, ...]) -> Example | None:
    """Return a case of the half to train on; None if its move was not noticed or nothing is near.

    Args:
        seed: The case's.
        reader: Reads its documents.
        among: Which ways of telling an event it has.
    """
    seen = see(plant(seed, 0, among), reader)
    if seen is None:
        return None
    end = seen.detector.position(seen.move.ts_start) + 1.0
    near = [
        (claim, lag)
        for claim in seen.claims
        for lag in [end - seen.detector.position(claim.ts_recv)]
        if LAG_EDGES[0] <= lag < LAG_EDGES[-1]
    ]
    if not near:
        return None
    ids = [claim.document_id for claim, _ in near]
    return Example(
        kind=seen.case.kind,
        window=seen.detector.window(seen.move.ts_start),
        ts=seen.move.ts_start,
        texts=np.array([reader.features(claim) for claim, _ in near]),
        claims=tuple(claim for claim, _ in near),
        lags=np.array([lag for _, lag in near]),
        right=ids.index(seen.case.cause) if seen.case.cause in ids else -1,
    )


def masked(window: Window, *, channels: Sequence[int] = (), after: int | None = None) -> Window:
    """Return a window without some channels, and without what came from one row on."""
    out = window.copy()
    out[:, list(channels)] = np.nan
    if after is not None:
        out[after:] = np.nan
    return out
