"""What the space must beat: the words of the move itself, nearness in time, and both with the names."""

from typing import Final

import numpy as np
import numpy.typing as npt

from finllm.domain.units import iso
from finllm.narrative.alignment.anomalies import Anomaly

_SAID: Final = {
    ("return", True): "price jumps, rises, gains, up, surges, higher",
    ("return", False): "price falls, drops, slides, down, slumps, lower",
    ("volatility", True): "volatile, wild swings, shock",
    ("spread", True): "spread widens, market stressed",
    ("depth", False): "order book thins out, depth and liquidity drained, lost",
    ("flow", True): "heavy buying, demand, inflows",
    ("flow", False): "heavy selling, outflows, losses",
    ("volume", True): "heavy volume, record trading",
}


def describe(anomalies: list[Anomaly], names: tuple[str, ...]) -> str:
    """Return a move in words, with the instrument's names and the time: the query of the baseline."""
    said = [_SAID.get((one.channel, one.z_score > 0.0), "") for one in anomalies]
    size = "large, huge, massive" if any(abs(one.z_score) > 8.0 for one in anomalies) else "small"
    when = iso(anomalies[0].ts_start)
    return f"{', '.join(names)}: {', '.join(said)}, {size} move at {when}"


def lexical(query: str, texts: list[str]) -> npt.NDArray[np.float64]:
    """Return the TF-IDF cosine (words and pairs) of each text with a query; [len(texts)]."""
    return np.asarray(lexical_all([query], texts)[0])


def lexical_all(queries: list[str], texts: list[str]) -> npt.NDArray[np.float64]:
    """Return the same for several queries over one set of texts; [len(queries), len(texts)]."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    n = len(texts)
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(texts + queries)
    return np.asarray((vectors[n:] @ vectors[:n].T).todense())


def nearness(move: int, received: list[int], beat_ns: int) -> npt.NDArray[np.float64]:
    """Return minus the distance in time of each document from a move, in beats; before counts as after."""
    return -np.abs(move - np.array(received, dtype=np.float64)) / beat_ns


def rank_of(scores: npt.NDArray[np.float64], right: int) -> float:
    """Return the place of the right one, from 1; among equals in the middle."""
    better = float((scores > scores[right]).sum())
    return 1.0 + better + 0.5 * float((scores == scores[right]).sum() - 1)
