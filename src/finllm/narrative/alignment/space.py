"""Alignment: what a text says and what a market did, as vectors in one space.

The axes of the space are what news may be: a kind of event, good or bad, small or large, and nothing at
all. A text is what it seems to tell of, a probability for each axis. A window is what it looks like the
trace of, how much likelier each axis makes it than chance. Their inner product is then how much likelier
the two are as cause and trace than by chance. Kind, direction and size of a text are read apart from
each other, so that a few ways of telling an event are enough to learn from. Who is meant and when it
came are told apart from that, and all three make one probability, in which "none of these" has its share.
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
KINDS: Final = (
    "earnings",
    "guidance",
    "legal",
    "merger",
    "hack",
    "outage",
    "listing",
    "macro",
)
"""Kinds of event whose traces are known."""
DIRECTIONS: Final = ("bad", "good")
SIZES: Final = ("small", "usual", "large")
N_OF_A_KIND: Final = len(DIRECTIONS) * len(SIZES)
N_AXES: Final = len(KINDS) * N_OF_A_KIND + 1
"""By kind, then direction, then size; the last axis is nothing at all."""
N_LOGITS: Final = len(KINDS) + 1 + len(DIRECTIONS) + len(SIZES)
"""What is read of a text: its kind or that it tells of nothing, its direction, its size."""
DOUBT: Final = 0.03
"""Share of a reading, on either side, that is spread evenly: no text and no window is surely anything."""
SIZE_DOUBT: Final = 0.3
"""The same of a text's size alone: what is large for one firm is small for another."""
IDLE: Final = 0.02
"""How far a text that tells of nothing makes a move likelier than chance: no event is behind few moves."""
SEGMENTS: Final = ((-16, -4), (-4, 0), (0, 2), (2, 6), (6, 16))
"""Parts of a window, in beats from the beat it is about."""
LAG_EDGES: Final = (-8.0, -3.0, -1.0, 0.0, 2.0, 3.0, 4.0, 6.0, 9.0, 13.0, 20.0, 40.0)
"""Beats from the document to the end of the move's first beat; negative = the market led. A document
outside is no candidate. Within the move's first beat and in the one before it are one bin: how long a
beat is says nothing about the cause."""
N_LAGS: Final = len(LAG_EDGES) - 1
_SIGNED: Final = (0, 4)
"""Channels that add up over beats; the others are averaged."""
BOOK_ONLY: Final = (2, 3, 4)
"""Channels that bars do not tell."""
N_FIGURES: Final = 4
"""Percentage and money, each as a logarithm and as whether it is stated."""
N_TEXT_EXTRAS: Final = N_FIGURES + 1 + 2 * len(EVENT_TYPES)
"""What is read of a text beside its embedding: figures, stance, kind by key words, stance by kind."""
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
    """Return what is read of a text; [dim + N_TEXT_EXTRAS].

    The time of day is left to the market's side: on both it would be a short cut, by which whatever
    came at the same hour matched.

    Args:
        claim: What the room made of the document for one instrument.
        embedding: Of the claim's quote.
    """
    percent, money = figures(claim.quote)
    stated = (
        float(np.log1p(min(percent, 1e4))),
        float(np.log1p(min(money, 1e7))),
        float(percent > 0.0),
        float(money > 0.0),
    )
    kinds = np.array([float(claim.event_type == kind) for kind in EVENT_TYPES])
    extras = np.concatenate([stated, [claim.stance], kinds, claim.stance * kinds])
    return np.concatenate([embedding.astype(np.float64), extras])


def market_features(window: Window, ts: int) -> Vector:
    """Return what is read of a window; [N_MARKET].

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


class TextReadout(msgspec.Struct, frozen=True):
    """What a text tells of: kind, direction and size, each by a linear read-out of its own."""

    weight: Vector
    """[dim + N_TEXT_EXTRAS, N_LOGITS]."""
    bias: Vector
    """[N_LOGITS]."""

    def __call__(self, x: Vector) -> Vector:
        """Return texts in the space, [n, N_AXES], of rows of features: probabilities."""
        logits = x @ self.weight + self.bias
        ends = len(KINDS) + 1, len(KINDS) + 1 + len(DIRECTIONS)
        kind, direction, size = (_softmax(part) for part in np.split(logits, ends, axis=1))
        size = (1.0 - SIZE_DOUBT) * size + SIZE_DOUBT / len(SIZES)
        even = 1.0 / (N_AXES - 1)
        told = kind[:, :-1, None, None] * direction[:, None, :, None] * size[:, None, None, :]
        said = (1.0 - DOUBT) * told.reshape(len(x), -1) + DOUBT * even * (1.0 - kind[:, -1:])
        return np.concatenate([said, kind[:, -1:]], axis=1)


class MarketReadout(msgspec.Struct, frozen=True):
    """What a window looks like the trace of; a network of one hidden layer."""

    hidden: Vector
    """[N_MARKET, n_hidden]."""
    hidden_bias: Vector
    out: Vector
    """[n_hidden, N_AXES - 1]."""
    out_bias: Vector

    def __call__(self, x: Vector) -> Vector:
        """Return windows in the space, [n, N_AXES], of rows of features: likelihoods against chance."""
        inner = np.maximum(x @ self.hidden + self.hidden_bias, 0.0)
        p = _softmax(inner @ self.out + self.out_bias)
        ratios = (1.0 - DOUBT) * p * (N_AXES - 1) + DOUBT
        return np.concatenate([ratios, np.full((len(x), 1), IDLE)], axis=1)


def _softmax(logits: Vector) -> Vector:
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))


class Weighing(msgspec.Struct, frozen=True, kw_only=True):
    """How content, time and name make one log-odds; fitted by maximum likelihood."""

    content: float
    """Per unit of the log-likelihood ratio of content and lag."""
    lag: float
    """Per unit of the log-likelihood ratio of the lag, within it."""
    relevance: float
    """Per unit of the log of the relevance."""
    nothing: float
    """Log-odds that none of the candidates is the cause, when there is one; many share the same chance."""


class SpaceCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a space is, what it was learnt from and how good it is."""

    version: str
    """Hash of the weights."""
    encoder: str
    """The only encoder whose vectors it takes."""
    shapes: tuple[tuple[int, ...], ...]
    """Of the arrays of the text's read-out, then the market's, in the order of their fields."""
    sha256: str
    weighing: Weighing
    lag_ratios: tuple[tuple[float, ...], ...]
    """[len(KINDS) + 1, N_LAGS]: log-likelihood ratio of a lag under cause and under chance, by kind;
    last that of any kind."""
    data: tuple[str, ...]
    licence: str
    split: str
    scores: dict[str, float]
    command: str


class AlignedSpace:
    """The space.

    Args:
        text: Reads texts.
        market: Reads windows.
        card: What it is.
    """

    def __init__(self, text: TextReadout, market: MarketReadout, card: SpaceCard) -> None:
        self.card = card
        self._text = text
        self._market = market
        self._lag_ratios = np.array(card.lag_ratios)

    @property
    def name(self) -> str:
        """Return the space's name with its version, for what it explains."""
        return f"aligned/{self.card.version}"

    def texts(self, features: Sequence[Vector]) -> Vector:
        """Return texts in the space, [n, N_AXES]."""
        return self._text(np.array(features))

    def market(self, window: Window, ts: int) -> Vector:
        """Return a window in the space, [N_AXES].

        Bars do not tell what became of the book, and how many of them a trace lasts hangs on their length:
        of a window without a book the direction is believed and neither kind nor size.
        """
        found = np.asarray(self._market(market_features(window, ts)[None])[0])
        if not np.isfinite(window[:, BOOK_ONLY]).any():
            axes = found[:-1].reshape(len(KINDS), len(DIRECTIONS), len(SIZES))
            axes[:] = axes.mean(axis=(0, 2), keepdims=True)
        return found

    def log_odds(
        self, texts: Vector, market: Vector, lag_beats: Vector, claims: Sequence[Evidence]
    ) -> Vector:
        """Return the log-odds of each claim as the cause, against one that fits as well as by chance.

        Args:
            texts: [n, N_AXES], of the claims.
            market: [N_AXES], of the window.
            lag_beats: [n], within `LAG_EDGES`.
            claims: The n claims.
        """
        names = log_relevance(claims)
        timed = texts * lag_factors(self._lag_ratios, lag_beats, self.card.weighing.lag)
        w = self.card.weighing
        return w.content * fit(timed, market) + w.relevance * names

    def probabilities(self, log_odds: Vector) -> tuple[Vector, float]:
        """Return each candidate's probability of being the cause, [n >= 1], and that of none of them."""
        none = self.card.weighing.nothing + float(np.log(len(log_odds)))
        top = max(float(log_odds.max()), none)
        weights = np.exp(log_odds - top)
        nothing = float(np.exp(none - top))
        total = float(weights.sum()) + nothing
        return weights / total, nothing / total


def fit(texts: Vector, market: Vector) -> Vector:
    """Return how much likelier each text, [n, N_AXES], and a window, [N_AXES], are together than by chance.

    As a logarithm, [n]. Summed row by row: a matrix product's last bits hang on how many rows there are.
    """
    return np.asarray(np.log((texts * market).sum(axis=1)))


def lag_factors(ratios: Vector, lag_beats: Vector, weight: float) -> Vector:
    """Return how much likelier each lag is than by chance, by axis; [n, N_AXES].

    Args:
        ratios: [len(KINDS) + 1, N_LAGS], logarithms.
        lag_beats: [n], within `LAG_EDGES`.
        weight: Per unit of them.
    """
    by_kind = np.exp(weight * ratios[:, [lag_bin(lag) for lag in lag_beats.tolist()]])
    return np.repeat(by_kind.T, [N_OF_A_KIND] * len(KINDS) + [1], axis=1)


def log_relevance(claims: Sequence[Evidence]) -> Vector:
    """Return the logarithm of each claim's relevance, [n]."""
    return np.log(np.maximum([claim.relevance for claim in claims], 1e-3))


def lag_bin(lag_beats: float) -> int:
    """Return the bin of a lag within `LAG_EDGES`."""
    return min(max(bisect_right(LAG_EDGES, lag_beats) - 1, 0), N_LAGS - 1)


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
    if len(sizes) != 6 or sum(sizes) != len(flat):
        raise ArtifactError(f"{folder / weights_name}: {len(flat)} weights, not what the card says")
    ends = np.cumsum(sizes)
    arrays = [
        flat[end - size : end].reshape(shape)
        for end, size, shape in zip(ends, sizes, card.shapes, strict=True)
    ]
    return AlignedSpace(TextReadout(*arrays[:2]), MarketReadout(*arrays[2:]), card)
