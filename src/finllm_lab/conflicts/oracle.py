"""The best that anyone could do: the law that drew a conflict, with more in view than any reader has.

The oracle knows each text for what it is (story or chatter, wording, kind of outlet, sign, how many
copies will come), whether a side of the book is being drained, the regime that the episode began in, and
the efficient price on the grid up to the question, which nobody on the tape sees. What it does not know,
onsets, sizes, half-lives and the switch of regime, it integrates over the law by Monte Carlo. So it is an
upper bound: part of what separates it from a reasoner is what a pack does not hold.
"""

import math
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.units import BPS, NS_PER_S
from finllm.market.synthetic.latent import CELL_NS, VOLATILITY_BPS
from finllm.market.synthetic.plan import TYPICAL_10S_BPS, VOLATILITY_HALF_LIFE_NS
from finllm.market.synthetic.settings import START
from finllm_lab.conflicts.planted import DRIVERS, LAW, TOLD, Conflicts, Episode, Told

N_DRAWS: Final = 500
BIN: Final = 5
"""Grid cells that are looked at together."""
_SECONDS: Final = CELL_NS / NS_PER_S

Floats = NDArray[np.float64]


class _Pulls(msgspec.Struct, frozen=True, kw_only=True):
    """Draws of one effect, each [n]; no effect has size 0."""

    onset_s: Floats
    """From the episode's start."""
    size_bps: Floats
    half_life_s: Floats
    gain: Floats


def beliefs(tape: Conflicts) -> Floats:
    """Return the oracle's probabilities of the drivers for each episode of a tape, [n, 7].

    The tape's frames must have been streamed to the end.
    """
    rng = np.random.default_rng(tape.seed)
    return np.array([_belief(tape, episode, rng) for episode in tape.episodes])


def _belief(tape: Conflicts, episode: Episode, rng: np.random.Generator) -> Floats:
    log_p = np.full(len(DRIVERS), -np.inf)
    for number, driver in enumerate(DRIVERS):
        told = _of_words(driver, episode.told)
        is_drained = driver == "hidden liquidity drain"
        if told > 0.0 and is_drained == (episode.drain is not None):
            log_p[number] = math.log(told) + _of_path(tape, episode, driver, rng)
    p = np.exp(log_p - log_p.max())
    return np.asarray(p / p.sum())


def _of_words(driver: str, told: Told) -> float:
    """Return how likely a driver's words are what was told."""
    law, is_false = LAW, driver == "false rumour"
    if not told.has_story:
        return 0.0 if driver in TOLD else 1.0 - law.dud
    p = 1.0 if driver in TOLD else law.dud
    p *= law.as_rumour if told.is_rumour != is_false else 1.0 - law.as_rumour
    is_fitting = told.is_loose == (is_false or told.is_rumour)
    p *= law.fitting_outlet if is_fitting else 1.0 - law.fitting_outlet
    p *= float(told.n_echoes - (not is_false) in range(law.n_echoes))
    if told.raised_by == "denial":
        return p * law.denied * is_false
    own = law.bystander if told.raised_by == "bystander" else 1.0 - law.bystander
    return p * own * (1.0 - law.denied * is_false)


def _of_path(tape: Conflicts, episode: Episode, driver: str, rng: np.random.Generator) -> float:
    """Return the log-likelihood of the efficient price up to the question, over draws of the law."""
    first = (episode.start - START) // CELL_NS
    n = (episode.question - episode.start) // CELL_NS // BIN
    moves = BPS * np.diff(np.log(np.array(tape.path[first - 1 : first + n * BIN])[::BIN]))
    edges = np.arange(n + 1) * BIN * _SECONDS
    pull, boost = np.zeros((N_DRAWS, n)), np.zeros((N_DRAWS, n))
    middle = 0.5 * (edges[1:] + edges[:-1])
    keep_s = VOLATILITY_HALF_LIFE_NS / NS_PER_S
    boost += tape.boosts[first] * 0.5 ** (middle / keep_s)
    for one in _draw(episode, driver, rng):
        since = np.maximum(0.0, edges - one.onset_s[:, None])
        left = 0.5 ** (since / one.half_life_s[:, None])
        pull += one.size_bps[:, None] * (left[:, :-1] - left[:, 1:])
        after = middle - one.onset_s[:, None]
        boost += (after > 0.0) * one.gain[:, None] * 0.5 ** (np.maximum(0.0, after) / keep_s)
    usual = np.full((N_DRAWS, n), VOLATILITY_BPS[episode.regime])
    if driver == "regime change":
        at = (episode.question - episode.start) / NS_PER_S
        switch = at - rng.uniform(*LAW.switch_s, N_DRAWS)
        usual[middle > switch[:, None]] = VOLATILITY_BPS["stressed"]
    sigma = usual * (1.0 + boost) * tape.listing.volatility * math.sqrt(BIN * _SECONDS)
    log_p = (-0.5 * ((moves - pull) / sigma) ** 2 - np.log(sigma)).sum(axis=1)
    most = float(log_p.max())
    return most + math.log(float(np.exp(log_p - most).mean()))


def _draw(episode: Episode, driver: str, rng: np.random.Generator) -> list[_Pulls]:
    """Return draws of a driver's effects."""
    law = LAW
    told = (episode.told.ts - episode.start) / NS_PER_S
    up = np.full(N_DRAWS, 1.0 if episode.told.is_good else -1.0)
    either = rng.choice((-1.0, 1.0), N_DRAWS)

    def pulls(
        onset: Floats, sign: Floats, size: tuple[float, float], half_life: tuple[float, float],
        gain: tuple[float, float],
    ) -> _Pulls:  # fmt: skip
        return _Pulls(
            onset_s=onset,
            size_bps=sign * TYPICAL_10S_BPS * rng.uniform(*size, N_DRAWS),
            half_life_s=rng.uniform(*half_life, N_DRAWS),
            gain=rng.uniform(*gain, N_DRAWS),
        )

    brief, other = law.brief_half_life_s, (law.other_gain, law.other_gain)
    spans = {
        "market lags the news": (law.lag_s, 1.0),
        "news lags the market": (law.lead_s, -1.0),
        "priced in": (law.priced_s, -1.0),
    }
    if driver in spans:
        span, way = spans[driver]
        onset = told + way * rng.uniform(*span, N_DRAWS)
        return [pulls(onset, up, law.news_size, law.news_half_life_s, law.news_gain)]
    if driver == "false rumour":
        onset = told + rng.uniform(*law.rumour_lag_s, N_DRAWS)
        gain = (law.rumour_gain, law.rumour_gain)
        return [pulls(onset, up, law.rumour_size, brief, gain)]
    if driver == "hidden liquidity drain" and episode.drain is not None:
        start = (episode.drain.start - episode.start) / NS_PER_S
        onset = start + rng.uniform(*law.slip_lag_s, N_DRAWS)
        sign = np.full(N_DRAWS, -1.0 if episode.drain.is_bid else 1.0)
        return [pulls(onset, sign, law.slip_size, brief, other)]
    if driver == "unrelated":
        moves = rng.random(N_DRAWS) < law.moves_alone
        onset = np.where(moves, told - rng.uniform(*law.alone_s, N_DRAWS), np.inf)
        return [pulls(onset, either, law.alone_size, law.alone_half_life_s, other)]
    return []
