"""Calm, active or stressed: a hidden Markov filter over rows, O(1) each, with confirmation.

What a row shows is one of 40 symbols: how long it waited (octaves of the instrument's own slow mean
wait) and how far the mid moved (in its own slow deviation per row). An artifact's rule says how
likely each symbol is in each regime after a short or a long wait, and how regimes follow one another;
both are learnt on training recordings. The regime reported changes only once another one's probability
reaches the rule's `confirm`: under the rule's own law, 1 - `confirm` of such changes are false.

The fast volatility kept beside it is what the EWMA baseline stands on. Knows nothing of models.

Source:
    Hamilton (1989), "A new approach to the economic analysis of nonstationary time series"; RiskMetrics
    Technical Document (1996), section 5.2, exponential weights; in continuous time.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import ArtifactError
from finllm.edge.artifact import RegimeRule
from finllm.runtime.kernels import kernel

CALM: Final = 0
ACTIVE: Final = 1
STRESSED: Final = 2
NAMES: Final = ("calm", "active", "stressed")
N_REGIMES: Final = 3

N_WAITS: Final = 10
"""Classes of waiting time: octaves of the mean, the first all below 2^-7, where recordings differ in the
resolution of their clocks, the last from 2 on."""
N_SIZES: Final = 4
"""Classes of the mid's move: none, small, middling, large."""
N_SYMBOLS: Final = N_WAITS * N_SIZES
N_CONTEXTS: Final = 2
"""Whether the row before had waited less than a 16th of the mean, or longer."""

# A watch's memory, in words: integers first, then float64s.
TS, MID2, STATE, SWITCHES, IS_KNOWN, CONTEXT = range(6)
FAST, SLOW, FAST_MASS, SLOW_MASS, COUNT = range(6, 11)
FAST_S, SLOW_S, ROW_S, LEAST_N, SMALL, LARGE, CONFIRM = range(11, 18)
BELIEF: Final = 18
CHAIN: Final = 21
SEEN: Final = 30
"""An integer: 1 + which row of the table the last row was, 0 if it was not judged."""
TABLE: Final = 31
WATCH_WORDS: Final = TABLE + N_CONTEXTS * N_SYMBOLS * N_REGIMES


def watch_words(rule: RegimeRule) -> NDArray[np.int64]:
    """Return a fresh memory for `watch`, int64 [271].

    Raises:
        ArtifactError: If the rule's tables have other sizes, or are no probabilities.
    """
    chain, table = np.array(rule.chain), np.array(rule.table)
    for name, found, shape in (
        ("chain", chain, (N_REGIMES, N_REGIMES)),
        ("table", table, (N_CONTEXTS * N_SYMBOLS, N_REGIMES)),
    ):
        if found.shape != shape or not (found > 0.0).all():
            raise ArtifactError(
                f"a regime rule's {name} is {found.shape}, not positive numbers {shape};"
                " learn the rule anew"
            )
    words = np.zeros(WATCH_WORDS, dtype=np.int64)
    words[STATE] = ACTIVE
    words_f = words.view(np.float64)
    words_f[FAST_S : CONFIRM + 1] = (
        rule.fast_s,
        rule.slow_s,
        rule.row_s,
        rule.least_n,
        rule.small**2,
        rule.large**2,
        rule.confirm,
    )
    if rule.prior_s > 0.0:
        words_f[COUNT] = rule.prior_s / rule.wait_s
        words_f[SLOW_MASS] = -math.expm1(-rule.prior_s / rule.slow_s)
        words_f[SLOW] = rule.step_bps**2 * words_f[COUNT] / rule.slow_s
    words_f[BELIEF : BELIEF + N_REGIMES] = 1.0 / N_REGIMES
    words_f[CHAIN:SEEN] = chain.reshape(-1)
    words_f[TABLE:] = table.reshape(-1)
    return words


@kernel
def wait_class(wait: float) -> int:
    """Return the class of a waiting time in units of the slow mean wait, 0 to 9."""
    if wait <= 0.0:
        return 0
    _, octave = math.frexp(wait)
    return min(9, max(0, octave + 7))


@kernel
def size_class(square: float, small: float, large: float) -> int:
    """Return the class of a squared move in units of the slow variance per row, 0 to 3."""
    if square <= 0.0:
        return 0
    if square <= small:
        return 1
    return 2 if square <= large else 3


@kernel
def filtered(
    chain: NDArray[np.float64], seen: NDArray[np.float64], belief: NDArray[np.float64]
) -> None:
    """Move a belief over three regimes one row on, in place.

    Args:
        chain: float64 [9], probability of each regime (columns) after each (rows).
        seen: float64 [3], likelihood of what was seen in each regime.
        belief: float64 [3].
    """
    a, b, c = belief[0], belief[1], belief[2]
    total = 0.0
    for k in range(3):
        belief[k] = (a * chain[k] + b * chain[3 + k] + c * chain[6 + k]) * seen[k]
        total += belief[k]
    for k in range(3):
        belief[k] /= total


@kernel
def _judge(
    passed: float, square: float, words: NDArray[np.int64], words_f: NDArray[np.float64]
) -> None:
    count, variance = words_f[10], words_f[7] * words_f[12]
    wait = wait_class(passed * count / (words_f[12] * words_f[9]))
    relative = square * count / variance if variance > 0.0 else square * math.inf
    symbol = 4 * wait + size_class(relative if square > 0.0 else 0.0, words_f[15], words_f[16])
    row = 40 * words[5] + symbol
    words[30] = row + 1
    at = 31 + 3 * row
    words[5] = 1 if wait >= 4 else 0
    belief = words_f[18:21]
    filtered(words_f[21:30], words_f[at : at + 3], belief)
    top = 0
    for k in range(1, 3):
        if belief[k] > belief[top]:
            top = k
    if belief[top] < words_f[17]:
        return
    # The first time is finding out, not a change of the market.
    if words[4] != 0 and top != words[2]:
        words[3] += 1
    words[4] = 1
    words[2] = top


@kernel
def watch(
    ts: int,
    mid2: int,
    is_good: bool,  # noqa: FBT001 - a kernel
    words: NDArray[np.int64],
    words_f: NDArray[np.float64],
) -> None:
    """Take in one row's mid and time; update volatilities, slow scales and the regime.

    Args:
        ts: Receive time, ns.
        mid2: Doubled mid; 0 = unknown.
        is_good: Whether the book behind it is to be trusted. A jump over a bad stretch counts as
            no return, and the wait for it shows nothing.
        words: int64 [at least 271], `watch_words`.
        words_f: The same memory as float64.
    """
    words[30] = 0
    if not is_good or mid2 <= 0:
        words[1] = 0
        return
    if words[0] > 0:
        passed = words_f[13] if words_f[13] > 0.0 else max(0.0, (ts - words[0]) * 1e-9)
        shown = words[1] > 0
        move = (mid2 / words[1] - 1.0) * 1e4 if shown else 0.0
        if shown and words_f[10] >= words_f[14] and words_f[9] > 0.0:
            _judge(passed, move * move, words, words_f)
        for i in range(2):
            fade = math.exp(-passed / words_f[11 + i])
            words_f[6 + i] = words_f[6 + i] * fade + move * move / words_f[11 + i]
            words_f[8 + i] = words_f[8 + i] * fade + (1.0 - fade)
            if i == 1:
                words_f[10] = words_f[10] * fade + (1.0 if shown else 0.0)
    words[0] = ts
    words[1] = mid2


def sigma_ewma(words_f: NDArray[np.float64]) -> float:
    """Return the fast volatility in bps per root second; 0 before the first return."""
    mass = float(words_f[FAST_MASS])
    return math.sqrt(float(words_f[FAST]) / mass) if mass > 0.0 else 0.0
