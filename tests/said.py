"""Made-up records of what an edge said, with a truth that is known."""

import numpy as np

from finllm.domain.forecast import LEVELS
from finllm.domain.instrument import Horizon
from finllm.domain.label import SIGMA_BAND
from finllm_lab.walk import Said

T0 = 1_700_000_000 * 10**9
STEP_NS = 10**8
Z = np.array(
    [-1.2815515655446004, -0.6744897501960817, 0.0, 0.6744897501960817, 1.2815515655446004]
)


def horizon_of(seconds: float) -> Horizon:
    return Horizon(
        name=f"{seconds:g}s", ns=round(seconds * 10**9), nominal_s=seconds, band="half_spread"
    )


def normal_claim(mean, sigma, band):
    """Return down, flat, up and quantiles of a normal law, [n, 3] and [n, 5]."""
    from scipy.special import ndtr

    down, up = ndtr((-band - mean) / sigma), ndtr((mean - band) / sigma)
    return np.stack([down, 1.0 - down - up, up], axis=1), mean[:, None] + sigma[:, None] * Z


def make_said(
    n=2_000,
    *,
    seed=0,
    seconds=1.0,
    instrument="binance-usdm:BTCUSDT",
    session="toy",
    voice="truth",
    known=0.7,
    step_ns=STEP_NS,
    start=T0,
    lasting=1.0,
) -> Said:
    """Return what one voice said of returns with a drift that half shows in the column.

    Args:
        n: Grid points.
        seed: Of everything drawn.
        seconds: Horizon.
        instrument: Key.
        session: Name.
        voice: `truth` says the law that the returns are drawn from, `loud` the same with log-odds
            doubled, `nothing` climatology with some noise, `leak` what comes, with some noise.
        known: Deviation of the drift in deviations of the noise.
        step_ns: Time between two grid points.
        start: First receive time.
        lasting: Seconds over which drift and volatility persist.
    """
    rng = np.random.default_rng(seed)
    ts = start + np.arange(n) * step_ns
    fade = np.exp(-step_ns / 1e9 / lasting)
    drift, quiet = _walked(rng, n, fade), _walked(rng, n, fade)
    sigma = np.exp(0.4 * quiet)
    mean = known * sigma * drift
    value = mean + sigma * rng.standard_normal(n)
    band = np.full(n, SIGMA_BAND)
    label = np.where(value >= band, 2, np.where(value <= -band, 0, 1))
    spread = float(np.sqrt(np.mean(value**2)))
    flat = np.full(n, spread)
    truth, truth_q = normal_claim(mean, sigma, band)
    ewma, ewma_q = normal_claim(np.zeros(n), sigma, band)
    shares = np.bincount(label, minlength=3) / n
    climatology = np.tile(shares, (n, 1))
    column = drift + rng.standard_normal(n)
    by_column, _ = normal_claim(0.5 * known * column * flat, 0.95 * flat, band)
    climatology_q = np.tile(np.quantile(value, LEVELS), (n, 1))
    edge, edge_q = _voice(voice, truth, truth_q, climatology, climatology_q, value, band, rng)
    return Said(
        session=session,
        instrument=instrument,
        horizon=horizon_of(seconds),
        model_version=f"toy-{voice}",
        ts=ts,
        ts_end=ts + round(seconds * 10**9),
        label=label,
        return_bps=value,
        band_bps=band,
        regime=np.minimum(2, np.floor(np.abs(quiet))).astype(np.int64),
        is_abstained=np.zeros(n, np.bool_),
        column=column,
        p=np.stack([edge, climatology, ewma, by_column], axis=1),
        q=np.stack([edge_q, climatology_q, ewma_q], axis=1),
        first_p=0.5 * (edge + climatology),
    )


def _walked(rng, n, fade):
    from scipy.signal import lfilter

    shocks = rng.standard_normal(n + 200) * np.sqrt(1.0 - fade * fade)
    return lfilter([1.0], [1.0, -fade], shocks)[200:]


def _voice(voice, truth, truth_q, climatology, climatology_q, value, band, rng):  # noqa: PLR0917 - a list of what each may say
    if voice == "truth":
        return truth, truth_q
    if voice == "loud":
        loud = truth**2
        return loud / loud.sum(axis=1, keepdims=True), 0.5 * truth_q
    if voice == "nothing":
        noise = climatology * np.exp(0.1 * rng.standard_normal(climatology.shape))
        return noise / noise.sum(axis=1, keepdims=True), climatology_q
    glimpse = 0.5 * value + 0.5 * rng.standard_normal(len(value))
    return normal_claim(glimpse, np.full(len(value), 0.8), band)
