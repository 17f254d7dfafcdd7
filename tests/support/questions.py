"""Questions of the usual size, and how late this machine is while they are asked."""

import subprocess
import sys
from typing import Self

import msgspec
import numpy as np

from finllm.domain.evidence import Evidence, EvidenceKind, EvidencePack
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Escalate
from support.forecasts import forecast

S = 1_000_000_000
HORIZONS_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
SEEN = (
    *("obi_1", "obi_5", "obi_10", "obi_10_lately", "ofi_2s", "flow_2s", "depth_slope_skew"),
    *(
        "depth_slope_lately",
        "depth_slope_skew_lately",
        "depletion_10s",
        "sigma",
        "rv_10s",
        "rv_60s",
    ),
    *("event_rate_2s", "spread_rel", "move_2s", "move_5s", "move_10s", "move_20s", "move_30s"),
    "move_60s",
)
"""What a book's observer shows at most."""
_WATCH = """
import sys, threading, time
ending = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ending.set()), daemon=True).start()
print("ready", flush=True)
most_ns = 0
while not ending.is_set():
    began = time.monotonic_ns()
    time.sleep(0.002)
    most_ns = max(most_ns, time.monotonic_ns() - began - 2_000_000)
print(most_ns)
"""


class Lag:
    """How late this machine wakes whoever sleeps: what no client can be blamed for.

    It is measured in a process of its own: a client that keeps the interpreter to itself is to blame.
    """

    def __init__(self) -> None:
        self.most_ns = 0
        """Known once it is closed."""
        self._watch: subprocess.Popen[str]

    def __enter__(self) -> Self:
        self._watch = subprocess.Popen(
            [sys.executable, "-c", _WATCH],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._watch.stdout is not None
        assert self._watch.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        said, _ = self._watch.communicate()
        self.most_ns = int(said)


def seen(
    i: int, ts: int, rng: np.random.Generator, features: tuple[str, ...] = SEEN
) -> tuple[Evidence, ...]:
    """Return what a book shows at an instant."""
    return tuple(
        Evidence(
            evidence_id=f"s{i}-{feature}",
            kind=EvidenceKind.OBSERVATION,
            instrument="test:A",
            ts_recv=ts,
            origin="market",
            feature=feature,
            window_ns=S,
            value=float(rng.normal()),
            unit="1",
            z_score=float(rng.normal()),
        )
        for feature in features
    )


def forecasts_of(asked: Escalate) -> tuple[Forecast, ...]:
    """Return the forecasts that a question is about, one for each horizon of a book."""
    return tuple(
        msgspec.structs.replace(
            forecast(horizon_s, issued=asked.ts), forecast_id=f"{asked.question_id}-{horizon_s:g}"
        )
        for horizon_s in HORIZONS_S
    )


def question(
    i: int,
    rng: np.random.Generator,
    deadline_s: float = 60.0,
    n_texts: int = 4,
    features: tuple[str, ...] = ("obi_1", "ofi_1", "spread", "ret"),
) -> tuple[Escalate, EvidencePack]:
    """Return a question about a small pack, or one of another size; a book's usual one holds 12 texts."""
    ts = 1_000_000 * S + i * S
    claims = tuple(
        Evidence(
            evidence_id=f"e{i}-{j}",
            kind=EvidenceKind.CLAIM,
            instrument="test:A",
            ts_recv=ts - S,
            origin=f"o{j}",
            document_id=f"d{i}-{j}",
            quote=f"The company expects revenue {j} % above last year, its chairman said on day {i}.",
            stance=float(rng.uniform(-1.0, 1.0)),
            novelty=1.0,
            credibility=float(rng.uniform(0.2, 1.0)),
            relevance=0.9,
        )
        for j in range(n_texts)
    )
    pack = EvidencePack(
        pack_id=f"p{i}",
        instrument="test:A",
        as_of=ts,
        evidence=claims + seen(i, ts, rng, features),
        n_documents=n_texts,
        n_copies=0,
        burst=1.0,
    )
    asked = Escalate(
        question_id=f"q{i}",
        instrument="test:A",
        ts=ts,
        notice_id="n",
        standing=(),
        deadline=ts + int(deadline_s * S),
        expected_gain=float(rng.random()),
        reason="test",
    )
    return asked, pack
