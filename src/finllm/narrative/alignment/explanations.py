"""Explanations: which document may be behind a move, and which moves a document may be behind.

Two ways of asking, kept apart. `look_back` knows what came afterwards: it is for telling how things
went. `so_far` is asked as of an instant and sees nothing received later; only it may feed a forecast.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np

from finllm.domain.errors import InputError
from finllm.domain.evidence import Evidence
from finllm.narrative.alignment.anomalies import Anomaly, AnomalyDetector
from finllm.narrative.alignment.space import LAG_EDGES, AlignedSpace, Vector, fit, text_features
from finllm.narrative.reading.encoder import Encoder

LEAST_P: Final = 0.05
"""An explanation less probable than this is not told."""
MOST_VECTORS: Final = 65_536
"""Vectors of claims kept between questions."""


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Anomalies of one instrument that belong together."""

    move_id: str
    instrument: str
    ts_start: int
    """When its first beat began."""
    ts_recv: int
    """When that beat could be known."""
    anomalies: tuple[Anomaly, ...]
    """In order of receipt."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One document as the cause of one move."""

    document_id: str
    evidence_id: str
    move_id: str
    instrument: str
    lag_ns: int
    """From the document's receipt to the end of the move's first beat; negative = the market led."""
    lag_beats: float
    """The same on the market's own clock, on which nights take no time."""
    fit: float
    """How much likelier what the text says and what the market did are together than by chance, as a
    natural logarithm."""
    p: float
    """Probability that this document is the cause, among all that could be, and none."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What may be behind one move."""

    move: Move
    explanations: tuple[Explanation, ...]
    """Most probable first; ties by id. Empty = nothing fits, and no guess is made."""
    n_candidates: int
    """Claims about the instrument, received within reach of the move."""
    p_nothing: float
    """Probability that none of them is behind it."""


def moves_of(anomalies: Iterable[Anomaly]) -> tuple[Move, ...]:
    """Return anomalies, in order of receipt, as moves, in order of their beginning."""
    found: dict[str, list[Anomaly]] = {}
    for anomaly in anomalies:
        found.setdefault(anomaly.move_id, []).append(anomaly)
    return tuple(
        Move(
            move_id=move_id,
            instrument=group[0].instrument,
            ts_start=group[0].ts_start,
            ts_recv=group[0].ts_recv,
            anomalies=tuple(group),
        )
        for move_id, group in found.items()
    )


class Explainer:
    """Joins the claims about one instrument with what its market did.

    Args:
        space: Where both are vectors.
        encoder: The encoder that the space was learnt with.
        detector: The instrument's recent past.

    Raises:
        InputError: If the encoder is another.
    """

    def __init__(self, space: AlignedSpace, encoder: Encoder, detector: AnomalyDetector) -> None:
        if encoder.name != space.card.encoder:
            raise InputError(
                f"the space reads {space.card.encoder}, not {encoder.name}",
                place="alignment",
                mend="Load the space of this encoder, or learn one with 'finllm_lab alignment'.",
            )
        self._space = space
        self._encoder = encoder
        self._detector = detector
        self._vectors: dict[str, Vector] = {}

    def look_back(self, move: Move, claims: Sequence[Evidence], least_p: float = LEAST_P) -> Answer:
        """Return what may be behind a move, knowing all that came after it.

        Claims received up to `-LAG_EDGES[0]` beats after it count: the market may have led.
        """
        return self._answer(move, claims, 2**62, least_p)

    def so_far(
        self, move: Move, claims: Sequence[Evidence], as_of: int, least_p: float = LEAST_P
    ) -> Answer:
        """Return what may be behind a move by what was known at an instant.

        Nothing received later has any part in it: neither claims, nor beats, nor the move's later anomalies.

        Raises:
            InputError: If the move was not known by then.
        """
        if move.ts_recv > as_of:
            raise InputError(
                f"the move was known {move.ts_recv - as_of} ns later",
                place=f"move {move.move_id} as of {as_of}",
                mend="Ask as of a later instant.",
            )
        known = tuple(one for one in move.anomalies if one.ts_recv <= as_of)
        seen = msgspec.structs.replace(move, anomalies=known)
        return self._answer(seen, [c for c in claims if c.ts_recv <= as_of], as_of, least_p)

    def _answer(self, move: Move, claims: Sequence[Evidence], as_of: int, least_p: float) -> Answer:
        end = self._detector.position(move.ts_start) + 1.0
        near = []
        for claim in claims:
            lag = end - self._detector.position(claim.ts_recv, as_of)
            if claim.instrument == move.instrument and LAG_EDGES[0] <= lag < LAG_EDGES[-1]:
                near.append((claim, lag))
        if not near:
            return Answer(move=move, explanations=(), n_candidates=0, p_nothing=1.0)
        texts = np.array([self._vector(claim) for claim, _ in near])
        window = self._detector.window(move.ts_start, as_of)
        market = self._space.market(window, move.ts_start)
        lags = np.array([lag for _, lag in near])
        odds = self._space.log_odds(texts, market, lags, [claim for claim, _ in near])
        p, nothing = self._space.probabilities(odds)
        told = [
            Explanation(
                document_id=claim.document_id,
                evidence_id=claim.evidence_id,
                move_id=move.move_id,
                instrument=move.instrument,
                lag_ns=move.ts_recv - claim.ts_recv,
                lag_beats=round(lag, 3),
                fit=round(float(content), 4),
                p=round(float(chance), 4),
            )
            for (claim, lag), content, chance in zip(near, fit(texts, market), p, strict=True)
            if chance >= least_p
        ]
        told.sort(key=lambda one: (-one.p, one.evidence_id))
        return Answer(
            move=move,
            explanations=tuple(told),
            n_candidates=len(near),
            p_nothing=round(nothing, 4),
        )

    def _vector(self, claim: Evidence) -> Vector:
        if claim.evidence_id not in self._vectors:
            if len(self._vectors) >= MOST_VECTORS:
                self._vectors.clear()
            features = text_features(claim, self._encoder.embed(claim.quote))
            self._vectors[claim.evidence_id] = self._space.texts([features])[0]
        return self._vectors[claim.evidence_id]
