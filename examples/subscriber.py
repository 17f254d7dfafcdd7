"""Forecast rows of a live run, read in a process of its own by `finllm.subscribe`.

Beside a run of yours, `with finllm.subscribe() as feed:` is all it takes. So that this runs on its own, it
starts a simulated exchange on loopback and a `finllm run` on it first.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import finllm
from finllm.app.exchange import Exchange, synthetic_tapes
from finllm.app.subscribe import Subscription
from finllm.domain.errors import InputError
from finllm.domain.market import Flag
from finllm.runtime.clock import WallClock

NAME = "example"
N_ROWS = 8
CLOCK = WallClock()


def main() -> None:
    """Print a few rows as they come."""
    with live_run(), subscribed() as feed:
        left = N_ROWS
        for batch in feed:
            for instrument, row in zip(batch.instruments, batch.rows, strict=True):
                if row["flags"] & Flag.ABSTAINED:
                    continue  # no whole book yet: climatology is served
                down, flat, up = row["p"][feed.horizons.index("1s")]
                sys.stdout.write(f"{instrument} in 1 s: {down:.3f} {flat:.3f} {up:.3f}\n")
                left -= 1
            if left <= 0:
                return


@contextmanager
def live_run() -> Iterator[None]:
    """Run live on a simulated exchange, in a folder that goes away."""
    with (
        tempfile.TemporaryDirectory() as folder,
        synthetic_tapes(7, minutes=2.0) as tapes,
        Exchange(tapes, port=0) as exchange,
    ):
        config = Path(folder) / "live.toml"
        config.write_text(exchange.settings())
        out = str(Path(folder) / "run")
        command = [sys.executable, "-m", "finllm", "run", "--config", str(config), "--name", NAME]
        with subprocess.Popen([*command, "--out", out], stdout=subprocess.DEVNULL) as run:  # noqa: S603 - our own
            yield
            run.terminate()


def subscribed(patience_s: float = 120.0) -> Subscription:
    """Subscribe as soon as the run publishes."""
    until = CLOCK.now() + int(patience_s * 1e9)
    while True:
        try:
            return finllm.subscribe(NAME)
        except InputError:
            if CLOCK.now() > until:
                raise
            CLOCK.sleep(100_000_000)


if __name__ == "__main__":
    main()
