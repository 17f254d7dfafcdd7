"""What turns a feature row and a raw claim into a forecast row, in two compiled steps.

`observe` is for every row, in the order of the rows: it keeps the regime and writes what it found
beside the row. `speak` is for any row that is served, in any process, once or again: it needs the row
with what `observe` wrote, the claim, and the parameters in force, and keeps nothing. So rows may be
passed over between the two without changing what is said of the others.

Three arrays cross from process to process, each seen as int64 and, over the same memory, as float64:
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
from finllm.edge.baselines import implied
from finllm.edge.regime import N_REGIMES, watch
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
LINE: Final = 61
ROOT_S, IS_HALF_SPREAD, TILT_C, CAL, SHIFT, LOG_K, SHARE = 0, 1, 2, 3, 7, 8, 9
CLIMATE_P, EMPIRICAL_Q, PRIOR_Q = 10, 13, 18
WIDTH_NOW, WIDTH_FRESH, TRUST_P, TRUST_Q, SIZES = 23, 24, 25, 26, 27
"""Offsets into a horizon's line."""

# A forecast row, in words; `base_p` is followed by `p`, `base_q`, `q` and `band_bps`.
TS_EMIT: Final = 3
FLAGS_AND_REGIME: Final = 4
VERSIONS: Final = 5
BASE_P: Final = 6


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
def observe(entry: Words, entry_f: Doubles, words: Words, words_f: Doubles) -> None:
    """Keep the regime, and write it, its switches and the fast volatility into a row's entry.

    Args:
        entry: int64 [9 + F], its head written.
        entry_f: The same memory as float64.
        words: int64 [271], the watch's memory; see `regime.watch`.
        words_f: The same memory as float64.
    """
    is_good = (entry[5] & GOOD) != 0
    watch(entry[1], entry[3], is_good, words, words_f)
    entry[6] = words[2]
    entry_f[7] = math.sqrt(words_f[6] / words_f[8]) if words_f[8] > 0.0 else 0.0
    entry[8] = words[3]


@kernel
def observe_all(entries: Words, entries_f: Doubles, words: Words, words_f: Doubles) -> None:
    """Observe rows of one instrument in their order, int64 [n, 9 + F]; see `observe`."""
    for i in range(entries.shape[0]):
        observe(entries[i], entries_f[i], words, words_f)


@kernel
def _calibrate(claim: Doubles, line: Doubles, scale_bps: float, p: Doubles, q: Doubles) -> None:
    move = line[3] + line[4] * math.log((claim[0] + claim[2]) / claim[1])
    turn = line[5] * math.log(claim[2] / claim[0])
    p_move = 1.0 / (1.0 + math.exp(-max(-16.0, min(16.0, move))))
    up_share = 1.0 / (1.0 + math.exp(-max(-16.0, min(16.0, turn))))
    p[0] = p_move * (1.0 - up_share)
    p[2] = p_move * up_share
    p[1] = 1.0 - p[0] - p[2]
    median = claim[5]
    for j in range(5):
        q[j] = (median + (claim[3 + j] - median) * line[6]) * scale_bps


@kernel
def _abstain(line: Doubles, scale_bps: float, p: Doubles, q: Doubles) -> None:
    for j in range(3):
        p[j] = line[10 + j]
    for j in range(5):
        q[j] = line[9] * line[13 + j] + (1.0 - line[9]) * line[18 + j] * scale_bps


@kernel
def _pool(
    line: Doubles, width: float, scale_bps: float, band_bps: float, p: Doubles, q: Doubles
) -> None:
    """Say as much of the claim as the horizon is trusted with, less what a switch has cost it.

    Classes go nearer to climatology; quantiles from the median by the width, then nearer to what the
    classes imply, or to climatology's where the classes are wholly its own.
    """
    share = line[25] / width
    for j in range(3):
        p[j] = line[10 + j] + (p[j] - line[10 + j]) * share
    median, trust = q[2], line[26]
    for j in range(5):
        rest = 0.0
        if line[25] == 0.0:
            rest = line[9] * line[13 + j] + (1.0 - line[9]) * line[18 + j] * scale_bps
        elif trust < 1.0:
            rest = implied(LEVELS[j], p[0], p[1], band_bps, line[27:61])
        q[j] = trust * (median + (q[j] - median) * width) + (1.0 - trust) * rest


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
    total = sigma
    for h in range(raw.shape[0]):
        for j in range(8):
            total += raw[h, j]
    return math.isfinite(total)


@kernel
def speak(  # noqa: PLR0917 - a kernel: every array handed over costs about 0.1 us, so they are few
    entry: Words,
    entry_f: Doubles,
    raw: Any,
    params: Words,
    params_f: Doubles,
    out: Words,
    out_f: Doubles,
) -> None:
    """Fill a forecast row: calibration, pooling with climatology, base, the outlook's tilt, band and flags.

    The parameters are those of the row's own regime. After a switch the claim is widened by what is
    still to be earned.

    A row that is not good, or a claim that is not finite, is served climatology, untilted, with the
    flag ABSTAINED.

    Args:
        entry: int64 [9 + F], observed.
        entry_f: The same memory as float64.
        raw: float64 [H, 8], the model's claim.
        params: int64 [8 + 3 (1 + 61 H)], the parameters in force.
        params_f: The same memory as float64.
        out: int64 [6 + 17 H], its `ts_emit` written; filled.
        out_f: The same memory as float64.
    """
    n = params[7]
    out[0], out[1], out[2] = entry[0], entry[2], entry[1]
    sigma = entry_f[9 + params[6]]
    block, width_at = 8 + entry[6] * (1 + 61 * n), 24 if entry[8] > params[1] else 23
    speaks = _speaks(entry, sigma, raw)
    if not (math.isfinite(sigma) and sigma > 0.0):
        sigma = entry_f[7]
    fade = _fade(out[3], params) if speaks else 0.0
    flags = entry[5] & LOW if speaks else entry[5] & LOW | ABSTAINED
    out[4] = flags | entry[6] << 32
    out[5] = params[block] | (params[2] << 32 if fade > 0.0 else 0)
    half_spread = entry[4] / entry[3] * 1e4 if entry[3] > 0 else 0.0
    for h in range(n):
        line = params_f[block + 1 + 61 * h : block + 62 + 61 * h]
        base_p = out_f[6 + 3 * h : 9 + 3 * h]
        p = out_f[6 + 3 * (n + h) : 9 + 3 * (n + h)]
        base_q = out_f[6 + 6 * n + 5 * h : 11 + 6 * n + 5 * h]
        q = out_f[6 + 11 * n + 5 * h : 11 + 11 * n + 5 * h]
        scale_bps = sigma * line[0]
        band_bps = SIGMA_BAND * scale_bps if line[1] == 0.0 else half_spread
        out_f[6 + 16 * n + h] = band_bps
        if speaks:
            _calibrate(raw[h], line, scale_bps, base_p, base_q)
            _pool(line, line[width_at], scale_bps, band_bps, base_p, base_q)
        else:
            _abstain(line, scale_bps, base_p, base_q)
        for j in range(3):
            p[j] = base_p[j]
        for j in range(5):
            q[j] = base_q[j]
        if fade > 0.0:
            _tilt(p, q, line[7] * fade, math.exp(line[8] * fade), line[2])
