"""Real headlines whose direction people labelled, beside planted moves of that direction.

A few dozen phrases teach what they say; thousands of headlines teach which words are good and bad news.
SEntFiN, MIT, its training part; a headline counts where all its entities share one direction.
"""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from finllm.domain.errors import InputError
from finllm.domain.evidence import Evidence, EvidenceKind
from finllm.domain.identity import content_id
from finllm.narrative.alignment.space import market_features
from finllm.narrative.reading.claims import event_of
from finllm.narrative.reading.reader import Reader
from finllm.narrative.text.canonical import canonical_text
from finllm_lab.alignment.cases import Array, CaseReader, Example
from finllm_lab.alignment.networks import Pairs

HEADLINES = "sentfin_en.jsonl"
_RELEVANCE = 0.8
"""As of a company that is named."""


def directed(labels: Path, most: int) -> list[tuple[str, bool]]:
    """Return canonical headlines and whether they are good news; the first ones of the training part.

    Raises:
        InputError: If the file cannot be read.
    """
    path = labels / HEADLINES
    try:
        rows: list[dict[str, Any]] = [
            msgspec.json.decode(line) for line in path.read_bytes().splitlines() if line.strip()
        ]
    except OSError as error:
        raise InputError(
            f"cannot be read: {error}", place=str(path), mend="Name the labelled texts' folder."
        ) from error
    found = []
    for row in rows:
        said = set(row["entities"].values())
        if row["split"] == "train" and len(said) == 1 and "neutral" not in said:
            found.append((canonical_text(row["title"]), said == {"positive"}))
    return found[:most]


def headline_pairs(
    headlines: list[tuple[str, bool]],
    moves: list[tuple[Example, bool]],
    reader: CaseReader,
    heads: Reader,
    *,
    n_wrong: int = 8,
    seed: int = 11,
) -> Pairs:
    """Return headlines with planted moves of their direction, and headlines of the other as wrong.

    Args:
        headlines: Texts, and whether they are good news.
        moves: Planted cases, and whether their news was good.
        reader: Gives the features.
        heads: What says how good the news is.
        n_wrong: Headlines of the other direction beside each.
        seed: Of who is put beside whom.
    """
    rng = np.random.default_rng(seed)
    features = np.array([_features(text, reader, heads) for text, _ in headlines])
    good = np.array([is_good for _, is_good in headlines])
    windows: dict[bool, list[Array]] = {True: [], False: []}
    for one, is_good in moves:
        windows[is_good] += [market_features(window, ts) for window, ts in one.windows]
    texts = np.empty((len(headlines), 1 + n_wrong, features.shape[1]), dtype=np.float32)
    texts[:, 0] = features
    markets = np.empty((2, len(headlines), len(windows[True][0])))
    for i, is_good in enumerate(good.tolist()):
        texts[i, 1:] = features[rng.choice(np.flatnonzero(good != is_good), size=n_wrong)]
        near = windows[is_good]
        for variant in range(len(markets)):
            markets[variant, i] = near[int(rng.integers(len(near)))]
    return Pairs(markets=tuple(markets), texts=texts)


def _features(text: str, reader: CaseReader, heads: Reader) -> Array:
    claim = Evidence(
        evidence_id=content_id("headline", text),
        kind=EvidenceKind.CLAIM,
        instrument="",
        ts_recv=0,
        origin="headline",
        quote=text,
        stance=heads.stance(text),
        novelty=1.0,
        relevance=_RELEVANCE,
        event_type=event_of(text, text),
    )
    return reader.features(claim)
