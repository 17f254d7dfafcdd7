"""What the workshop's walk says of an edge is what the edge itself says, row by row."""

import msgspec
import numpy as np
import pytest

from edge_toys import manifest_of, network_of, spec_of
from finllm.domain.forecast import Forecast, Rung
from finllm.domain.market import ROW_HEAD
from finllm.domain.spec import FeatureSpec
from finllm.edge.artifact import Artifact, Learning, load_artifact
from finllm.edge.bank import alone
from finllm.edge.serving import entries_of
from finllm.edge.session import EdgeSession
from finllm.features.outcomes import OutcomeResolver
from finllm_lab.export import graph_of, write_artifact
from finllm_lab.labels import grid
from finllm_lab.tapes import Session
from finllm_lab.walk import walk
from lab_sessions import T0

SPEC = spec_of("obi_1", "sigma", "a")
GRID_NS = 100_000_000


def _session(seed: int, n: int = 4_000) -> Session:
    rng = np.random.default_rng(seed)
    heads = np.zeros(n, dtype=ROW_HEAD)
    heads["seq"] = np.arange(1, n + 1)
    heads["ts_recv"] = T0 + np.cumsum(rng.choice([0, 1, 30, 60, 100], n)) * 1_000_000
    loud = np.repeat(rng.choice([1, 6], 1 + n // 500), 500)[:n]
    heads["mid2"] = 200_001 + np.cumsum(rng.integers(-1, 2, n) * loud)
    heads["spread"] = rng.integers(1, 4, n)
    heads["flags"] = np.where(rng.random(n) < 0.01, 4, 1)
    rows = np.stack([rng.uniform(-1, 1, n), rng.uniform(0.5, 2.0, n), rng.normal(size=n)], axis=1)
    return Session(name="toy", instrument="x:Y", heads=heads, rows=rows)


def _row_by_row(session: Session, artifact: Artifact) -> list[list[tuple[float, ...]]]:
    """Return, by horizon, (time, label, p by voice, q by voice, regime) of each resolved grid point."""
    edge = EdgeSession(alone(artifact), artifact.spec, session.instrument)
    resolver = OutcomeResolver(session.instrument, artifact.horizons)
    raw = artifact.model.infer(session.rows)
    entries = entries_of(session.heads, session.rows)
    picked = set(grid(session.heads, GRID_NS).tolist())
    names = [horizon.name for horizon in artifact.horizons]
    pending: dict[str, Forecast] = {}
    found: list[list[tuple[float, ...]]] = [[] for _ in names]
    last = session.heads[:1].copy()
    for i, ts in enumerate(session.heads["ts_recv"].tolist()):
        if resolver.next_due < ts:
            for outcome in resolver.resolve(last[0], ts):
                made = pending.pop(outcome.forecast_id)
                edge.learn(made, outcome)
                if outcome.label >= 0 and made.reference is not None:
                    of = made.reference
                    p = (*made.base, *of.climatology, *of.ewma, *of.obi)
                    q = (*made.base_q, *of.climatology_q, *of.ewma_q)
                    found[names.index(made.horizon)].append(
                        (made.ts_recv - T0, outcome.label, outcome.return_bps, *p, *q)
                    )
        edge.observe(entries[i])
        out = edge.speak(entries[i], raw[i], ts)
        last[0] = session.heads[i]
        if i in picked:
            for h in range(len(names)):
                made = edge.record(out[0], entries[i].view(np.float64), h, epoch=1, rung=Rung.FULL)
                pending[made.forecast_id] = made
                head = session.heads[i]
                resolver.open(made.forecast_id, h, ts, int(head["mid2"]), made.band_bps)
    return found


def _artifact(
    tmp: object,
    spec: FeatureSpec,
    trusts_q: tuple[float, float, float] = (1.0, 0.75, 0.0),
    **learning: float,
) -> Artifact:
    manifest = manifest_of(spec)
    rule = msgspec.to_builtins(manifest.learning) | {"refit_ns": 5 * 10**9} | learning
    priors = tuple(
        msgspec.structs.replace(prior, trust_p=trust_p, trust_q=trust_q)
        for prior, trust_p, trust_q in zip(manifest.priors, (1.0, 0.5, 0.0), trusts_q, strict=True)
    )
    manifest = msgspec.structs.replace(
        manifest, priors=priors, learning=msgspec.convert(rule, Learning)
    )
    write_artifact(tmp, manifest, graph_of(network_of(spec)))
    return load_artifact(tmp, spec=spec)


@pytest.mark.parametrize(
    ("widen", "seed", "trusts_q"),
    [(1.0, 1, (1.0, 0.75, 0.0)), (2.0, 2, (0.0, 0.0, 0.0)), (2.0, 3, (0.5, 0.25, 0.0))],
)
def test_a_walk_says_what_the_edge_says_row_by_row(
    tmp_path_factory: pytest.TempPathFactory,
    widen: float,
    seed: int,
    trusts_q: tuple[float, float, float],
) -> None:
    artifact = _artifact(
        tmp_path_factory.mktemp("toy"), SPEC, trusts_q, half_life_n=20.0, widen=widen, widen_n=5.0
    )
    session = _session(seed)
    wanted = _row_by_row(session, artifact)
    for h, said in enumerate(walk(session, artifact, GRID_NS)):
        rows = sorted(wanted[h])
        assert len(rows) == len(said.ts) > 200
        table = np.array(rows)
        np.testing.assert_array_equal(table[:, 0].astype(np.int64), said.ts - T0)
        np.testing.assert_array_equal(table[:, 1].astype(np.int64), said.label)
        np.testing.assert_allclose(table[:, 2], said.return_bps, rtol=1e-12, atol=1e-12)
        n = len(rows)
        np.testing.assert_allclose(table[:, 3:15], said.p.reshape(n, 12), rtol=0, atol=2e-5)
        np.testing.assert_allclose(table[:, 15:], said.q.reshape(n, 15), rtol=2e-4, atol=2e-4)


def test_an_untrusted_horizon_says_what_climatology_says(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    artifact = _artifact(tmp_path_factory.mktemp("toy"), SPEC)
    *_, said = walk(_session(3), artifact, GRID_NS)
    np.testing.assert_allclose(said.p[:, 0], said.p[:, 1], atol=1e-12)
    np.testing.assert_allclose(said.q[:, 0], said.q[:, 1], atol=1e-12)


def test_what_was_said_without_learning_is_what_an_edge_says_that_never_learns(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    session = _session(3)
    learning = walk(session, _artifact(tmp_path_factory.mktemp("toy"), SPEC), GRID_NS)
    never = _artifact(tmp_path_factory.mktemp("toy"), SPEC, refit_ns=2**62)
    for learnt, said in zip(learning, walk(session, never, GRID_NS), strict=True):
        np.testing.assert_allclose(learnt.first_p, said.p[:, 0], atol=1e-12)
    assert not np.allclose(learning[0].first_p, learning[0].p[:, 0], atol=1e-3)
