"""Nothing emitted before an instant depends on anything received from it on."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from finllm.app.replay import Inputs

VARIANTS = ("removed", "altered", "misdated")


def lines_of(path: Path) -> list[bytes]:
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


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_comes_after_a_cut_changes_nothing_before_it(
    run_inputs: Callable[..., tuple], synthetic: Path, tmp_path: Path, variant: str
) -> None:
    rng = np.random.default_rng(3)
    tapes = tuple(sorted(synthetic.glob("frames-*")))
    _, whole = run_inputs(Inputs(tapes=tapes, documents=synthetic / "documents.jsonl"))
    first, last = whole[0][0], whole[-1][0]
    for i, cut in enumerate(rng.integers(first + (last - first) // 3, last, 3).tolist()):
        inputs = poisoned(synthetic, tmp_path / f"{variant}-{i}", cut, variant, rng)
        _, partial = run_inputs(inputs)
        assert_unchanged(whole, partial, cut)


def test_a_frame_that_claims_another_receive_time_keeps_its_place_on_its_tape(
    run_inputs: Callable[..., tuple], synthetic: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    tape = sorted(synthetic.glob("frames-*"))[0]
    _, whole = run_inputs(Inputs(tapes=(tape,)))
    cut = (whole[0][0] + whole[-1][0]) // 2
    frames_after(tape, tmp_path / "tape", cut, "misdated_receipt", rng)
    _, partial = run_inputs(Inputs(tapes=(tmp_path / "tape",)))
    assert_unchanged(whole, partial, cut)


def test_a_planted_look_ahead_is_found(run_inputs: Callable[..., tuple], synthetic: Path) -> None:
    """The check can fail: an alteration *before* the cut is seen."""
    tapes = tuple(sorted(synthetic.glob("frames-*")))
    _, whole = run_inputs(Inputs(tapes=tapes))
    cut = (whole[0][0] + whole[-1][0]) // 2
    _, other = run_inputs(Inputs(tapes=tapes[:1]))
    assert before(other, cut) != before(whole, cut)
