"""Laws of the explaining path: it changes no forecast, comes later, and is the first to be given up."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from finllm.app import explaining
from finllm.app.demo import run_demo
from finllm.app.explaining import MOST_WAITING, TRACE_NS, Explainer, Explaining, Untold
from finllm.app.records import open_ledger, verify_traces
from finllm.app.replay import Inputs
from finllm.app.settings import Settings
from finllm.domain.evidence import Document, EvidencePack
from finllm.domain.forecast import Forecast, Rung
from finllm.domain.protocol import Escalate, Revision, Verdict
from finllm.domain.trace import NOT_WRITTEN, Trace
from finllm.narrative.text.canonical import canonical_text
from support.replays import Replayed, inputs_of, replayed_into, tapes_of

QUIET = msgspec.convert({"reasoning": {"explain": False}}, Settings)


@pytest.fixture(scope="module")
def silent(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """The same replay with the explaining path switched off."""
    return replayed_into(tmp_path_factory.mktemp("silent") / "run", inputs_of(synthetic), QUIET)


def test_switching_it_off_changes_no_byte_but_the_traces(
    replayed: Replayed, silent: Replayed
) -> None:
    kept = [b for b, (_, r) in zip(replayed.emitted, replayed.records, strict=True)
            if not isinstance(r, Trace)]  # fmt: skip
    assert kept == silent.emitted
    assert replayed.summary.untraced_digest == silent.summary.untraced_digest
    assert replayed.summary.digest != silent.summary.digest
    assert replayed.summary.traces.written > 0
    assert silent.summary.traces.written == silent.summary.traces.dropped == 0


def test_switching_it_off_changes_no_byte_of_a_demo(tmp_path: Path) -> None:
    found = {}
    for name, settings in (("on", Settings()), ("off", QUIET)):
        run = tmp_path / name
        run.mkdir()
        done = run_demo(settings, run, seed=3, minutes=1.0, speed=0.0, quiet=True)
        with open_ledger(run) as ledger:
            said = [*ledger.records(Forecast), *ledger.records(Revision)]
        found[name] = (msgspec.json.encode(said), done.summary.untraced_digest)
        assert (done.summary.traces.written > 0) == (name == "on")
    assert found["on"] == found["off"]


def test_a_trace_follows_its_revision_and_never_comes_at_once(replayed: Replayed) -> None:
    revised: dict[str, int] = {}
    waiting = n_later = 0
    for place, (_, record) in enumerate(replayed.records):
        if isinstance(record, Revision) and record.forecast is not None:
            revised[record.verdict_id] = place
            waiting += 1
        elif isinstance(record, Trace):
            between = replayed.records[revised.pop(record.verdict_id) + 1 : place]
            n_later += any(not isinstance(r, Trace | Revision) for _, r in between)
            waiting -= 1
        assert waiting <= MOST_WAITING
    assert revised == {}
    assert n_later > 0


@pytest.fixture(scope="module")
def untold(replayed: Replayed) -> Untold:
    """One revision of the run with what explains it."""
    with open_ledger(replayed.run) as ledger:
        revision = next(r for r in ledger.records(Revision) if r.forecast is not None)
        verdict = ledger.find(Verdict, revision.verdict_id)
        before = ledger.find(Forecast, revision.forecast_id)
        assert verdict is not None
        question = ledger.find(Escalate, verdict.question_id)
        packs = [p for p in ledger.records(EvidencePack) if question and p.as_of == question.ts]
    assert before is not None
    assert revision.forecast is not None
    return Untold(verdict=verdict, before=before, after=revision.forecast, pack=packs[0])


def numbered(untold: Untold, n: int) -> Iterator[Untold]:
    for i in range(n):
        verdict = msgspec.structs.replace(untold.verdict, verdict_id=f"v{i}")
        yield msgspec.structs.replace(untold, verdict=verdict)


def path_of(untold: Untold, replayed: Replayed) -> Explaining:
    with open_ledger(replayed.run) as ledger:
        texts = {d.document_id: canonical_text(d.text) for d in ledger.records(Document)}
    return Explaining(Explainer(), texts.__getitem__)


def test_traces_are_written_one_at_a_time_in_the_order_of_their_revisions(
    untold: Untold, replayed: Replayed
) -> None:
    path = path_of(untold, replayed)
    for one in numbered(untold, 3):
        assert path.put_off(one, now=100) is None
    assert path.tell(100 + TRACE_NS - 1, Rung.FULL) is None
    told = []
    for n in (1, 2, 3):
        by = 100 + n * TRACE_NS
        told.append(path.tell(by, Rung.FULL))
        assert path.tell(by, Rung.FULL) is None
    assert [trace.verdict_id for trace in told if trace] == ["v0", "v1", "v2"]
    assert path.traces.written == 3


def test_too_many_that_wait_drop_the_newest_and_are_counted(
    untold: Untold, replayed: Replayed
) -> None:
    path = path_of(untold, replayed)
    found = [path.put_off(one, now=0) for one in numbered(untold, MOST_WAITING + 2)]
    dropped = [trace for trace in found if trace is not None]
    assert [trace.verdict_id for trace in dropped] == [f"v{MOST_WAITING}", f"v{MOST_WAITING + 1}"]
    assert all(trace.refused.startswith(NOT_WRITTEN) for trace in dropped)
    assert path.traces.dropped == 2


@pytest.mark.parametrize("rung", [r for r in Rung if r is not Rung.FULL])
def test_below_the_full_rung_no_trace_is_written(
    rung: Rung, untold: Untold, replayed: Replayed
) -> None:
    path = path_of(untold, replayed)
    path.put_off(untold, now=0)
    trace = path.tell(TRACE_NS, rung)
    assert trace is not None
    assert trace.refused == f"{NOT_WRITTEN}the rung was {rung.replace('_', ' ')}"
    assert (path.traces.dropped, path.traces.written) == (1, 0)


def burst(documents: Path) -> str:
    """Return documents, those of the middle third received at once."""
    made = [json.loads(line) for line in documents.read_text().splitlines()]
    third = len(made) // 3
    for one in made[third : 2 * third]:
        one["ts_recv_ns"] = made[2 * third]["ts_recv_ns"]
    return "\n".join(map(json.dumps, made))


def test_a_run_under_load_drops_traces_first_changes_no_forecast_and_still_proves(
    synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """News in a burst: more revisions at once than may wait for their traces, which are two here."""
    monkeypatch.setattr(explaining, "MOST_WAITING", 2)
    wanted: dict[str, Any] = {"escalation": {"min_interval_ns": 0, "min_gain": 0.0}}
    documents = tmp_path / "documents.jsonl"
    documents.write_text(burst(synthetic / "documents.jsonl"))
    inputs = Inputs(tapes=tapes_of(synthetic), documents=documents)
    runs = {}
    for name, explain in (("on", True), ("off", False)):
        settings = msgspec.convert({**wanted, "reasoning": {"explain": explain}}, Settings)
        runs[name] = replayed_into(tmp_path / name, inputs, settings)
    assert runs["on"].summary.traces.dropped > 0
    assert runs["on"].summary.untraced_digest == runs["off"].summary.untraced_digest
    proof = verify_traces(tmp_path / "on")
    assert proof.ok, proof.failures
    assert any("dropped" in note for note in proof.notes)


def test_what_cannot_be_asked_again_says_so_and_proves(untold: Untold) -> None:
    verdict = msgspec.structs.replace(untold.verdict, reasoner="llm:some+embedded:other")
    trace = Explainer().write(verdict, untold.before, untold.after, untold.pack, {})
    assert trace.fidelity.agreement is None
    assert trace.fidelity.unmeasured == "llm:some+embedded:other cannot be asked again"
