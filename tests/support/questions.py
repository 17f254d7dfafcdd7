"""Questions of the usual size, and how late this machine is while they are asked."""

import threading
import time
from typing import Self

import numpy as np

from finllm.domain.evidence import Evidence, EvidenceKind, EvidencePack
from finllm.domain.protocol import Escalate

S = 1_000_000_000


class Lag:
    """How late this machine wakes whoever sleeps: what no client can be blamed for."""

    def __init__(self) -> None:
        self.most_ns = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic_ns()
            time.sleep(0.002)
            self.most_ns = max(self.most_ns, time.monotonic_ns() - began - 2_000_000)


def question(
    i: int, rng: np.random.Generator, deadline_s: float = 60.0
) -> tuple[Escalate, EvidencePack]:
    """Return a question about a pack of the usual size: four texts and four observations."""
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
        for j in range(4)
    )
    seen = tuple(
        Evidence(
            evidence_id=f"s{i}-{j}",
            kind=EvidenceKind.OBSERVATION,
            instrument="test:A",
            ts_recv=ts,
            origin="market",
            feature=("obi_1", "ofi_1", "spread", "ret")[j],
            window_ns=S,
            value=float(rng.normal()),
            unit="1",
            z_score=float(rng.normal()),
        )
        for j in range(4)
    )
    pack = EvidencePack(
        pack_id=f"p{i}",
        instrument="test:A",
        as_of=ts,
        evidence=claims + seen,
        n_documents=4,
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
