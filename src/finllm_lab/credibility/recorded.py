"""Recorded rumours and checked claims, as credibility sees them before anybody has replied."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from finllm.app.reader import open_room
from finllm.domain.errors import InputError
from finllm.domain.evidence import Document
from finllm.domain.identity import content_id
from finllm.domain.units import NS_PER_MIN
from finllm.market.synthetic.settings import START
from finllm.narrative.room import NarrativeSettings
from finllm_lab.credibility.score import Figure, auc

KEY: Final = "us-equity:SPY"
_FILES: Final = (
    ("rumours", "covid_rumours_en.jsonl", "text", {"T": True, "F": False}),
    ("checked claims", "fact_checked_claims_en.jsonl.gz", "claim", {"True": True, "False": False}),
)


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One claim with the verdict of those who checked it."""

    group: str
    text: str
    is_true: bool


class Separation(msgspec.Struct, frozen=True, kw_only=True):
    """How far credibility tells a group's true claims from its false ones."""

    n: int
    n_true: int
    n_values: int
    """Different credibilities."""
    auc: Figure


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

    The claims of a group come in drawn order, a minute apart, from a source of which nothing is known.
    """
    groups: dict[str, list[Recorded]] = {}
    for one in read_recorded(data):
        groups.setdefault(one.group, []).append(one)
    return {name: _separated(rows) for name, rows in groups.items()}


def _separated(rows: list[Recorded]) -> Separation:
    room = open_room(NarrativeSettings(encoder="hashing"))
    room.watch(KEY)
    chance = np.random.default_rng(7)
    p: list[float] = []
    y: list[float] = []
    for i in chance.permutation(len(rows)).tolist():
        ts = START + len(p) * NS_PER_MIN
        document = Document(
            document_id=content_id("recorded", i, rows[i].text), source=f"source {i}",
            ts_published=ts, ts_recv=ts, text=rows[i].text, symbols=("SPY",),
        )  # fmt: skip
        admission = room.admit(document, ts)
        told = [n.credibility for n in admission.notices if n.ts_recv == ts]
        told += [q.credibility for q in admission.quarantines if q.document_id == q.because]
        p.append(told[0] if told else float("nan"))
        y.append(float(rows[i].is_true))
    there = ~np.isnan(p)
    return _measured(np.array(p)[there], np.array(y)[there])


def _measured(p: np.ndarray, y: np.ndarray) -> Separation:
    chance = np.random.default_rng(7)
    drawn = [auc(p[i], y[i]) for i in chance.integers(0, len(p), (400, len(p)))]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return Separation(
        n=len(p),
        n_true=int(y.sum()),
        n_values=len(np.unique(np.round(p, 9))),
        auc=Figure(value=round(auc(p, y), 4), low=round(float(low), 4), high=round(float(high), 4)),
    )
