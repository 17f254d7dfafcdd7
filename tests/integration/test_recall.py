"""Recalling a run: what it knew at an instant, from the memory that a replay leaves."""

import json
from pathlib import Path

import pytest

from finllm.app.recalled import Question, recall_from
from finllm.app.records import open_ledger
from finllm.app.settings import Settings, load_settings
from finllm.domain.evidence import EvidencePack
from finllm.domain.units import iso
from support.commands import Command
from support.replays import Replayed


def test_memory_recalls_exactly_what_every_pack_of_the_run_held(replayed: Replayed) -> None:
    with open_ledger(replayed.run) as ledger:
        packs = list(ledger.records(EvidencePack))
    assert packs
    for pack in packs:
        asked = Question(as_of=pack.as_of, instrument=pack.instrument, limit=1_000)
        found = [one.recalled for one in recall_from(replayed.run, asked).found]
        claims = {one.claim.evidence_id: one.claim for one in found if one is not None}
        cited = [e for e in pack.evidence if e.document_id]
        assert [claims[e.evidence_id] for e in cited] == cited
        assert all(claim.ts_recv <= pack.as_of for claim in claims.values())
        assert len([one for one in found if one and one.is_visible]) >= pack.n_documents


def test_a_run_counts_what_its_memory_holds(replayed: Replayed) -> None:
    counts = replayed.summary.memory
    assert counts is not None
    assert counts.documents == replayed.summary.documents.admitted > 0
    assert (counts.failed, counts.lost) == ("", 0)
    assert replayed.summary.notes == ()


def test_recall_needs_an_instant_and_says_why(replayed: Replayed, finllm: Command) -> None:
    _, told = finllm("recall", str(replayed.run), code=2)
    assert "--as-of" in told
    assert "Write --as-of 2024-08-08T23:58:00Z" in told
    _, told = finllm("recall", str(replayed.run), "--as-of", "2100-01-01", code=2)
    assert "not over" in told


def test_recall_tells_a_person_and_a_script_the_same(
    replayed: Replayed, finllm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    end = recall_from(replayed.run, Question(as_of=_middle(replayed))).span[1]
    words = ("recall", str(replayed.run), "--as-of", str(end), "--about", "withdrawals halted")
    out, _ = finllm(*words, "--limit", "3", "--json")
    found = json.loads(out)["found"]
    assert [one["similarity"] for one in found] == sorted(
        (one["similarity"] for one in found), reverse=True
    )
    text, _ = finllm(*words, "--limit", "3")
    assert "hashing/1" in text
    for one in found:
        assert iso(one["document"]["ts_recv"])[:23] in text
    out, _ = finllm(
        "recall", str(replayed.run), "--as-of", str(end), "--instrument", "BTCUSDT", "--json"
    )
    claims = [one["recalled"]["claim"] for one in json.loads(out)["found"]]
    assert {claim["instrument"].rpartition(":")[2] for claim in claims} == {"BTCUSDT"}
    _, told = finllm("recall", str(replayed.run), "--as-of", str(end), "--instrument", "X", code=2)
    assert "binance-usdm:BTCUSDT" in told


def test_a_run_that_kept_no_memory_says_so(tmp_path: Path, finllm: Command) -> None:
    _, told = finllm("recall", str(tmp_path), "--as-of", "2024-01-01", code=2)
    assert "memory.keep" in told
    settings: Settings = load_settings(None, {"FINLLM_MEMORY__KEEP": "false"})
    assert not settings.memory.keep


def _middle(replayed: Replayed) -> int:
    with open_ledger(replayed.run) as ledger:
        return next(iter(ledger.records(EvidencePack))).as_of
