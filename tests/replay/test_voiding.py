"""Prices and regimes end an outlook at the same row, however the rows are handed in."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from finllm.app.settings import load_settings
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Outlook, Voiding
from finllm.reasoning import embedded
from finllm.reasoning.fusion import load_weights
from support.replays import Replayed, inputs_of, replayed_into

BY_ROWS = {Voiding.PRICE_CROSS, Voiding.REGIME_CHANGE}


@pytest.fixture
def voided(
    monkeypatch: pytest.MonkeyPatch, synthetic: Path, tmp_path: Path
) -> Callable[[int], Replayed]:
    """Replay the synthetic market with a reasoner whose opinions name everything that may void them."""
    weights = msgspec.structs.replace(load_weights(), voided_by=tuple(Voiding))
    monkeypatch.setattr(embedded, "load_weights", lambda: weights)

    def run(chunk: int) -> Replayed:
        settings = load_settings(None, {"FINLLM_EDGE__CHUNK": str(chunk)})
        return replayed_into(tmp_path / f"run-{chunk}", inputs_of(synthetic), settings)

    return run


def test_rows_void_alike_in_chunks_of_one_and_of_many(voided: Callable[[int], Replayed]) -> None:
    one, many = voided(1), voided(512)
    assert one.summary.digest == many.summary.digest
    ended = [
        o for _, o in many.records if isinstance(o, Outlook) and set(o.reason.split(", ")) & BY_ROWS
    ]
    assert ended, "neither price nor regime ended anything: choose another market"
    for outlook in ended:
        at = next(
            f.ts_emit for _, f in many.records
            if isinstance(f, Forecast) and f.outlook_version == outlook.version
            and f.instrument == outlook.instrument
        )  # fmt: skip
        assert at == outlook.ts, "the very row that ends it is served without it"
