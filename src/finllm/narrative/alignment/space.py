"""Alignment: what a text says and what a market did, as vectors in one space.

Two small networks, learnt so that a piece of news and the move it caused point the same way. They say
how well content fits a trace: direction, size, kind. Who is meant and when it came are told apart from
that, and all three make one probability, in which "none of these" has its share.
"""

import re
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from finllm.domain.errors import ArtifactError
from finllm.domain.evidence import Evidence
from finllm.domain.units import NS_PER_S
from finllm.narrative.alignment.anomalies import AFTER, BEFORE, N_CHANNELS, Window
from finllm.narrative.reading.claims import EVENT_TYPES
from finllm.narrative.reading.encoder import Embedding

Vector = npt.NDArray[np.float64]

SHIPPED: Final = Path(__file__).parent.parent / "weights"
MARKET_ONLY: Final = 0.35
"""A relevance up to this comes from words about the whole market or from an ambiguous name."""
SEGMENTS: Final = ((-16, -4), (-4, 0), (0, 2), (2, 6), (6, 16))
"""Parts of a window, in beats from the beat it is about."""
LAG_EDGES: Final = (-8.0, -3.0, -1.0, 0.0, 2.0, 3.0, 4.0, 6.0, 9.0, 13.0, 20.0, 40.0)
"""Beats from the document to the end of the move's first beat; negative = the market led. A document
outside is no candidate. Within the move's first beat and in the one before it are one bin: how long a
beat is says nothing about the cause."""
N_LAGS: Final = len(LAG_EDGES) - 1
_SIGNED: Final = (0, 4)
"""Channels that add up over beats; the others are averaged."""
_FIGURES: Final = ("stance", "strength", "percent", "money", "has_percent", "has_money", "novelty")
_ENTITY: Final = ("relevance", "is_market")
N_TEXT_EXTRAS: Final = len(_FIGURES) + len(_ENTITY) + len(EVENT_TYPES)
N_MARKET: Final = len(SEGMENTS) * (N_CHANNELS + 1) + N_CHANNELS + 2

_PERCENT = re.compile(r"(\d[\d,]*\.?\d*)\s?(%|per ?cent\b|basis points?\b|bps?\b)", re.IGNORECASE)
_MONEY = re.compile(
    r"(\d[\d,]*\.?\d*)\s?(trillion|billion|million|thousand|trn?|bn|mln|m|b|k)\b", re.IGNORECASE
)
_MILLIONS: Final = {"t": 1e6, "b": 1e3, "m": 1.0, "k": 1e-3, "thousand": 1e-3}


def figures(text: str) -> tuple[float, float]:
    """Return the largest percentage that a text states, and the largest amount in millions; 0 if none."""
    percent = money = 0.0
    for match in _PERCENT.finditer(text):
        percent = max(percent, _number(match.group(1)))
    for match in _MONEY.finditer(text):
        unit = match.group(2).lower()
        money = max(
            money, _number(match.group(1)) * _MILLIONS.get(unit, _MILLIONS.get(unit[0], 1.0))
        )
    return percent, money


def _number(written: str) -> float:
    return float(written[:18].replace(",", ""))


def text_features(claim: Evidence, embedding: Embedding) -> Vector:
    """Return what the text's network reads; [dim + N_TEXT_EXTRAS].

    The time of day is left to the market's side: on both it would be a short cut, by which whatever
    came at the same hour matched.

    Args:
        claim: What the room made of the document for one instrument.
        embedding: Of the claim's quote.
    """
    percent, money = figures(claim.quote)
    kinds = [float(claim.event_type == kind) for kind in EVENT_TYPES]
    is_market = float(claim.relevance <= MARKET_ONLY)
    said = (
        claim.stance,
        abs(claim.stance),
        float(np.log1p(min(percent, 1e4))),
        float(np.log1p(min(money, 1e7))),
        float(percent > 0.0),
        float(money > 0.0),
        claim.novelty,
        claim.relevance,
        is_market,
    )
    return np.concatenate([embedding.astype(np.float64), said, kinds])


def market_features(window: Window, ts: int) -> Vector:
    """Return what the market's network reads; [N_MARKET].

    Args:
        window: z-scores around a beat, NaN where not measured or not yet known.
        ts: When that beat began.
    """
    known = np.isfinite(window)
    z = np.where(known, window, 0.0)
    parts: list[Vector] = []
    for start, end in SEGMENTS:
        rows = slice(BEFORE + start, min(BEFORE + end, BEFORE + AFTER))
        n = known[rows].sum(axis=0)
        total = z[rows].sum(axis=0)
        mean = total / np.maximum(n, 1)
        mean[list(_SIGNED)] = (total / np.sqrt(np.maximum(n, 1)))[list(_SIGNED)]
        tamed: Vector = np.sign(mean) * np.log1p(np.abs(mean))
        parts += [tamed, np.array([float(n.any())])]
    angle = 2.0 * np.pi * _of_day(ts)
    parts += [
        np.asarray(known.any(axis=0), dtype=np.float64),
        np.array([np.sin(angle), np.cos(angle)]),
    ]
    return np.concatenate(parts)


def _of_day(ts: int) -> float:
    moment = datetime.fromtimestamp(ts // NS_PER_S, UTC)
    return (moment.hour * 3_600 + moment.minute * 60 + moment.second) / 86_400.0


class Projection(msgspec.Struct, frozen=True):
    """A network of one hidden layer onto the sphere."""

    shift: Vector
    """[n_in], taken off."""
    scale: Vector
    """[n_in], multiplied by."""
    hidden: Vector
    """[n_in, n_hidden]."""
    hidden_bias: Vector
    out: Vector
    """[n_hidden, dim]."""
    out_bias: Vector

    def __call__(self, x: Vector) -> Vector:
        """Return rows of unit length, [n, dim], of rows [n, n_in]."""
        inner = np.maximum(((x - self.shift) * self.scale) @ self.hidden + self.hidden_bias, 0.0)
        y = inner @ self.out + self.out_bias
        length = np.sqrt((y * y).sum(axis=1, keepdims=True))
        return np.asarray(y / np.maximum(length, 1e-12))


class Weighing(msgspec.Struct, frozen=True, kw_only=True):
    """How content, time and name make one log-odds; fitted by maximum likelihood."""

    content: float
    """Per unit of the cosine."""
    lag: float
    """Per unit of the log-likelihood ratio of the lag."""
    relevance: float
    """Per unit of the log of the relevance."""
    nothing: float
    """Log-odds that none of the candidates is the cause."""


class SpaceCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a space is, what it was learnt from and how good it is."""

    version: str
    """Hash of the weights."""
    encoder: str
    """The only encoder whose vectors it takes."""
    shapes: tuple[tuple[int, ...], ...]
    """Of the arrays of the text's network, then the market's, in the order of `Projection`."""
    sha256: str
    weighing: Weighing
    lag_ratios: tuple[tuple[float, ...], ...]
    """[len(EVENT_TYPES), N_LAGS]: log-likelihood ratio of a lag under cause and under chance."""
    data: tuple[str, ...]
    licence: str
    split: str
    scores: dict[str, float]
    command: str


class AlignedSpace:
    """The space.

    Args:
        text: The network of texts.
        market: The network of windows.
        card: What it is.
    """

    def __init__(self, text: Projection, market: Projection, card: SpaceCard) -> None:
        self.card = card
        self._text = text
        self._market = market

    @property
    def name(self) -> str:
        """Return the space's name with its version, for what it explains."""
        return f"aligned/{self.card.version}"

    def texts(self, features: Sequence[Vector]) -> Vector:
        """Return texts in the space, [n, dim]."""
        return self._text(np.array(features))

    def market(self, window: Window, ts: int) -> Vector:
        """Return a window in the space, [dim]."""
        return np.asarray(self._market(market_features(window, ts)[None])[0])

    def log_odds(self, cosine: Vector, lag_beats: Vector, claims: Sequence[Evidence]) -> Vector:
        """Return the log-odds of each claim as the cause, against one that fits neither well nor badly.

        Args:
            cosine: [n], of text and window.
            lag_beats: [n], within `LAG_EDGES`.
            claims: The n claims.
        """
        w = self.card.weighing
        ratios = [
            self.card.lag_ratios[_kind(claim)][lag_bin(lag)]
            for claim, lag in zip(claims, lag_beats.tolist(), strict=True)
        ]
        names = np.log(np.maximum([claim.relevance for claim in claims], 1e-3))
        return w.content * cosine + w.lag * np.array(ratios) + w.relevance * names

    def probabilities(self, log_odds: Vector) -> tuple[Vector, float]:
        """Return each candidate's probability of being the cause, and that of none of them."""
        top = max(float(log_odds.max(initial=-np.inf)), self.card.weighing.nothing)
        weights = np.exp(log_odds - top)
        nothing = float(np.exp(self.card.weighing.nothing - top))
        total = float(weights.sum()) + nothing
        return weights / total, nothing / total


def lag_bin(lag_beats: float) -> int:
    """Return the bin of a lag within `LAG_EDGES`."""
    return min(max(bisect_right(LAG_EDGES, lag_beats) - 1, 0), N_LAGS - 1)


def _kind(claim: Evidence) -> int:
    return EVENT_TYPES.index(claim.event_type) if claim.event_type in EVENT_TYPES else -1


def file_names(encoder: str) -> tuple[str, str]:
    """Return the names of the card and of the weights for an encoder."""
    stem = re.sub(r"[^a-z0-9]+", "-", encoder.lower()).strip("-")
    return f"alignment-{stem}.json", f"alignment-{stem}.bin"


def pack_arrays(arrays: Sequence[Vector]) -> bytes:
    """Return arrays as compressed little-endian float32."""
    return zlib.compress(b"".join(one.astype("<f4").tobytes() for one in arrays), 9)


def load_space(encoder: str, folder: Path = SHIPPED) -> AlignedSpace:
    """Return the space of an encoder.

    Raises:
        ArtifactError: If there is none for it, a file is damaged, or the weights are not the card's.
    """
    card_name, weights_name = file_names(encoder)
    try:
        card = msgspec.json.decode((folder / card_name).read_bytes(), type=SpaceCard)
        packed = (folder / weights_name).read_bytes()
        flat = np.frombuffer(zlib.decompress(packed), dtype="<f4").astype(np.float64)
    except (OSError, msgspec.DecodeError, zlib.error, ValueError) as error:
        raise ArtifactError(
            f"{folder}: no usable space for the encoder {encoder}: {error}; learn one with "
            "'finllm_lab alignment'"
        ) from error
    if card.encoder != encoder:
        raise ArtifactError(
            f"{folder / card_name}: learnt with {card.encoder}, so it cannot read what {encoder} writes"
        )
    if sha256(packed).hexdigest() != card.sha256:
        raise ArtifactError(
            f"{folder / weights_name}: not the weights that {card_name} names; learn the space anew"
        )
    sizes = [int(np.prod(shape)) for shape in card.shapes]
    if len(sizes) != 12 or sum(sizes) != len(flat):
        raise ArtifactError(f"{folder / weights_name}: {len(flat)} weights, not what the card says")
    ends = np.cumsum(sizes)
    arrays = [
        flat[end - size : end].reshape(shape)
        for end, size, shape in zip(ends, sizes, card.shapes, strict=True)
    ]
    return AlignedSpace(Projection(*arrays[:6]), Projection(*arrays[6:]), card)
