"""What a live run records: before it is used, and enough to say the same again."""

import subprocess
import sys
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from finllm.app.recording import Input, read_start, recorded
from finllm.app.replay import Inputs, replay, write_summary
from finllm.app.settings import Settings
from finllm.app.wiring import open_pipeline
from finllm.domain.errors import InputError
from finllm.domain.forecast import Forecast, Outcome
from finllm.domain.identity import canonical
from finllm.ledger.reader import LedgerReader
from finllm.market.tape import read_chain
from finllm.narrative.sources.documents import read_documents
from finllm.runtime.files import Bounds, read_segment
from finllm.runtime.journal import Journal, read_journal
from finllm.runtime.tally import Tally
from support.poison import lines_of as lines_of_tape
from support.poison import ts_of_frame
from support.replays import Replayed, tapes_of

SMALL = Bounds(rotate_bytes=100_000, batch_bytes=4_000)
NS = 1_000_000_000
CUT_OFF = """
import os, sys
from pathlib import Path
from finllm.app.wiring import open_pipeline
from finllm.market.tape import read_chain
from finllm.narrative.sources.documents import read_documents
from finllm.runtime.tally import Tally

tapes, run = sorted(Path(sys.argv[1]).glob("frames-*")), Path(sys.argv[2])
with open_pipeline(run) as pipeline:
    for document in read_documents(Path(sys.argv[1]) / "documents.jsonl", tally=Tally()):
        pipeline.expect(document, document.ts_recv)
    for i, frame in enumerate(read_chain(tapes, Tally()), start=1):
        pipeline.push(frame)
        if i == 3_001:
            print(pipeline.now)
            sys.stdout.flush()
            os._exit(0)
"""


def lines_of(files: list[Path]) -> list[bytes]:
    return b"".join(read_segment(path) for path in files).splitlines()


def test_every_input_is_with_the_system_before_it_is_used(synthetic: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", CUT_OFF, str(synthetic), str(tmp_path)],
        capture_output=True,
        check=True,
    )
    now = int(ran.stdout)
    frames = list(read_chain(tapes_of(synthetic), Tally()))[:3_001]
    found = recorded(tmp_path)
    kept, documents = found.frames, found.documents
    for source, files in enumerate(kept):
        pushed = [b"%d %b" % (f.ts_recv, f.payload) for f in frames if f.source == source]
        assert lines_of(files) == pushed
    admitted = list(read_documents(synthetic / "documents.jsonl", tally=Tally()))
    assert list(read_documents(documents, tally=Tally())) == [
        d for d in admitted if d.ts_recv <= now
    ]
    order = b"".join(
        body for _, kind, body in read_journal(tmp_path / "journal", "run") if kind == Input.FRAMES
    )
    assert list(memoryview(order).cast("H")) == [frame.source for frame in frames]


def test_no_synced_record_precedes_the_journal_of_its_input(
    synthetic: Path, tmp_path: Path, settings: Settings
) -> None:
    tapes = tapes_of(synthetic)
    times = [frame.ts_recv for frame in read_chain(tapes, Tally())]
    checked = 0

    def check(_: int, __: str) -> None:
        nonlocal checked
        entries = read_journal(tmp_path / "journal", "run")
        n = sum(len(body) // 2 for _, kind, body in entries if kind == Input.FRAMES)
        with LedgerReader(tmp_path / "ledger") as ledger:
            newest = max((f.ts_recv for f in ledger.records(Forecast)), default=0)
        assert newest <= times[n - 1]
        checked += 1

    small = msgspec.structs.replace(settings, edge=msgspec.structs.replace(settings.edge, chunk=16))
    replay(Inputs(tapes=tapes, until=times[0] + 15 * NS), small, tmp_path, on_commit=check)
    assert checked > 3


def test_a_recording_in_many_segments_replays_to_the_same_digest(
    synthetic: Path, tmp_path: Path, settings: Settings
) -> None:
    with open_pipeline(tmp_path / "live", settings, bounds=SMALL) as pipeline:
        for document in read_documents(synthetic / "documents.jsonl", tally=Tally()):
            pipeline.expect(document, document.ts_recv)
        for frame in islice(read_chain(tapes_of(synthetic), Tally()), 4_000):
            pipeline.push(frame)
    frames = recorded(tmp_path / "live").frames
    assert len(frames) == len(tapes_of(synthetic))
    assert all(len(files) > 2 and files[0].suffix == ".gz" for files in frames)
    again = replay(Inputs(tapes=(tmp_path / "live",)), settings, tmp_path / "again")
    assert again.digest == pipeline.emission.digest
    assert again.revisions.applied > 0


def test_a_replay_that_comes_to_something_else_says_so(
    synthetic: Path, tmp_path: Path, settings: Settings
) -> None:
    live = Inputs(tapes=(tmp_path / "live",))
    with open_pipeline(*live.tapes, settings) as pipeline:
        for document in read_documents(synthetic / "documents.jsonl", tally=Tally()):
            pipeline.expect(document, document.ts_recv)
        for frame in islice(read_chain(tapes_of(synthetic), Tally()), 2_000):
            pipeline.push(frame)
    first = replay(live, settings, tmp_path / "first")
    write_summary(*live.tapes, first)
    assert replay(live, settings, tmp_path / "same").notes == first.notes == ()
    few = msgspec.structs.replace(settings.escalation, budget_per_min=1)
    other = msgspec.structs.replace(settings, escalation=few)
    (note,) = replay(live, other, tmp_path / "other").notes
    assert "another digest" in note


def test_a_run_that_recorded_no_frames_cannot_be_replayed(
    replayed_bare: Replayed, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(InputError, match="no recorded frames"):
        replay(Inputs(tapes=(replayed_bare.run,)), settings, tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_every_forecast_has_an_outcome_and_every_question_an_end(
    synthetic: Path, tmp_path: Path
) -> None:
    """Also those that the record's end cuts off: void targets, cancelled questions."""
    slow = msgspec.convert({"latency": {"p50_ms": 30_000.0, "p95_ms": 60_000.0}}, Settings)
    tapes = tapes_of(synthetic)
    end = max(ts_of_frame(lines_of_tape(tape)[-1]) for tape in tapes)
    inputs = Inputs(tapes=tapes, documents=synthetic / "documents.jsonl", until=end)
    summary = replay(inputs, slow, tmp_path)
    with LedgerReader(tmp_path / "ledger") as ledger:
        forecasts = {f.forecast_id for f in ledger.records(Forecast)}
        outcomes = list(ledger.records(Outcome))
    assert {o.forecast_id for o in outcomes} == forecasts
    assert len(outcomes) == len(forecasts)
    assert any("record ended" in o.void for o in outcomes)
    replies = [
        msgspec.msgpack.decode(body)
        for _, kind, body in read_journal(tmp_path / "journal", "run")
        if kind == Input.REPLY
    ]
    assert len(replies) == summary.escalated > 0
    n_cancelled = sum(end == "cancelled" for *_, end in replies)
    assert n_cancelled == summary.incidents.cancelled_questions > 0


def test_a_run_begun_with_settings_that_are_unknown_is_refused_in_words(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "journal", name="run")
    journal.append(Input.START, canonical({"venues": [], "llm": {"max_prompt_kb": 24}}))
    journal.close()
    with pytest.raises(InputError, match="max_prompt_kb"):
        read_start(tmp_path)
