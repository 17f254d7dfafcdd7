"""The walk, record by record: run with -s to read it."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from finllm.app.replay import Inputs, Summary, replay
from finllm.app.settings import Settings
from finllm.domain.evidence import Document, EvidenceNotice, EvidencePack
from finllm.domain.forecast import Forecast, Outcome, Status
from finllm.domain.protocol import Closing, Escalate, Outlook, Revision, Verdict
from finllm.domain.trace import Trace

Walk = list[tuple[int, msgspec.Struct]]


@pytest.fixture(scope="module")
def walked(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, Walk]:
    records: Walk = []

    def watch(ts: int, record: object) -> None:
        if isinstance(record, msgspec.Struct):
            records.append((ts, record))

    inputs = Inputs(
        tapes=tuple(sorted(synthetic.glob("frames-*"))), documents=synthetic / "documents.jsonl"
    )
    summary = replay(inputs, Settings(), tmp_path_factory.mktemp("walk"), watch=watch)
    return summary, records


def first(records: Walk, kind: type[msgspec.Struct]) -> int:
    return next(i for i, (_, record) in enumerate(records) if isinstance(record, kind))


def test_a_document_walks_from_notice_to_outlook_in_order(walked: tuple[Summary, Walk]) -> None:
    _, records = walked
    order = [Document, EvidenceNotice, Escalate, EvidencePack, Verdict, Revision, Trace]
    seen = [first(records, kind) for kind in order]
    for _, record in (records[i] for i in seen):
        print(f"\n{type(record).__name__}: {str(record)[:400]}")  # noqa: T201 - the walk, to read
    assert seen == sorted(seen)
    assert first(records, Forecast) < first(records, Verdict)
    assert first(records, Outlook) > first(records, EvidencePack)
    assert any(isinstance(record, Outcome) for _, record in records)
    assert any(isinstance(record, Closing) for _, record in records)


def test_every_forecast_carries_the_outlook_in_force_and_is_moved_by_it(
    walked: tuple[Summary, Walk],
) -> None:
    standing: dict[str, Outlook] = {}
    moved = 0
    for _, record in walked[1]:
        if isinstance(record, Outlook):
            standing[record.instrument] = record
        elif isinstance(record, Forecast) and record.outlook_version:
            outlook = standing[record.instrument]
            assert record.outlook_version == outlook.version
            assert outlook.ts <= record.ts_emit < outlook.expires
            moved += record.emitted != record.base
    assert moved > 0


def test_emission_never_goes_back_in_time(walked: tuple[Summary, Walk]) -> None:
    times = [ts for ts, _ in walked[1]]
    assert times == sorted(times)


def test_no_pack_holds_evidence_from_after_its_instant(walked: tuple[Summary, Walk]) -> None:
    packs = [record for _, record in walked[1] if isinstance(record, EvidencePack)]
    assert packs
    assert all(e.ts_recv <= pack.as_of for pack in packs for e in pack.evidence)


def test_every_forecast_is_calibrated_arithmetic(walked: tuple[Summary, Walk]) -> None:
    forecasts = [record for _, record in walked[1] if isinstance(record, Forecast)]
    for forecast in forecasts:
        assert sum(forecast.emitted) == pytest.approx(1.0, abs=1e-12)
        assert min(forecast.emitted) > 0
        assert list(forecast.emitted_q) == sorted(forecast.emitted_q)
        assert forecast.ts_emit < forecast.valid_until <= forecast.ts_recv + forecast.horizon_ns
        assert forecast.status is Status.SPECULATIVE


def test_explaining_changes_no_forecast(
    synthetic: Path, tmp_path: Path, settings: Settings, walked: tuple[Summary, Walk]
) -> None:
    quiet = msgspec.structs.replace(
        settings, reasoning=msgspec.structs.replace(settings.reasoning, explain=False)
    )
    records: list[msgspec.Struct] = []

    def watch(ts: int, record: object) -> None:
        if isinstance(record, Forecast | Revision):
            records.append(record)

    inputs = Inputs(
        tapes=tuple(sorted(synthetic.glob("frames-*"))), documents=synthetic / "documents.jsonl"
    )
    replay(inputs, quiet, tmp_path, watch=watch)
    assert records == [r for _, r in walked[1] if isinstance(r, Forecast | Revision)]


def test_a_full_disk_stops_the_recording_loudly_and_changes_no_forecast(
    synthetic: Path, tmp_path: Path, settings: Settings, walked: tuple[Summary, Walk]
) -> None:
    small = msgspec.structs.replace(
        settings, ledger=msgspec.structs.replace(settings.ledger, max_mb=1)
    )
    told: list[str] = []
    inputs = Inputs(
        tapes=tuple(sorted(synthetic.glob("frames-*"))), documents=synthetic / "documents.jsonl"
    )
    summary = replay(inputs, small, tmp_path, on_failure=told.append)
    assert len(told) == 1
    assert "full" in summary.recording
    assert summary.digest == walked[0].digest


def test_documents_alone_change_nothing_but_what_follows_them(
    run_inputs: Callable[..., tuple], synthetic: Path, walked: tuple[Summary, Walk]
) -> None:
    summary, _ = run_inputs(Inputs(tapes=tuple(sorted(synthetic.glob("frames-*")))))
    assert summary.rows == walked[0].rows
    assert summary.revisions.applied == 0
    assert walked[0].revisions.applied > 0
