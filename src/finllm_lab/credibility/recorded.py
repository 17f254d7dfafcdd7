"""Recorded rumours and checked claims, as credibility sees them before anybody has replied."""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.app.reader import open_room
from finllm.domain.errors import InputError
from finllm.domain.evidence import Document, EvidenceKind, Reason
from finllm.domain.identity import content_id
from finllm.domain.units import NS_PER_MIN, NS_PER_S
from finllm.narrative.room import Narrative, NarrativeSettings
from finllm_lab.credibility.score import Figure, auc

KEY: Final = "us-equity:SPY"
START: Final = 1_590_969_600 * NS_PER_S
"""2020-06-01, when most of the rumours went round: no date in a text is old by accident."""
_FILES: Final = (
    ("rumours", "covid_rumours_en.jsonl", "text", {"T": True, "F": False}),
    ("checked claims", "fact_checked_claims_en.jsonl.gz", "claim", {"True": True, "False": False}),
)


Floats = NDArray[np.float64]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One claim with the verdict of those who checked it."""

    group: str
    text: str
    is_true: bool


class Separation(msgspec.Struct, frozen=True, kw_only=True):
    """How far credibility tells a group's true claims from its false ones."""

    n: int
    n_true: int
    alone: Figure
    """AUC, where each claim is all that its room has ever read."""
    together: Figure
    """AUC, where they come a minute apart, each from another source: those that are alike corroborate."""
    n_corroborated: dict[str, int]
    """Together, of true and of false claims."""
    n_held_back: dict[str, int]
    """Together, of true and of false claims, when they were received."""


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a room makes of a claim when it is received."""

    credibility: float
    is_corroborated: bool = False
    is_held_back: bool = False


def read_recorded(data: Path) -> Iterator[Recorded]:
    """Yield the training part's claims that are true or false.

    Raises:
        InputError: If a file is missing.
    """
    for name, file, field, labels in _FILES:
        path = data / "misinformation" / file
        if not path.exists():
            raise InputError("no such file", place=str(path), mend="Name the data with --data.")
        opened = gzip.open if file.endswith(".gz") else open
        with opened(path, "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                if row["split"] == "train" and row["label"] in labels:
                    source = f", {row['source']}" if "source" in row else ""
                    yield Recorded(
                        group=f"{name}{source}", text=row[field], is_true=labels[row["label"]]
                    )


def separation(data: Path) -> dict[str, Separation]:
    """Return how far the credibility of each claim, as it is received, tells true from false.

    Claims come in drawn order, from sources of which nothing is known.
    """
    groups: dict[str, list[Recorded]] = {}
    for one in read_recorded(data):
        groups.setdefault(one.group, []).append(one)
    return {name: _separated(rows) for name, rows in groups.items()}


def _separated(rows: list[Recorded]) -> Separation:
    order = np.random.default_rng(7).permutation(len(rows)).tolist()
    drawn = [rows[i] for i in order]
    y = np.array([float(one.is_true) for one in drawn])
    settings = NarrativeSettings(encoder="hashing")
    small = msgspec.structs.replace(
        settings, originals=1
    )  # a room of one text, made thousands of times
    alone = [_seen(_room(small), 0, one, settings.prior) for one in drawn]
    room = _room(settings)
    together = [_seen(room, i, one, settings.prior) for i, one in enumerate(drawn)]
    return Separation(
        n=len(y),
        n_true=int(y.sum()),
        alone=_auc(alone, y),
        together=_auc(together, y),
        n_corroborated=_by_truth([one.is_corroborated for one in together], y),
        n_held_back=_by_truth([one.is_held_back for one in together], y),
    )


def _room(settings: NarrativeSettings) -> Narrative:
    room = open_room(settings)
    room.watch(KEY)
    return room


def _seen(room: Narrative, i: int, row: Recorded, prior: float) -> _Seen:
    """Return what a room makes of a claim as it is received, the i-th from a source of its own.

    A copy makes no claim of its own: it has its source's prior, as if nothing had been said. A claim that is
    held back has the credibility for which it is.
    """
    ts = START + i * NS_PER_MIN
    document = Document(
        document_id=content_id("recorded", i, row.text), source=f"source {i}",
        ts_published=ts, ts_recv=ts, text=row.text, symbols=("SPY",),
    )  # fmt: skip
    admission = room.admit(document, ts)
    for change in admission.quarantines:
        if change.document_id == change.because == document.document_id:
            return _Seen(
                credibility=change.credibility,
                is_corroborated=_is_corroborated(change.reasons),
                is_held_back=True,
            )
    for claim in room.gather(KEY, ts).evidence:
        if claim.document_id == document.document_id and claim.kind is EvidenceKind.CLAIM:
            return _Seen(
                credibility=claim.credibility, is_corroborated=_is_corroborated(claim.reasons)
            )
    return _Seen(credibility=prior)


def _is_corroborated(reasons: Sequence[Reason]) -> bool:
    return any(reason.name == "corroboration" for reason in reasons)


def _by_truth(is_so: list[bool], y: Floats) -> dict[str, int]:
    """Return how many true and how many false claims something is so of."""
    counted = np.array(is_so, dtype=bool)
    return {name: int(counted[y == value].sum()) for name, value in (("true", 1.0), ("false", 0.0))}


def _auc(seen: list[_Seen], y: Floats) -> Figure:
    p = np.array([one.credibility for one in seen])
    chance = np.random.default_rng(7)
    drawn = [auc(p[i], y[i]) for i in chance.integers(0, len(p), (400, len(p)))]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return Figure(value=round(auc(p, y), 4), low=round(float(low), 4), high=round(float(high), 4))
