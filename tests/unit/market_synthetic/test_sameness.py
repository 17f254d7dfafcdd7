"""The same settings give the same bytes, anywhere, and never depend on what comes later."""

import gzip
import hashlib
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import msgspec
import pytest

from finllm.domain.errors import SettingsError
from finllm.market.synthetic import SyntheticMarket, SyntheticTape, Truth, TruthKind, generate

SHORT = SyntheticMarket(seed=3, duration_s=20.0)

_DIGEST = """
import hashlib
from finllm.domain.identity import canonical
from finllm.market.synthetic import SyntheticMarket, generate
tape = generate(SyntheticMarket(seed=3, duration_s=12.0))
digest = hashlib.sha256()
for thing in (*tape.frames(), *tape.documents(), *tape.truths):
    digest.update(canonical(thing))
print(digest.hexdigest())
"""


def _digest_under(hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _DIGEST],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_every_byte_is_the_same_under_any_hash_seed() -> None:
    assert _digest_under("0") == _digest_under("4242")


def test_reading_twice_gives_the_same_tape() -> None:
    tape = generate(SHORT)
    assert list(tape.frames()) == list(tape.frames())
    assert list(tape.documents()) == list(generate(SHORT).documents())


def test_another_seed_gives_another_tape() -> None:
    other = generate(msgspec.structs.replace(SHORT, seed=4))
    assert next(iter(other.frames())) != next(iter(generate(SHORT).frames()))


@pytest.mark.parametrize("short_s", [0.0, 0.013, 7.77, 20.0])
def test_a_short_tape_is_the_beginning_of_a_longer_one(short_s: float) -> None:
    short = generate(msgspec.structs.replace(SHORT, duration_s=short_s))
    long = generate(msgspec.structs.replace(SHORT, duration_s=26.0))
    end = short.settings.end
    assert list(short.frames()) == [each for each in long.frames() if each.ts_recv < end]
    assert list(short.documents()) == [each for each in long.documents() if each.ts_recv < end]
    assert list(short.truths) == _known_by(end, long)


def _known_by(end: int, tape: SyntheticTape) -> list[Truth]:
    """Return what had happened, and is true of documents that had been received."""
    late = {each.document_id for each in tape.documents() if each.ts_recv >= end}
    return [each for each in tape.truths if each.ts < end and each.document_id not in late]


def test_documents_and_truths_of_a_short_tape_begin_a_tape_of_many_cycles() -> None:
    short, long = (
        generate(SyntheticMarket(seed=8, duration_s=duration)) for duration in (310.0, 2_000.0)
    )
    end = short.settings.end
    assert list(short.documents()) == [each for each in long.documents() if each.ts_recv < end]
    assert list(short.truths) == _known_by(end, long)


def test_receive_times_never_decrease_and_stay_on_the_tape() -> None:
    tape = generate(SyntheticMarket(seed=2, duration_s=60.0))
    for stream in (tape.frames(), tape.documents()):
        times = [each.ts_recv for each in stream]
        assert times == sorted(times)
        assert tape.settings.start <= times[0] <= times[-1] < tape.settings.end


def test_leaving_episodes_out_moves_no_other_document() -> None:
    quiet = generate(SyntheticMarket(seed=3, duration_s=150.0, planted=()))
    full = generate(SyntheticMarket(seed=3, duration_s=150.0))
    noise = {truth.document_id for truth in full.truths if truth.kind is TruthKind.NOISE}
    assert [each for each in full.documents() if each.document_id in noise] == list(
        quiet.documents()
    )
    assert {truth.kind for truth in quiet.truths} == {TruthKind.NOISE, TruthKind.REGIME}


def test_frames_are_streamed_in_constant_memory() -> None:
    frames = generate(SyntheticMarket(seed=3, duration_s=86_400.0)).frames()
    for _ in range(300):
        next(frames)
    tracemalloc.start()
    for _ in range(2_000):
        next(frames)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_written_files_are_the_streams_and_the_same_every_time(tmp_path: Path) -> None:
    tape = generate(msgspec.structs.replace(SHORT, duration_s=5.0))
    first, second = tape.write(tmp_path / "a"), tape.write(tmp_path / "b")
    assert [path.name for path in first] == [
        "frames-BTCUSDT.ndjson.gz",
        "frames-ETHUSDT.ndjson.gz",
        "documents.jsonl",
        "truth.json",
    ]
    for one, other in zip(first, second, strict=True):
        assert _hash(one) == _hash(other)
    lines = gzip.decompress(first[0].read_bytes()).splitlines()
    expected = [
        b"%d %b" % (each.ts_recv, each.payload) for each in tape.frames() if not each.source
    ]
    assert lines == expected
    plain = tape.write(tmp_path / "c", compress=False)
    assert plain[0].read_bytes().splitlines() == expected
    truth = msgspec.json.decode(first[-1].read_bytes())
    assert len(truth["truths"]) == len(tape.truths)
    assert truth["settings"]["seed"] == 3


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "wrong",
    [
        {"symbols": ("DOGEUSDT",)},
        {"symbols": ("BTCUSDT", "BTCUSDT")},
        {"symbols": ()},
        {"planted": ("earthquake",)},
        {"duration_s": float("nan")},
        {"duration_s": -1.0},
        {"events_per_s": 0.0},
        {"noise_per_min": float("inf")},
        {"seed": -1},
        {"start": 1},
    ],
)
def test_a_setting_out_of_range_names_the_setting(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        generate(msgspec.structs.replace(SHORT, **wrong))
