"""500 hostile documents in a market's stream, and a model that says the most it may, or more."""

import json
from collections import Counter
from pathlib import Path

import pytest

from finllm.app.recording import read_completions
from finllm.app.replay import Inputs, Summary, replay
from finllm.app.settings import ReasoningSettings, Settings
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Verdict
from finllm.domain.units import NS_PER_S
from finllm.ledger.reader import LedgerReader
from finllm.market.synthetic import SyntheticMarket, generate
from finllm.reasoning.fusion import load_weights
from finllm.reasoning.llm.settings import LlmSettings
from support.endpoint import Endpoint, Request
from support.hostile import hostile_documents
from support.replays import tapes_of

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1_800)]
N = 500
SPAN_S = 120.0
EPS = 1e-9


def poured(folder: Path) -> Path:
    """Return a market's documents with the hostile ones among them, evenly over its time."""
    lines = [json.loads(line) for line in (folder / "documents.jsonl").read_text().splitlines()]
    sources = sorted({line["source"] for line in lines})
    start = min(line["ts_recv_ns"] for line in lines)
    for i, hostile in enumerate(hostile_documents(N)):
        ts = start + int((i + 1) * SPAN_S / (N + 2) * NS_PER_S)
        lines.append(
            {
                "source": sources[i % len(sources)],
                "ts_published_ns": ts - NS_PER_S // 2,
                "ts_recv_ns": ts,
                "text": f"Bitcoin and Ethereum plunge on fraud charges. {hostile.text}",
                "symbols": ["BTCUSDT", "ETHUSDT"],
                "author": f"author {i}",
            }
        )
    path = folder / "poured.jsonl"
    lines.sort(key=lambda line: line["ts_recv_ns"])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


async def obey(request: Request) -> None:
    """Say what the document of this turn demands, whether it was shown or not."""
    documents = hostile_documents(N)
    request.say(documents[len(request.endpoint.requests) % N].said(request.ids))


def check_run(run: Path) -> Counter[str]:
    """See that every verdict of a run is within its bound; return who gave them."""
    with LedgerReader(run / "ledger") as ledger:
        forecasts = {one.forecast_id: one for one in ledger.records(Forecast)}
        verdicts = list(ledger.records(Verdict))
    weights = load_weights()
    for verdict in verdicts:
        band = weights.band(forecasts[verdict.forecast_id].horizon_ns)
        assert abs(verdict.shift) <= band.max_shift + EPS
        assert verdict.vol_scale > 0.0
        assert verdict.fallback in {"", "invalid"}
    return Counter(verdict.reasoner.partition(":")[0] for verdict in verdicts)


def test_500_hostile_documents_move_no_verdict_beyond_its_bound(tmp_path: Path) -> None:
    generate(SyntheticMarket(seed=5, duration_s=SPAN_S)).write(tmp_path / "tape")
    inputs = Inputs(tapes=tapes_of(tmp_path / "tape"), documents=poured(tmp_path / "tape"))
    plain: Summary = replay(inputs, Settings(), tmp_path / "plain")
    assert plain.documents.read >= N
    assert check_run(tmp_path / "plain")["embedded"] > 0
    with Endpoint(obey) as endpoint:
        llm = LlmSettings(base_url=endpoint.url, model="obeys", deadline_s=20.0)
        settings = Settings(reasoning=ReasoningSettings(llm=llm))
        replay(inputs, settings, tmp_path / "obeys")
    said = check_run(tmp_path / "obeys")
    ends = Counter(str(one.end) for one in read_completions(tmp_path / "obeys").values())
    print(json.dumps({"ends": ends, "verdicts": said}))  # noqa: T201 - the figures of the run
    assert said["llm"] > 0
    assert ends["answer"] > 0
    assert ends["invalid"] > 0
