"""Recorded rumours and checked claims, as credibility sees them before anybody has replied."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.app.reader import open_room
from finllm.domain.errors import InputError
from finllm.domain.evidence import Document
from finllm.domain.identity import content_id
from finllm.domain.units import NS_PER_MIN, NS_PER_S
from finllm.narrative.room import NarrativeSettings
from finllm_lab.credibility.score import Figure, auc

KEY: Final = "us-equity:SPY"
START: Final = 1_590_969_600 * NS_PER_S
"""2020-06-01, when most of the rumours went round: no date in a text is old by accident."""
_FILES: Final = (
    ("rumours", "covid_rumours_en.jsonl", "text", {"T": True, "F": False}),
    ("checked claims", "fact_checked_claims_en.jsonl.gz", "claim", {"True": True, "False": False}),
)


Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


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
    """AUC, where each claim is all that is known."""
    together: Figure
    """AUC, where they come a minute apart, each from another source: those that are alike corroborate."""
    n_corroborated: dict[str, int]
    """Together, of true and of false claims."""


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
    usual = NarrativeSettings(encoder="hashing")
    # Nothing is old enough to repeat, and nothing near enough to bear a claim out.
    apart = msgspec.structs.replace(usual, copy_window_ns=0, same_story_ns=0)
    alone, _ = _read(drawn, apart)
    together, is_corroborated = _read(drawn, usual)
    return Separation(
        n=len(y),
        n_true=int(y.sum()),
        alone=_auc(alone, y),
        together=_auc(together, y),
        n_corroborated={
            name: int(is_corroborated[y == value].sum())
            for name, value in (("true", 1.0), ("false", 0.0))
        },
    )


def _read(rows: list[Recorded], settings: NarrativeSettings) -> tuple[Floats, Bools]:
    """Return each claim's credibility as it is received, and whether another claim corroborates it.

    A copy makes no claim of its own: it has its source's prior, as if nothing had been said.
    """
    room = open_room(settings)
    room.watch(KEY)
    p, corroborated = np.full(len(rows), settings.prior), np.zeros(len(rows), dtype=bool)
    for i, row in enumerate(rows):
        ts = START + i * NS_PER_MIN
        document = Document(
            document_id=content_id("recorded", i, row.text), source=f"source {i}",
            ts_published=ts, ts_recv=ts, text=row.text, symbols=("SPY",),
        )  # fmt: skip
        room.admit(document, ts)
        for claim in room.gather(KEY, ts).evidence:
            if claim.document_id == document.document_id:
                p[i] = claim.credibility
                corroborated[i] = any(r.name == "corroboration" for r in claim.reasons)
    return p, corroborated


def _auc(p: Floats, y: Floats) -> Figure:
    chance = np.random.default_rng(7)
    drawn = [auc(p[i], y[i]) for i in chance.integers(0, len(p), (400, len(p)))]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return Figure(value=round(auc(p, y), 4), low=round(float(low), 4), high=round(float(high), 4))
