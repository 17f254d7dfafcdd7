"""A follower hears its leader alike in the lab and when served."""

from pathlib import Path

from finllm.app.wiring import open_pipeline
from finllm.features.book_spec import BOOK_SPEC
from finllm.market.tape import read_chain
from finllm.runtime.tally import Tally
from finllm_lab.tapes import frame_sessions


def test_the_lab_and_the_pipeline_make_the_same_rows_of_leader_and_follower(
    synthetic: Path, tmp_path: Path
) -> None:
    frames = list(read_chain(sorted(synthetic.glob("frames-*")), Tally()))[:6_000]
    sessions = {session.instrument: session for session in frame_sessions("synthetic", frames)}
    with open_pipeline(tmp_path / "run", keep_frames=False) as pipeline:
        for start in range(0, len(frames), 64):
            pipeline.feed(frames[start : start + 64])
        served = {lane.instrument: lane.row.copy() for lane in pipeline.lanes}
    assert served.keys() == sessions.keys() == {"binance-usdm:BTCUSDT", "binance-usdm:ETHUSDT"}
    for instrument, row in served.items():
        assert row.tobytes() == sessions[instrument].rows[-1].tobytes()
    known = BOOK_SPEC.columns["lead_known"]
    assert sessions["binance-usdm:ETHUSDT"].rows[-1, known] == 1.0
    assert not sessions["binance-usdm:BTCUSDT"].rows[:, known].any()
    flow = BOOK_SPEC.columns["lead_ofi_500ms"]
    assert (sessions["binance-usdm:ETHUSDT"].rows[:, flow] != 0.0).mean() > 0.5
