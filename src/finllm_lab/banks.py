"""A bank against the best single model, on synthetic regimes: the real session, calibration and switches.

Streams are drawn at one row a second, so that a regime lasts the better part of an hour and the ten minutes
after a switch are 600 rows. The single models are a pooled one, which also sees how busy and how wild the
stream is, and each member by itself; the best of them is chosen on streams apart.
"""

import math
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.forecast import Forecast, Outcome, Rung
from finllm.domain.instrument import Horizon
from finllm.domain.market import ROW_HEAD, Flag
from finllm.domain.spec import Feature, FeatureSpec
from finllm.domain.units import NS_PER_S
from finllm.edge.artifact import EMPTY_CARD, HorizonPrior, Learning, Manifest, RegimeRule
from finllm.edge.bank import Bank, BankManifest, load_bank, write_bank
from finllm.edge.regime import NAMES
from finllm.edge.serving import EWMA, REGIME, ROW, SWITCHES, TS_RECV, entries_of
from finllm.edge.session import EdgeSession
from finllm.features.book_spec import BOOK_SPEC
from finllm.runtime.kernels import kernel
from finllm_lab.export import graph_of, write_artifact
from finllm_lab.labels import BOOK_HORIZONS, GRID_NS, targets
from finllm_lab.regimes.law import Law
from finllm_lab.regimes.rules import book_rule, learn, walk, watched
from finllm_lab.regimes.score import TIMES, rows_of
from finllm_lab.regimes.stream import Stream, draw
from finllm_lab.tapes import Session
from finllm_lab.training import Penalty, Sample, columns_of, fit_path

WAIT_S: Final = 1.0
STRETCH: Final = 150.0
"""How much slower than the tapes the streams are."""
ROWS: Final = 60_000
BURN: Final = 10_000
EVERY: Final = 5
"""Rows between two forecasts."""
AFTER_S: Final = 600.0
TRAIN_SEEDS: Final = (100, 101)
CHOOSE_SEEDS: Final = (510,)
UNSEEN_SEEDS: Final = tuple(range(91_001, 91_005))
HORIZON: Final = Horizon(name="1s", ns=NS_PER_S, nominal_s=1.0, band="sigma")
SPEC: Final = FeatureSpec(
    name="synthetic",
    version=1,
    features=tuple(
        Feature(name=name, unit="1", source="stream") for name in ("obi_1", "sigma", "pace", "stir")
    ),
)
LEARNING: Final = Learning(
    refit_ns=600 * NS_PER_S,
    grid_s=1.0,
    prior_n=60.0,
    baseline_prior_n=60.0,
    half_life_n=400.0,
    widen_n=20.0,
)
TAPE_LEARNING: Final = Learning(
    refit_ns=20 * NS_PER_S, grid_s=0.1, prior_n=10.0, baseline_prior_n=60.0, half_life_n=60.0
)
QUANTILES: Final = (-1.28, -0.67, 0.0, 0.67, 1.28)
BLOCK: Final = 200
"""Forecasts a block of the paired test: 1,000 s on streams, 20 s on recordings."""
LEAST_FIT: Final = 500
"""Grid points that a member must have been fitted on; below, the pooled model serves its regime."""

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


class _Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """What a member is fitted on."""

    spec: FeatureSpec
    horizon: Horizon
    rows: Doubles
    label: Ints
    penalty: Penalty
    learning: Learning
    unread: tuple[str, ...]


def _write(folder: Path, rule: RegimeRule, on: _Fitted) -> None:
    rows, label = on.rows, on.label
    sample = Sample(rows=rows, label=label[:, None], scaled=np.zeros((len(rows), 1)))
    columns = columns_of(on.spec, is_mirrored=True, core=("obi_1",), unread=on.unread)
    network = fit_path(sample, (on.penalty,), columns).network([(0,)], [(0,)])
    share = np.maximum(0.002, np.bincount(label, minlength=3) / len(label))
    share /= share.sum()
    prior = HorizonPrior(
        horizon=on.horizon,
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
        spec_hash=on.spec.hash,
        columns=tuple(on.spec.columns),
        sigma_column="sigma",
        baseline_column="obi_1",
        priors=(prior,),
        learning=on.learning,
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
    learning = msgspec.structs.replace(LEARNING, widen=widen)
    for name, part in (("pooled", r >= 0), *((name, r == k) for k, name in enumerate(NAMES))):
        fitted = _Fitted(
            spec=SPEC,
            horizon=HORIZON,
            rows=x[part],
            label=y[part],
            penalty=Penalty(1e-4),
            learning=learning,
            unread=("sigma",),
        )
        _write(root / name, rule, fitted)
    names = {name: name for name in NAMES}
    write_bank(root, BankManifest(name="synthetic", members=names, fallback="pooled"))
    found = {name: load_bank(root / name, spec=SPEC) for name in ("pooled", *NAMES)}
    return {**found, "bank": load_bank(root, spec=SPEC)}


def _said(bank: Bank, entries: Ints, label: Ints) -> Doubles:
    """Return the base claims of a bank's first horizon on observed rows, float64 [n, 3].

    Each label, -1 unknown, is learnt from once its horizon has passed.
    """
    horizon, entries_f = bank.horizons[0], entries.view(np.float64)
    raw = bank.infer(np.ascontiguousarray(entries_f[:, ROW:]), entries[:, REGIME])
    session = EdgeSession(bank, bank.spec, "lab:X")
    said, waiting = np.zeros((len(entries), 3)), deque[tuple[Forecast, int]]()
    for i, ts in enumerate(entries[:, TS_RECV].tolist()):
        while waiting and waiting[0][0].ts_recv + horizon.ns <= ts:
            forecast, came = waiting.popleft()
            outcome = Outcome(
                forecast_id=forecast.forecast_id,
                instrument=forecast.instrument,
                horizon=forecast.horizon,
                ts_resolved=ts,
                return_bps=float(came - 1),
                label=came,
            )
            session.learn(forecast, outcome)
        out = session.speak(entries[i], raw[i], ts)
        made = session.record(out[0], entries_f[i], 0, epoch=1, rung=Rung.FULL)
        said[i] = made.base
        waiting.append((made, int(label[i])))
    return said


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
    said = _said(bank, entries, stream.label[at])
    starts = np.concatenate([[0], stream.switches])
    last = starts[np.searchsorted(starts, at, side="right") - 1]
    return Walked(p=said, label=stream.label[at], since_s=(stream.ts[at] - stream.ts[last]) / 1e9)


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
    """Return how the bank does on unseen streams, beside the best single model.

    The first widening is the one compared; calibration is told of each.
    """
    rule, ece_of, first, chosen = rule_of(law, confirm), {}, None, ""
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


class OnTapes(msgspec.Struct, frozen=True, kw_only=True):
    """A bank beside the pooled model on the recording that both were fitted without."""

    left_out: str
    n: int
    shares: list[float]
    """Of the forecasts, in each regime."""
    log_loss: dict[str, float]
    gain: float
    p_value: float


def on_tapes(sessions: Sequence[Session], sizes: tuple[float, float]) -> list[OnTapes]:
    """Compare a bank with one pooled model, one second ahead, leaving one recording out at a time.

    Args:
        sessions: Training sessions of order books.
        sizes: Bounds of small and of large moves.
    """
    return [
        _on_tape(name, sessions, sizes) for name in sorted({session.name for session in sessions})
    ]


def _write_members(
    root: Path, rule: RegimeRule, horizon: Horizon, sample: tuple[Doubles, Ints, Ints]
) -> None:
    """Fit and write the pooled model, a member for each regime with rows enough, and their bank."""
    rows, label, regime = sample
    members = {}
    for k, member in ((-1, "pooled"), *enumerate(NAMES)):
        part = (label >= 0) & ((regime == k) | (k < 0))
        if part.sum() < LEAST_FIT:
            continue
        fitted = _Fitted(
            spec=BOOK_SPEC,
            horizon=horizon,
            rows=rows[part],
            label=label[part],
            penalty=Penalty(0.03),
            learning=TAPE_LEARNING,
            unread=("sigma", "lead_known"),
        )
        _write(root / member, rule, fitted)
        if k >= 0:
            members[member] = member
    write_bank(root, BankManifest(name="tapes", members=members, fallback="pooled"))


def _on_tape(name: str, sessions: Sequence[Session], sizes: tuple[float, float]) -> OnTapes:
    (horizon,) = (h for h in BOOK_HORIZONS if h.nominal_s == 1.0)
    sigma = BOOK_SPEC.columns["sigma"]
    rule = book_rule([s for s in sessions if s.name != name], sizes)
    grids = [targets(s, (horizon,), sigma, GRID_NS) for s in sessions]
    seen = [walk(watched(s, np.zeros(len(s.rows), dtype=np.int64)), rule) for s in sessions]
    fit = [i for i, s in enumerate(sessions) if s.name != name]
    rows = np.concatenate([sessions[i].rows[grids[i].at] for i in fit])
    label = np.concatenate([grids[i].label[:, 0] for i in fit])
    regime = np.concatenate([seen[i][grids[i].at, 0] for i in fit])
    with TemporaryDirectory() as folder:
        root = Path(folder)
        _write_members(root, rule, horizon, (rows, label, regime))
        banks = {"pooled": load_bank(root / "pooled", spec=BOOK_SPEC)}
        banks["bank"] = load_bank(root, spec=BOOK_SPEC)
        losses: dict[str, list[Doubles]] = {which: [] for which in banks}
        held = []
        for i in (i for i, s in enumerate(sessions) if s.name == name):
            at, came = grids[i].at, grids[i].label[:, 0]
            entries = entries_of(sessions[i].heads[at], sessions[i].rows[at])
            entries[:, REGIME], entries[:, SWITCHES] = seen[i][at, 0], seen[i][at, 2]
            held.append(seen[i][at, 0])
            known = np.flatnonzero(came >= 0)
            for which, bank in banks.items():
                p = _said(bank, entries, came)
                losses[which].append(-np.log(p[known, came[known]]))
    loss = {which: np.concatenate(parts) for which, parts in losses.items()}
    gain = loss["pooled"] - loss["bank"]
    shares = np.bincount(np.concatenate(held), minlength=3) / sum(len(part) for part in held)
    return OnTapes(
        left_out=name,
        n=len(gain),
        shares=shares.round(3).tolist(),
        log_loss={which: round(float(part.mean()), 5) for which, part in loss.items()},
        gain=round(float(gain.mean() / loss["pooled"].mean()), 5),
        p_value=round(paired(gain), 4),
    )
