"""Forecasts in your own event loop: push raw frames, read rows.

    python examples/in_process.py

Here the frames come from the synthetic market; in your program they come from your WebSocket.
"""

import tempfile
from pathlib import Path

from finllm.app.wiring import open_pipeline
from finllm.domain.market import Flag
from finllm.market.synthetic import SyntheticMarket, generate


def main() -> None:
    """Push 30 simulated seconds and print the last row of each second."""
    with tempfile.TemporaryDirectory() as folder, open_pipeline(Path(folder)) as pipeline:
        horizons = [horizon.name for horizon in pipeline.book_horizons]
        print("p(up) at", ", ".join(horizons))
        second = 0
        for frame in generate(SyntheticMarket(duration_s=30)).frames():
            row = pipeline.push(frame)
            if row is None or frame.ts_recv // 1_000_000_000 == second:
                continue
            second = frame.ts_recv // 1_000_000_000
            state = "" if row["flags"][0] & Flag.VALID else "  (abstains: warming or resyncing)"
            print("  ".join(f"{p:.3f}" for p in row["p"][0][:, 2]) + state)


if __name__ == "__main__":
    main()
