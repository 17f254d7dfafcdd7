"""What turns a feature row and a raw claim into a forecast row, in two compiled steps.

`observe` is for every row, in the order of the rows: it keeps the regime and writes what it found
beside the row. `speak` is for any row that is served, in any process, once or again: it needs the row
with what `observe` wrote, the claim, and the parameters in force, and keeps nothing. So rows may be
passed over between the two without changing what is said of the others.

Three arrays cross from process to process, each of words that are seen as int64 or as float64:
an *entry* (`ROW_HEAD`, what was observed, the row), the *parameters* (versions, the outlook's times,
one line a horizon), and the forecast row (`forecast_row_dtype`).
"""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.forecast import LEVELS, forecast_row_dtype
from finllm.domain.label import SIGMA_BAND
from finllm.domain.market import ROW_HEAD, Flag
from finllm.domain.tilt import tilt as tilt_rule
from finllm.edge.baselines import climatology_quantile
from finllm.edge.regime import N_REGIMES, watch
from finllm.edge.sizes import WIDTH, implied
from finllm.runtime.kernels import kernel

Words = NDArray[np.int64]
Doubles = NDArray[np.float64]

GOOD: Final = int(Flag.VALID)
BAD: Final = int(~(Flag.VALID | Flag.UNVERIFIED) & (Flag.ABSTAINED - 1))
ABSTAINED: Final = int(Flag.ABSTAINED)
LN2: Final = math.log(2.0)
LOW: Final = 0xFFFF_FFFF

# An entry, in words: `ROW_HEAD`, then what was observed (regime, fast volatility, switches), then the row.
SEQ, TS_RECV, TS_EVENT, MID2, SPREAD, FLAGS_AND_KIND = range(ROW_HEAD.itemsize // 8)
REGIME: Final = 6
EWMA: Final = 7
"""Fast volatility in bps per root second, a float64; 0 where none is known."""
SWITCHES: Final = 8
"""How often the regime had changed by this row."""
ROW: Final = 9
"""Where the features start."""

# Parameters, in words: these, then a block for each regime: the version of the calibration that holds in
# it, then `LINE` float64 a horizon.
VERSION, EARNED, OUT_VERSION, OUT_TS, OUT_EXPIRES, OUT_HALF_LIFE, SIGMA, N_HORIZONS = range(8)
"""`EARNED` is the switch that the widths in force were earned after; a later one has earned nothing yet."""
BLOCKS: Final = 8
CAL_VERSION: Final = 0
"""Offset into a block; its lines follow."""
ROOT_S, IS_HALF_SPREAD, TILT_C, CAL, SHIFT, LOG_K, SHARE = 0, 1, 2, 3, 7, 8, 9
CLIMATE_P, EMPIRICAL_Q, PRIOR_Q = 10, 13, 18
WIDTH_NOW, WIDTH_FRESH, TRUST_P, TRUST_Q, SIZES = 23, 24, 25, 26, 27
"""Offsets into a horizon's line."""
LINE: Final = SIZES + WIDTH
TS_EMIT: Final = 3
"""Offset into a forecast row, in words."""


def entry_words(n_features: int) -> int:
    """Return the length of an entry."""
    return ROW + n_features


def entries_of(heads: NDArray[np.void], rows: Doubles) -> Words:
    """Return entries int64 [n, 8 + F] for rows float64 [n, F] and their `ROW_HEAD`s [n]."""
    entries = np.zeros((len(rows), entry_words(rows.shape[1])), dtype=np.int64)
    entries[:, :REGIME] = heads.view(np.int64).reshape(-1, REGIME)
    entries.view(np.float64)[:, ROW:] = rows
    return entries


def parameter_words(n_horizons: int) -> int:
    """Return the length of the parameters."""
    return BLOCKS + N_REGIMES * block_words(n_horizons)


def block_words(n_horizons: int) -> int:
    """Return the length of one regime's block of the parameters."""
    return 1 + LINE * n_horizons


def out_words(n_horizons: int) -> int:
    """Return the length of a forecast row."""
    return forecast_row_dtype(n_horizons).itemsize // 8


_tilt = kernel(tilt_rule)


@kernel
def observe(entry: Words, words: Words) -> None:
    """Keep the regime, and write it, its switches and the fast volatility into a row's entry.

    Args:
        entry: int64 [9 + F], its head written.
        words: int64 [271], the watch's memory; see `regime.watch`.
    """
    entry_f, words_f = entry.view(np.float64), words.view(np.float64)
    is_good = (entry[5] & GOOD) != 0
    watch(entry[1], entry[3], is_good, words, words_f)
    entry[6] = words[2]
    entry_f[7] = math.sqrt(words_f[6] / words_f[8]) if words_f[8] > 0.0 else 0.0
    entry[8] = words[3]


# What follows takes numbers, or is told where in an array it reads: numba counts who holds each slice and
# each array handed on, at 10 ns or so a time, and a row had a hundred of these.


@kernel
def _calibrated(
    down: float, flat: float, up: float, offset: float, scale: float, turns: float
) -> tuple[float, float, float]:
    move = offset + scale * math.log((down + up) / flat)
    turn = turns * math.log(up / down)
    p_move = 1.0 / (1.0 + math.exp(-max(-16.0, min(16.0, move))))
    up_share = 1.0 / (1.0 + math.exp(-max(-16.0, min(16.0, turn))))
    down, up = p_move * (1.0 - up_share), p_move * up_share
    return down, 1.0 - down - up, up


@kernel
def _climatology(params_f: Doubles, line: int, j: int, scale_bps: float) -> float:
    return climatology_quantile(
        params_f[line + 9], params_f[line + 13 + j], params_f[line + 18 + j], scale_bps
    )


@kernel
def _abstain(
    params_f: Doubles, line: int, scale_bps: float, out_f: Doubles, p: int, q: int
) -> None:
    for j in range(3):
        out_f[p + j] = params_f[line + 10 + j]
    for j in range(5):
        out_f[q + j] = _climatology(params_f, line, j, scale_bps)


@kernel
def _fade(now: int, params: Words) -> float:
    if params[2] == 0 or now < params[3] or now >= params[4]:
        return 0.0
    return math.exp(-LN2 * (now - params[3]) / params[5])


@kernel
def _speaks(entry: Words, sigma: float, raw: Doubles) -> bool:
    flags = entry[5] & LOW
    if (flags & GOOD) == 0 or (flags & BAD) != 0 or entry[3] <= 0:
        return False
    found = math.isfinite(sigma)
    for h in range(raw.shape[0]):
        for j in range(8):
            found &= math.isfinite(raw[h, j])
    return found


@kernel
def speak(  # noqa: C901, PLR0912, PLR0915 - a kernel: parts of its own cost a third more
    entry: Words, raw: Any, params: Words, out: Words
) -> None:
    """Fill a forecast row: calibration, pooling with climatology, base, the outlook's tilt, band and flags.

    The parameters are those of the row's own regime. After a switch the claim is widened by what is
    still to be earned.

    A row that is not good, or a claim that is not finite, is served climatology, untilted, with the
    flag ABSTAINED.

    Classes, calibrated, go nearer to climatology; quantiles, calibrated, from the median by the width, then
    nearer to what the classes imply, or to climatology's where the classes are wholly its own.

    Every array handed over costs about 50 ns: so they are few, and their other view is taken here.

    Args:
        entry: int64 [9 + F], observed.
        raw: float64 [H, 8], the model's claim.
        params: int64 [8 + 3 (1 + 61 H)], the parameters in force.
        out: int64 [6 + 17 H], its `ts_emit` written; filled.
    """
    entry_f, params_f = entry.view(np.float64), params.view(np.float64)
    out_f = out.view(np.float64)
    n = params[7]
    out[0], out[1], out[2] = entry[0], entry[2], entry[1]
    sigma = entry_f[9 + params[6]]
    block, width_at = 8 + entry[6] * (1 + LINE * n), 24 if entry[8] > params[1] else 23
    speaks = _speaks(entry, sigma, raw)
    if not (math.isfinite(sigma) and sigma > 0.0):
        sigma = entry_f[7]
    fade = _fade(out[3], params) if speaks else 0.0
    flags = entry[5] & LOW if speaks else entry[5] & LOW | ABSTAINED
    out[4] = flags | entry[6] << 32
    out[5] = params[block] | (params[2] << 32 if fade > 0.0 else 0)
    half_spread = entry[4] / entry[3] * 1e4 if entry[3] > 0 else 0.0
    base_p, base_q, bands = 6, 6 + 6 * n, 6 + 16 * n
    # Horizon by horizon three times over, not once: so no quantile waits for its own classes' logarithms.
    for h in range(n):
        line, p = block + 1 + LINE * h, base_p + 3 * h
        is_scaled = params_f[line + 1] == 0.0
        out_f[bands + h] = SIGMA_BAND * (sigma * params_f[line]) if is_scaled else half_spread
        if speaks:
            offset, scale, turns = params_f[line + 3], params_f[line + 4], params_f[line + 5]
            claim = _calibrated(raw[h, 0], raw[h, 1], raw[h, 2], offset, scale, turns)
            share = params_f[line + 25] / params_f[line + width_at]
            for j in range(3):
                climate = params_f[line + 10 + j]
                out_f[p + j] = climate + (claim[j] - climate) * share
    for h in range(n):
        line, p, q = block + 1 + LINE * h, base_p + 3 * h, base_q + 5 * h
        scale_bps = sigma * params_f[line]
        if not speaks:
            _abstain(params_f, line, scale_bps, out_f, p, q)
            continue
        spread, width = params_f[line + 6], params_f[line + width_at]
        trust, middle = params_f[line + 26], raw[h, 5]
        median = middle * scale_bps
        for j in range(5):
            rest = 0.0
            if params_f[line + 25] == 0.0:
                rest = _climatology(params_f, line, j, scale_bps)
            elif trust < 1.0:
                at, band_bps = line + SIZES, out_f[bands + h]
                rest = implied(LEVELS[j], out_f[p], out_f[p + 1], band_bps, params_f, at)
            own = (middle + (raw[h, 3 + j] - middle) * spread) * scale_bps
            out_f[q + j] = trust * (median + (own - median) * width) + (1.0 - trust) * rest
    for j in range(3 * n):
        out_f[base_p + 3 * n + j] = out_f[base_p + j]
    for j in range(5 * n):
        out_f[base_q + 5 * n + j] = out_f[base_q + j]
    if fade > 0.0:
        for h in range(n):
            line, p, q = block + 1 + LINE * h, base_p + 3 * (n + h), base_q + 5 * (n + h)
            shift, k = params_f[line + 7] * fade, math.exp(params_f[line + 8] * fade)
            _tilt(out_f, out_f, shift, k, params_f[line + 2], p, q)
