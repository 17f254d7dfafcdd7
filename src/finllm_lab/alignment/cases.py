"""Cases as arrays: what the space is trained and weighed on."""

from collections.abc import Sequence
from hashlib import sha256

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
from finllm_lab.alignment.planted import BEAT_NS, INSTRUMENTS, Case, another_market

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

    def claims(self, document: Document) -> list[Evidence]:
        """Return a document's claims, one per instrument that it is about."""
        text = canonical_text(document.text)
        links = self.links(text, document.symbols)
        if not text or not links:
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
            for link in links
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
        claim
        for document in case.documents
        for claim in reader.claims(document)
        if claim.instrument == case.instrument
    ]
    return Seen(case=case, move=move, detector=detector, claims=tuple(claims))


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A case as arrays."""

    windows: tuple[tuple[Window, int], ...]
    """One, or several markets that the same news moved: the window, and when its move began."""
    texts: Array
    """[n, F] of the candidates."""
    claims: tuple[Evidence, ...]
    """The n candidates."""
    lags: Array
    """[n] beats."""
    right: int
    """Index of the cause; -1 = it is not among them."""


def weighed_example(seen: Seen, reader: CaseReader) -> Example:
    """Return a case with all its candidates within reach, to weigh content, time and names on."""
    end = seen.detector.position(seen.move.ts_start) + 1.0
    near = [
        (claim, lag)
        for claim in seen.claims
        for lag in [end - seen.detector.position(claim.ts_recv)]
        if LAG_EDGES[0] <= lag < LAG_EDGES[-1]
    ]
    ids = [claim.document_id for claim, _ in near]
    return Example(
        windows=((seen.detector.window(seen.move.ts_start), seen.move.ts_start),),
        texts=np.array([reader.features(claim) for claim, _ in near]),
        claims=tuple(claim for claim, _ in near),
        lags=np.array([lag for _, lag in near]),
        right=ids.index(seen.case.cause) if seen.case.cause in ids else -1,
    )


def contrast_example(
    case: Case, reader: CaseReader, *, n_wrong: int = 20, n_markets: int = 4
) -> Example | None:
    """Return a case with its cause first and some that say otherwise, to learn content from.

    What says the same at another time or of another firm is no contrast of content, and is left out.
    """
    walked = [watch(case)] + [
        watch(another_market(case, hash_of(case.cause) + i)) for i in range(1, n_markets)
    ]
    windows = tuple((d.window(m.ts_start), m.ts_start) for d, m in walked if m is not None)
    wrong = [
        document
        for document, why in zip(case.documents, case.why, strict=True)
        if why in {"opposite", "kind", "size", "noise"}
    ]
    cause = case.documents[case.why.index("cause")]
    stride = max(1, len(wrong) // n_wrong)
    chosen = [cause, *wrong[::stride]]
    claims = [
        claim
        for document in chosen
        for claim in reader.claims(document)
        if claim.instrument == case.instrument
    ]
    if not windows or not claims or claims[0].document_id != cause.document_id:
        return None
    return Example(
        windows=windows,
        texts=np.array([reader.features(claim) for claim in claims]),
        claims=tuple(claims),
        lags=np.zeros(len(claims)),
        right=0,
    )


def hash_of(key: str) -> int:
    """Return a number that depends on a text alone."""
    return int.from_bytes(sha256(key.encode()).digest()[:6], "big")


def masked(window: Window, *, channels: Sequence[int] = (), after: int | None = None) -> Window:
    """Return a window without some channels, and without what came from one row on."""
    out = window.copy()
    out[:, list(channels)] = np.nan
    if after is not None:
        out[after:] = np.nan
    return out
