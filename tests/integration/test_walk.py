"""The walk, record by record: run with -s to read it."""

from pathlib import Path

import msgspec
import pytest

from finllm.app.lane import Facts, Lane
from finllm.app.replay import Inputs, Summary, replay
from finllm.app.settings import Settings
from finllm.domain.evidence import Document, EvidenceKind, EvidenceNotice, EvidencePack
from finllm.domain.forecast import Forecast, Outcome, Status
from finllm.domain.market import Flag
from finllm.domain.protocol import Closing, Escalate, Outlook, Revision, Verdict
from finllm.domain.trace import Trace
from finllm.domain.units import NS_PER_S
from finllm.edge.artifact import SHIPPED
from finllm.edge.bank import load_bank
from finllm.features.book_spec import BOOK_SPEC
from finllm.ledger.store import Ledger
from finllm.market.tape import read_chain
from finllm.runtime.tally import Tally
from support.poison import lines_of, ts_of_frame
from support.replays import Replayed, inputs_of, tapes_of

Walk = list[tuple[int, msgspec.Struct]]


@pytest.fixture(scope="module")
def walked(replayed: Replayed) -> tuple[Summary, Walk]:
    records = [(ts, one) for ts, one in replayed.records if isinstance(one, msgspec.Struct)]
    return replayed.summary, records


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


def test_an_observation_is_received_with_its_row_and_only_a_valid_row_is_observed(
    synthetic: Path, walked: tuple[Summary, Walk]
) -> None:
    packs = [record for _, record in walked[1] if isinstance(record, EvidencePack)]
    seen = [e for pack in packs for e in pack.evidence if e.kind is EvidenceKind.OBSERVATION]
    received = {f.ts_recv for f in read_chain(tapes_of(synthetic), Tally())}
    assert seen
    assert {e.ts_recv for e in seen} <= received
    lane = Lane(0, "x", load_bank(SHIPPED["book"], spec=BOOK_SPEC), BOOK_SPEC, 1)
    lane.facts = Facts(1, 7, 7, 200, 1, int(Flag.VALID), 1)
    assert {e.ts_recv for e in lane.observations()} == {7}
    lane.facts = lane.facts._replace(flags=int(Flag.RESYNCING))
    assert lane.observations() == ()


def test_a_forecast_that_the_ledger_refuses_is_neither_emitted_nor_counted(
    synthetic: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is offered a second time, as another owner of the instrument might."""
    kept: list[bool] = []
    real = Ledger.open_forecast

    def twice(ledger: Ledger, forecast: Forecast) -> bool:
        kept.append(real(ledger, forecast))
        return real(ledger, forecast)

    monkeypatch.setattr(Ledger, "open_forecast", twice)
    emitted: list[object] = []
    tape = tapes_of(synthetic)[0]
    inputs = Inputs(tapes=(tape,), until=ts_of_frame(lines_of(tape)[0]) + 20 * NS_PER_S)
    summary = replay(inputs, settings, tmp_path, watch=lambda _, record: emitted.append(record))
    assert all(kept)
    assert len(kept) == summary.incidents.refused_forecasts > 0
    assert summary.forecasts == 0
    assert not any(isinstance(record, Forecast) for record in emitted)


def test_what_copies_and_unrelated_documents_became_is_in_the_summary(
    synthetic: Path, tmp_path: Path, settings: Settings
) -> None:
    lines = (synthetic / "documents.jsonl").read_text().splitlines()
    (tmp_path / "documents.jsonl").write_text(
        "\n".join(line for one in lines for line in (one, one))
    )
    inputs = Inputs(tapes=tapes_of(synthetic), documents=tmp_path / "documents.jsonl")
    summary = replay(inputs, settings, tmp_path / "run")
    assert summary.documents.noted["exact_copy"] > len(lines) // 2
    assert summary.incidents.lost_records == summary.incidents.worker_restarts == 0


def test_every_forecast_is_calibrated_arithmetic(walked: tuple[Summary, Walk]) -> None:
    forecasts = [record for _, record in walked[1] if isinstance(record, Forecast)]
    for forecast in forecasts:
        assert sum(forecast.emitted) == pytest.approx(1.0, abs=1e-12)
        assert min(forecast.emitted) > 0
        assert list(forecast.emitted_q) == sorted(forecast.emitted_q)
        assert forecast.ts_emit < forecast.valid_until <= forecast.ts_recv + forecast.horizon_ns
        assert forecast.status is Status.SPECULATIVE


def test_a_full_disk_stops_the_recording_loudly_and_changes_no_forecast(
    synthetic: Path, tmp_path: Path, settings: Settings, walked: tuple[Summary, Walk]
) -> None:
    small = msgspec.structs.replace(
        settings, ledger=msgspec.structs.replace(settings.ledger, max_mb=1)
    )
    told: list[str] = []
    summary = replay(inputs_of(synthetic), small, tmp_path, on_failure=told.append)
    assert len(told) == 1
    assert "full" in summary.recording
    assert summary.digest == walked[0].digest


def test_documents_alone_change_nothing_but_what_follows_them(
    replayed_bare: Replayed, walked: tuple[Summary, Walk]
) -> None:
    summary = replayed_bare.summary
    assert summary.rows == walked[0].rows
    assert summary.revisions.applied == 0
    assert walked[0].revisions.applied > 0
