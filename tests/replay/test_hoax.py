"""A hoax is withdrawn from the outlook at the instant when it is shown to be one, on every replay alike."""

import json
from pathlib import Path

import msgspec
import pytest

from finllm.app.replay import Inputs
from finllm.app.settings import Settings, load_settings
from finllm.domain.evidence import Quarantine, QuarantineState
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Outlook
from finllm.market.synthetic import SyntheticMarket, generate
from finllm.market.synthetic.settings import START
from support.replays import Replayed, replayed_into, tapes_of

S = 1_000_000_000
TOLD, DENIED = START + 12 * S, START + 17 * S
BTC = "binance-usdm:BTCUSDT"
HOAX = "Harbourline Custody halts Bitcoin withdrawals after a hack, customers lose savings"
DENIAL = f"No truth to the rumour that {HOAX}, says Harbourline Custody"


def line(source: str, ts: int, text: str) -> bytes:
    told = {"source": source, "ts_published_ns": ts - S // 10, "ts_recv_ns": ts, "text": text}
    return json.dumps({**told, "symbols": ["BTCUSDT"]}).encode() + b"\n"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """A market without news of its own, a hoax, and its denial five seconds later."""
    folder = tmp_path_factory.mktemp("hoax")
    market = SyntheticMarket(seed=5, duration_s=30, planted=(), noise_per_min=0.0)
    generate(market).write(folder)
    documents = folder / "told.jsonl"
    documents.write_bytes(line("forum", TOLD, HOAX) + line("wire", DENIED, DENIAL))
    return Inputs(tapes=tapes_of(folder), documents=documents)


def settings_of(chunk: int = 512) -> Settings:
    """Answers take a second or two, so that something is served before that on the denial."""
    slow = {"FINLLM_LATENCY__P50_MS": "1500", "FINLLM_LATENCY__P95_MS": "2000"}
    settings = load_settings(None, slow)
    edge = msgspec.structs.replace(settings.edge, chunk=chunk)
    return msgspec.structs.replace(settings, edge=edge)


@pytest.fixture(scope="module")
def told(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    return replayed_into(tmp_path_factory.mktemp("told") / "run", inputs, settings_of())


def test_what_rests_on_it_is_withdrawn_at_that_instant(told: Replayed) -> None:
    records = [(ts, one) for ts, one in told.records if isinstance(one, msgspec.Struct)]
    ((at, change),) = [
        (ts, one)
        for ts, one in records
        if isinstance(one, Quarantine) and one.state is QuarantineState.CONDEMNED
    ]
    assert at == DENIED
    outlooks = [(ts, one) for ts, one in records if isinstance(one, Outlook)]
    before = [one for ts, one in outlooks if ts < DENIED][-1]
    assert change.evidence_id in before.evidence_ids
    withdrawn_at, withdrawn = next((ts, one) for ts, one in outlooks if ts >= DENIED)
    assert (withdrawn_at, withdrawn.version) == (DENIED, before.version + 1)
    assert withdrawn.reason == "condemned"
    assert all(change.evidence_id not in one.evidence_ids for ts, one in outlooks if ts >= DENIED)


def test_forecasts_were_moved_by_it_up_to_then_and_none_is_after(told: Replayed) -> None:
    forecasts = [one for _, one in told.records if isinstance(one, Forecast)]
    outlooks = [one for _, one in told.records if isinstance(one, Outlook)]
    answered = next((one.ts for one in outlooks if one.ts > DENIED), START + 30 * S)
    assert answered > DENIED + S
    assert any(DENIED <= one.ts_emit < answered for one in forecasts if one.instrument == BTC)
    moved = [one for one in forecasts if one.instrument == BTC and one.emitted != one.base]
    assert any(DENIED - S < one.ts_emit < DENIED for one in moved)
    assert not any(DENIED <= one.ts_emit < answered for one in moved)


@pytest.mark.parametrize("chunk", [1, 64, 512])
def test_it_replays_to_the_same_digest(
    inputs: Inputs, tmp_path: Path, told: Replayed, chunk: int
) -> None:
    again = replayed_into(tmp_path / "run", inputs, settings_of(chunk))
    assert again.summary.digest == told.summary.digest
