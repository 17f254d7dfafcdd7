"""Variants of an input that differ only in what is received from a cut on."""

import csv
import gzip
import io
import json
import re
from pathlib import Path

import numpy as np

from finllm.app.replay import Inputs
from finllm.domain.units import NS_PER_S

Emitted = list[tuple[int, bytes]]
VARIANTS = ("removed", "altered", "misdated")


def lines_of(path: Path) -> list[bytes]:
    """Return a plain or gzip file's lines."""
    data = path.read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).splitlines(keepends=True)


def ts_of_frame(line: bytes) -> int:
    return int(line.split(b" ", 1)[0])


def alter_frame(line: bytes, rng: np.random.Generator) -> bytes:
    """Change the digits of prices, sizes and numbers; the receive time stays."""
    ts, _, body = line.partition(b" ")
    shift = int(rng.integers(1, 9))
    table = bytes.maketrans(b"0123456789", bytes(48 + (i + shift) % 10 for i in range(10)))
    return ts + b" " + body.translate(table)


def misdate_event(line: bytes, rng: np.random.Generator) -> bytes:
    """Let the venue's own times be wrong by up to 20 s either way."""
    by = int(rng.integers(-20_000, 20_000))
    return re.sub(
        rb'"([ET])":(\d+)', lambda m: b'"%b":%d' % (m.group(1), int(m.group(2)) + by), line
    )


def misdate_receipt(line: bytes, rng: np.random.Generator) -> bytes:
    """Let a frame claim another receive time, before or after its own: its place on the tape counts."""
    ts, _, body = line.partition(b" ")
    return b"%d " % (int(ts) + int(rng.integers(-20, 20)) * 1_000_000_000) + body


CHANGES = {"altered": alter_frame, "misdated": misdate_event, "misdated_receipt": misdate_receipt}


def frames_after(
    source: Path, target: Path, cut: int, variant: str, rng: np.random.Generator
) -> None:
    lines = lines_of(source)
    kept = [line for line in lines if ts_of_frame(line) < cut]
    after = [] if variant == "removed" else [CHANGES[variant](li, rng) for li in lines[len(kept) :]]
    target.write_bytes(b"".join(kept + after))


def documents_after(
    source: Path, target: Path, cut: int, variant: str, rng: np.random.Generator
) -> None:
    out = []
    for line in lines_of(source):
        document = json.loads(line)
        if document["ts_recv_ns"] >= cut:
            if variant == "removed":
                continue
            if variant == "altered":
                document["text"] = document["text"][::-1] + " Bitcoin Ethereum halted"
                document["source"] = "nobody"
            else:
                document.pop("ts_published", None)
                document["ts_published_ns"] = cut - int(rng.integers(1, 60)) * 1_000_000_000
        out.append(json.dumps(document))
    target.write_text("\n".join(out) + "\n")


def before(emitted: list[tuple[int, bytes]], cut: int) -> list[tuple[int, bytes]]:
    return [one for one in emitted if one[0] < cut]


def assert_unchanged(whole: list, partial: list, cut: int) -> None:
    said = before(whole, cut)
    assert said
    assert partial[: len(said)] == said


def poisoned(folder: Path, out: Path, cut: int, variant: str, rng: np.random.Generator) -> Inputs:
    """Write a variant of a synthetic tape."""
    out.mkdir()
    tapes = sorted(folder.glob("frames-*"))
    for tape in tapes:
        frames_after(tape, out / tape.name.removesuffix(".gz"), cut, variant, rng)
    documents_after(folder / "documents.jsonl", out / "documents.jsonl", cut, variant, rng)
    return Inputs(tapes=tuple(sorted(out.glob("frames-*"))), documents=out / "documents.jsonl")


def documents_of_tweets(
    source: Path, target: Path, cut: int, variant: str, rng: np.random.Generator
) -> None:
    """Poison recorded posts, which carry no receive time: after the cut, and dated after it."""
    out = []
    for line in lines_of(source):
        post = json.loads(line)
        if post["ts_ms"] * 1_000_000 + 2 * NS_PER_S >= cut:
            if variant == "removed":
                continue
            if variant == "altered":
                post["text"] = "$AAPL $BAC halted, fraud, record profit " + post["text"][::-1]
            else:
                post["ts_ms"] += int(rng.integers(1, 10**6)) * 1000
        out.append(json.dumps(post))
    target.write_text("\n".join(out) + "\n")


def bars_after(
    source: Path, target: Path, cut_ny: str, variant: str, rng: np.random.Generator
) -> None:
    """Poison hourly bars that start at or after a New York wall time."""
    out = io.StringIO()
    writer = csv.writer(out)
    for i, row in enumerate(csv.reader(lines_of_text(source))):
        if i and row[1] >= cut_ny:
            if variant == "removed":
                continue
            if variant == "altered":
                by = float(rng.uniform(0.5, 2.0))
                row[2:6] = [f"{float(price) * by:.2f}" for price in row[2:6]]
            else:
                row[1] = f"20{int(rng.integers(16, 30))}" + row[1][4:]
        writer.writerow(row)
    target.write_text(out.getvalue())


def lines_of_text(path: Path) -> list[str]:
    """Return a plain or gzip file's lines as text."""
    return [line.decode() for line in lines_of(path)]
