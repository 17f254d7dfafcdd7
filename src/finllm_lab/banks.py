"""A bank against the best single model, on synthetic regimes: the real session, calibration and switches.

Streams are drawn at one row a second, so that a regime lasts the better part of an hour and the ten minutes
after a switch are 600 rows. The single models are a pooled one, which also sees how busy and how wild the
stream is, and each member by itself; the best of them is chosen on streams apart.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.forecast import Outcome, Rung
from finllm.domain.instrument import Horizon
from finllm.domain.market import ROW_HEAD, Flag
from finllm.domain.spec import Feature, FeatureSpec
from finllm.domain.units import NS_PER_S
from finllm.edge.artifact import HorizonPrior, Learning, Manifest, RegimeRule
from finllm.edge.bank import Bank, BankManifest, load_bank, write_bank
from finllm.edge.regime import NAMES
from finllm.edge.serving import EWMA, REGIME, SWITCHES, entries_of
from finllm.edge.session import EdgeSession
from finllm.runtime.kernels import kernel
from finllm_lab.export import EMPTY_CARD, graph_of, write_artifact
from finllm_lab.regimes.law import Law
from finllm_lab.regimes.rules import learn, walk
from finllm_lab.regimes.score import TIMES, rows_of
from finllm_lab.regimes.stream import Stream, draw
from finllm_lab.training import Penalty, Sample, columns_of, fit_path

WAIT_S: Final = 1.0
STRETCH: Final = 150.0
"""How much slower than the tapes the streams are."""
ROWS: Final = 60_000
BURN: Final = 10_000
EVERY: Final = 5
"""Rows between two forecasts."""
AFTER_S: Final = 600.0
TRAIN_SEEDS: Final = tuple(range(100, 104))
CHOOSE_SEEDS: Final = (510, 511)
UNSEEN_SEEDS: Final = tuple(range(91_001, 91_007))
HORIZON: Final = Horizon(name="1s", ns=NS_PER_S, nominal_s=1.0, band="sigma")
SPEC: Final = FeatureSpec(
    name="synthetic",
    version=1,
    features=tuple(
        Feature(name=name, unit="1", source="stream") for name in ("obi_1", "sigma", "pace", "stir")
    ),
)
QUANTILES: Final = (-1.28, -0.67, 0.0, 0.67, 1.28)
BLOCK: Final = 200
"""Forecasts a block of the paired test: 1,000 s."""

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


class Walked(msgspec.Struct, frozen=True, kw_only=True):
    """What was said on a stream and what came, one entry per resolved forecast."""

    p: Doubles
    """float64 [n, 3]."""
    label: Ints
    since_s: Doubles
    """Seconds since the regime in truth last changed."""

    @property
    def loss(self) -> Doubles:
        """Return log losses, float64 [n]."""
        losses: Doubles = -np.log(self.p[np.arange(len(self.p)), self.label])
        return losses


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The bank beside the best single model, and calibration after switches."""

    n: int
    chosen: str
    """Which single model was best on the streams for choosing."""
    log_loss: dict[str, float]
    gain: float
    """Share of the best single model's log loss that the bank saves."""
    p_value: float
    """One-sided, paired blocks."""
    ece: dict[str, dict[str, float]]
    """By widening: `calm`, `after` (ten minutes after a switch), their ratio, and what a perfect forecaster
    would show on as many outcomes."""


@kernel
def _busy(ts: Ints, mid2: Ints, fast_s: float, slow_s: float, out: Doubles) -> None:
    rate, energy = np.zeros(2), np.zeros(2)
    for i in range(1, len(ts)):
        passed = (ts[i] - ts[i - 1]) * 1e-9
        move = (mid2[i] / mid2[i - 1] - 1.0) * 1e4
        for k in range(2):
            span = fast_s if k == 0 else slow_s
            fade = math.exp(-passed / span)
            rate[k] = rate[k] * fade + 1.0 / span
            energy[k] = energy[k] * fade + move * move / span
        out[i, 0] = math.log(rate[0] / rate[1])
        out[i, 1] = 0.5 * math.log((energy[0] + 1e-3 * energy[1] + 1e-300) / (energy[1] + 1e-300))


def _features(stream: Stream) -> Doubles:
    busy = np.zeros((len(stream.ts), 2))
    _busy(stream.ts, stream.mid2, 100.0 * WAIT_S, 20_000.0 * WAIT_S, busy)
    return np.column_stack([stream.imbalance, np.ones(len(busy)), busy])


def rule_of(law: Law, confirm: float) -> RegimeRule:
    """Return the rule of streams at one row a second, learnt on training streams."""
    times = msgspec.structs.replace(
        TIMES, fast_s=TIMES.fast_s * STRETCH, slow_s=TIMES.slow_s * STRETCH
    )
    parts = [rows_of(draw(law, seed, 4 * ROWS, wait_s=WAIT_S)) for seed in TRAIN_SEEDS]
    return learn(parts, times, sizes=(law.small, law.large), confirm=confirm)


def _write(folder: Path, rule: RegimeRule, rows: Doubles, label: Ints, widen: float) -> None:
    sample = Sample(rows=rows, label=label[:, None], scaled=np.zeros((len(rows), 1)))
    columns = columns_of(SPEC, is_mirrored=True, core=("obi_1",), unread=("sigma",))
    network = fit_path(sample, (Penalty(1e-4),), columns).network([0], [0])
    share = np.bincount(label, minlength=3) / len(label)
    prior = HorizonPrior(
        horizon=HORIZON,
        tilt_c=1.0,
        climatology=(float(share[0]), float(share[1]), float(share[2])),
        climatology_q=QUANTILES,
        baseline_logit=(math.log(share[0] / share[1]), 0.0, math.log(share[2] / share[1]), 0.0),
        ewma_scale=1.0,
    )
    manifest = Manifest(
        format=1,
        name=folder.name,
        version="",
        spec_hash=SPEC.hash,
        columns=tuple(SPEC.columns),
        sigma_column="sigma",
        baseline_column="obi_1",
        priors=(prior,),
        learning=Learning(
            refit_ns=120 * NS_PER_S,
            grid_s=1.0,
            prior_n=60.0,
            baseline_prior_n=60.0,
            half_life_n=400.0,
            widen=widen,
            widen_n=20.0,
        ),
        regime=rule,
        card=EMPTY_CARD,
        model_sha256="",
    )
    write_artifact(folder, manifest, graph_of(network))


def banks_of(law: Law, rule: RegimeRule, root: Path, widen: float) -> dict[str, Bank]:
    """Fit the pooled model and the members on training streams; return each alone, and the bank."""
    rows, label, regime = [], [], []
    for seed in TRAIN_SEEDS:
        stream = draw(law, seed, 4 * ROWS, wait_s=WAIT_S)
        picked = slice(BURN, None, EVERY)
        rows.append(_features(stream)[picked])
        label.append(stream.label[picked])
        regime.append(walk(rows_of(stream), rule)[picked, 0])
    x, y, r = np.concatenate(rows), np.concatenate(label), np.concatenate(regime)
    _write(root / "pooled", rule, x, y, widen)
    for k, name in enumerate(NAMES):
        _write(root / name, rule, x[r == k], y[r == k], widen)
    names = {name: name for name in NAMES}
    write_bank(root, BankManifest(name="synthetic", members=names, fallback="pooled"))
    found = {name: load_bank(root / name, spec=SPEC) for name in ("pooled", *NAMES)}
    return {**found, "bank": load_bank(root, spec=SPEC)}


def walked(stream: Stream, bank: Bank) -> Walked:
    """Walk a bank over a stream: a forecast every few rows, learnt from a second later."""
    observed = walk(rows_of(stream), bank.rule)
    at = np.arange(BURN, len(stream.ts), EVERY)
    heads = np.zeros(len(at), dtype=ROW_HEAD)
    heads["seq"], heads["ts_recv"], heads["ts_event"] = at, stream.ts[at], stream.ts[at]
    heads["mid2"], heads["spread"], heads["flags"] = stream.mid2[at], 1, int(Flag.VALID)
    entries = entries_of(heads, _features(stream)[at])
    entries_f = entries.view(np.float64)
    entries[:, REGIME], entries[:, SWITCHES] = observed[at, 0], observed[at, 2]
    entries_f[:, EWMA] = 1.0
    raw = bank.infer(np.ascontiguousarray(entries_f[:, -len(SPEC) :]), entries[:, REGIME])
    session = EdgeSession(bank, SPEC, "synthetic:X")
    said, waiting = [], []
    for i, ts in enumerate(stream.ts[at].tolist()):
        while waiting and waiting[0][0].ts_recv + HORIZON.ns <= ts:
            forecast, label = waiting.pop(0)
            outcome = Outcome(
                forecast_id=forecast.forecast_id,
                instrument="synthetic:X",
                horizon=HORIZON.name,
                ts_resolved=ts,
                return_bps=float(label - 1),
                label=label,
            )
            session.learn(forecast, outcome)
        out = session.speak(entries[i], entries_f[i], raw[i], ts)
        made = session.record(out[0], entries_f[i], 0, epoch=1, rung=Rung.FULL)
        said.append(made.base)
        waiting.append((made, int(stream.label[at[i]])))
    starts = np.concatenate([[0], stream.switches])
    last = starts[np.searchsorted(starts, at, side="right") - 1]
    return Walked(
        p=np.array(said), label=stream.label[at], since_s=(stream.ts[at] - stream.ts[last]) / 1e9
    )


def ece(p: Doubles, label: Ints, n_bins: int = 15) -> float:
    """Return the expected calibration error over the three classes, in bins of equal count."""
    said, came = p.reshape(-1), (label[:, None] == np.arange(3)).astype(np.float64).reshape(-1)
    parts = np.array_split(np.argsort(said, kind="stable"), n_bins)
    gaps = [len(part) * abs(float(said[part].mean() - came[part].mean())) for part in parts]
    return float(sum(gaps) / len(said))


def _perfect(p: Doubles, seed: int = 0) -> float:
    rng = np.random.default_rng(seed)
    u = rng.random((20, len(p), 1))
    drawn = (u > np.cumsum(p, axis=1)[None]).sum(axis=2)
    return float(np.mean([ece(p, np.minimum(labels, 2)) for labels in drawn]))


def paired(gain: Doubles) -> float:
    """Return the one-sided p-value of a mean gain above zero, by blocks (normal law)."""
    blocks = np.array([part.mean() for part in np.array_split(gain, max(2, len(gain) // BLOCK))])
    t = float(blocks.mean() / (blocks.std(ddof=1) / math.sqrt(len(blocks))))
    return 0.5 * math.erfc(t / math.sqrt(2.0))


def compare(law: Law, confirm: float, widens: Sequence[float] = (1.0, 1.5)) -> Report:
    """Return how the bank does on unseen streams, beside the best single model; the first widening is the
    one compared.
    """
    rule, ece_of, first = rule_of(law, confirm), {}, None
    for widen in widens:
        with TemporaryDirectory() as folder:
            banks = banks_of(law, rule, Path(folder), widen)
            if first is None:
                choice = {
                    name: np.mean([walked(_unseen(law, s), b).loss.mean() for s in CHOOSE_SEEDS])
                    for name, b in banks.items()
                    if name != "bank"
                }
                chosen = min(choice, key=lambda name: choice[name])
                first = {
                    name: _together([walked(_unseen(law, s), banks[name]) for s in UNSEEN_SEEDS])
                    for name in ("bank", chosen)
                }
                found = first["bank"]
            else:
                parts = [walked(_unseen(law, s), banks["bank"]) for s in UNSEEN_SEEDS]
                found = _together(parts)
        ece_of[f"{widen:g}"] = _calibration(found)
    if first is None:
        raise ValueError("name at least one widening")
    losses = {name: part.loss for name, part in first.items()}
    gain = losses[chosen] - losses["bank"]
    return Report(
        n=len(gain),
        chosen=chosen,
        log_loss={name: round(float(loss.mean()), 5) for name, loss in losses.items()},
        gain=round(float(gain.mean() / losses[chosen].mean()), 5),
        p_value=paired(gain),
        ece=ece_of,
    )


def _unseen(law: Law, seed: int) -> Stream:
    return draw(law, seed, ROWS, wait_s=WAIT_S)


def _together(parts: Sequence[Walked]) -> Walked:
    return Walked(
        p=np.concatenate([part.p for part in parts]),
        label=np.concatenate([part.label for part in parts]),
        since_s=np.concatenate([part.since_s for part in parts]),
    )


def _calibration(found: Walked) -> dict[str, float]:
    after = found.since_s < AFTER_S
    calm = ece(found.p[~after], found.label[~after])
    switched = ece(found.p[after], found.label[after])
    return {
        "calm": round(calm, 4),
        "after": round(switched, 4),
        "ratio": round(switched / calm, 2),
        "n_calm": float((~after).sum()),
        "n_after": float(after.sum()),
        "perfect_calm": round(_perfect(found.p[~after]), 4),
        "perfect_after": round(_perfect(found.p[after]), 4),
    }
