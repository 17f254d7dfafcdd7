"""Fits the embedded reasoner's fusion, band by band, and writes the weights with their card.

Volatility: the mean size of a move (|z|, or on bars by gaps, highs and lows) is exp(controls + measures), by
exponential quasi-likelihood. Direction: the
log-odds of up among moves are linear in controls and directed measures, by logistic regression with a
strong ridge. A weight is kept where it stands out of the noise between blocks of time (t at least
`LEAST_T`), is refitted with the kept ones only, and is zero elsewhere; the card states every t-value.
"""

from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import typer
from numpy.typing import NDArray

from finllm.domain.label import SIGMA_BAND
from finllm.domain.protocol import Voiding
from finllm.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_S
from finllm.market.synthetic import SyntheticMarket
from finllm.reasoning.fusion import SHIPPED, BandWeights, Weights, load_weights
from finllm_lab.cards import readable, write_record
from finllm_lab.packs import (
    FIRST_STATEMENT,
    SCALE,
    SHIFT,
    STATEMENTS_UNTIL,
    Asked,
    Rows,
    bar_packs,
    book_packs,
    day_packs,
    rows,
    statement_packs,
)

LEAST_T: Final = 3.0
"""Some twenty weights are looked at: three standard errors keep a chance find at about one in twenty."""
RIDGE: Final = {"scale": 20.0, "shift": 100.0}
"""Rows' worth of pull towards zero on a measure of size one."""
SEEDS: Final = tuple(range(1001, 1013))
"""Synthetic tapes that are fitted on."""
TAPE_S: Final = 900.0
EVENTS_PER_S: Final = 30.0
"""Half the usual rate: prices and news are as usual, and reading takes half the time."""
MOST_Z: Final = 8.0
"""Returns beyond this many sigma count as this many."""
N_FOLDS: Final = 6
BARS_UNTIL: Final = "2015-01-01"
"""The rest of the tweets' training part is left to walk forward on (`finllm_lab worth real`)."""
BAR_LIVES: Final = 1.5
"""Half-lives that an outlook on bars lasts: on the training statements volatility is 2.3 and 1.4 times the
usual in the two hours from a release on, and as ever in the bar that opens the next day."""
TWEETS: Final = "stock_tweets_2014_201509.jsonl.gz"
CARD: Final = "fusion.card.json"

Floats = NDArray[np.float64]


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One weight as fitted among all candidates, before any was dropped."""

    weight: float
    t: float
    """Weight over its standard error, clustered by block of time."""
    share: float
    """Share of rows on which the measure is not zero."""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """One side (scale or shift) of one band."""

    weights: dict[str, float]
    """The kept ones, refitted."""
    effects: dict[str, Effect]
    """All candidates."""
    n: int
    n_blocks: int
    gain: float
    """Nats a row over the controls alone, on blocks left out of both choice and fit."""
    gain_95: tuple[float, float]
    """Its 95 % interval over blocks."""


class BandCard(msgspec.Struct, frozen=True, kw_only=True):
    """How one band was fitted."""

    rows: str
    memory_ns: int
    memories_tried: dict[str, float]
    """Memory in seconds -> gain of the scale on left-out blocks."""
    scale: Fit
    shift: Fit


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What the weights are and where they are from."""

    artifact: str
    name: str
    fitted: bool
    licence: str
    sources: tuple[str, ...]
    method: str
    by_hand: str
    command: str
    bands: dict[str, BandCard]


# --- the two likelihoods -----------------------------------------------------------------------------


class Exponential:
    """Mean of |z| as exp(eta): loss |z| exp(-eta) + eta, least at the conditional mean."""

    @staticmethod
    def target(z: Floats) -> Floats:
        """Return sizes, held."""
        return np.minimum(np.abs(z), MOST_Z)

    @staticmethod
    def loss(y: Floats, eta: Floats) -> Floats:
        """Return each row's loss, nats."""
        return np.asarray(y * np.exp(-eta) + eta)

    @staticmethod
    def slopes(y: Floats, eta: Floats) -> tuple[Floats, Floats]:
        """Return each row's first and expected second derivative of the loss."""
        return 1.0 - y * np.exp(-eta), np.ones_like(eta)


class Logistic:
    """Log-odds of up among moves as eta."""

    @staticmethod
    def target(z: Floats) -> Floats:
        """Return 1 for up, 0 for down."""
        return (z > 0.0).astype(np.float64)

    @staticmethod
    def loss(y: Floats, eta: Floats) -> Floats:
        """Return each row's log loss, nats."""
        return np.asarray(np.logaddexp(0.0, eta) - y * eta)

    @staticmethod
    def slopes(y: Floats, eta: Floats) -> tuple[Floats, Floats]:
        """Return each row's first and second derivative of the loss."""
        p = 1.0 / (1.0 + np.exp(-eta))
        return p - y, p * (1.0 - p)


Likelihood = type[Exponential] | type[Logistic]


class Design(msgspec.Struct, frozen=True, kw_only=True):
    """One regression: controls first, then candidates."""

    likelihood: Any
    x: Floats
    y: Floats
    group: NDArray[np.int64]
    n_controls: int
    ridge: float


def solve(design: Design, chosen: NDArray[np.bool_], on: NDArray[np.bool_]) -> Floats:
    """Return all coefficients, zero outside `chosen`, fitted on the rows in `on` by damped Newton."""
    x, y = design.x[on][:, chosen], design.y[on]
    penalty = np.where(np.arange(design.x.shape[1]) < design.n_controls, 1e-6, design.ridge)[chosen]
    beta = np.zeros(x.shape[1])

    def total(at: Floats) -> float:
        loss = design.likelihood.loss(y, x @ at)
        return float(loss.sum() + 0.5 * (penalty * at * at).sum())

    for _ in range(100):
        first, second = design.likelihood.slopes(y, x @ beta)
        gradient = x.T @ first + penalty * beta
        step = np.linalg.solve((x * second[:, None]).T @ x + np.diag(penalty + 1e-9), gradient)
        damp = 1.0
        while damp > 1e-6 and total(beta - damp * step) > total(beta):
            damp *= 0.5
        beta = beta - damp * step
        if float(np.abs(damp * step).max()) < 1e-10:
            break
    full = np.zeros(design.x.shape[1])
    full[chosen] = beta
    return full


def t_values(design: Design, beta: Floats, on: NDArray[np.bool_]) -> Floats:
    """Return coefficients over their standard errors, clustered by block (sandwich)."""
    x, y = design.x[on], design.y[on]
    first, second = design.likelihood.slopes(y, x @ beta)
    _, block = np.unique(design.group[on], return_inverse=True)
    scores = np.zeros((int(block.max()) + 1, x.shape[1]))
    np.add.at(scores, block, x * first[:, None])
    penalty = np.where(np.arange(x.shape[1]) < design.n_controls, 1e-6, design.ridge)
    inverse = np.linalg.inv((x * second[:, None]).T @ x + np.diag(penalty + 1e-9))
    n_blocks = len(scores)
    spread = inverse @ (scores.T @ scores) @ inverse * (n_blocks / max(1, n_blocks - 1))
    return np.asarray(beta / np.sqrt(np.maximum(np.diag(spread), 1e-300)))


def choose(design: Design, on: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Return the refitted coefficients, and those of all candidates with their t-values."""
    everything = np.ones(design.x.shape[1], dtype=bool)
    everything[design.n_controls :] = (design.x[on][:, design.n_controls :] != 0.0).sum(
        axis=0
    ) >= 50
    full = solve(design, everything, on)
    t = np.where(everything, t_values(design, full, on), 0.0)
    kept = np.abs(t) >= LEAST_T
    kept[: design.n_controls] = True
    return solve(design, kept, on), full, t


def left_out_gains(design: Design) -> tuple[float, tuple[float, float]]:
    """Return the gain over the controls on left-out blocks: nats a row, and its interval over blocks.

    Folds are runs of neighbouring blocks; the choice of weights is made anew in each.
    """
    blocks = np.unique(design.group)
    controls = np.arange(design.x.shape[1]) < design.n_controls
    gains = np.zeros(len(design.y))
    for fold in np.array_split(blocks, min(N_FOLDS, len(blocks))):
        out = np.isin(design.group, fold)
        with_text, *_ = choose(design, ~out)
        plain = solve(design, controls, ~out)
        loss = design.likelihood.loss
        gains[out] = loss(design.y[out], design.x[out] @ plain)
        gains[out] -= loss(design.y[out], design.x[out] @ with_text)
    return float(gains.mean()), _interval(gains, design.group)


def _interval(gains: Floats, group: NDArray[np.int64]) -> tuple[float, float]:
    """Return the bootstrap interval of a mean over blocks, 95 %."""
    _, block = np.unique(group, return_inverse=True)
    sums, counts = np.bincount(block, gains), np.bincount(block)
    drawn = np.random.default_rng(7).integers(0, len(sums), (2_000, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


# --- bands -------------------------------------------------------------------------------------------


def fit_scale(data: Rows) -> Fit:
    """Fit ln k; `present` takes the constant by which usual news, not releases or surges, moves nothing."""
    names, has_text = SCALE[1:], data.scale[:, 0] > 0.0
    fit = _fit(Exponential, data.scale[:, 1:], names, data, data.size)
    weights = [0.0 if _is_sudden(name) else fit.weights.get(name, 0.0) for name in names]
    if not any(weights):
        return fit
    effect = data.scale[has_text, 1:] @ np.array(weights)
    usual = float(effect.mean() / data.scale[has_text, 0].mean())
    return msgspec.structs.replace(fit, weights={"present": _round(-usual)} | fit.weights)


def _is_sudden(measure: str) -> bool:
    return measure == "release" or measure.startswith("surge:")


def fit_shift(data: Rows) -> Fit:
    """Fit the log-odds of up among returns that leave the flat band."""
    moved = np.abs(data.z) >= SIGMA_BAND
    part = Rows(**{f: getattr(data, f)[moved] for f in data.__struct_fields__})
    return _fit(Logistic, part.shift, SHIFT, part, part.z)


def _fit(likelihood: Likelihood, x: Floats, names: tuple[str, ...], data: Rows, z: Floats) -> Fit:
    design = Design(
        likelihood=likelihood,
        x=np.hstack([data.controls, x]),
        y=likelihood.target(z),
        group=data.group,
        n_controls=data.controls.shape[1],
        ridge=RIDGE["scale" if likelihood is Exponential else "shift"],
    )
    beta, full, t = (v[design.n_controls :] for v in choose(design, np.ones(len(z), dtype=bool)))
    gain, interval = left_out_gains(design)
    shares = (x != 0.0).mean(axis=0)
    return Fit(
        weights={name: _round(b) for name, b in zip(names, beta, strict=True) if b != 0.0},
        effects={
            name: Effect(weight=_round(w), t=round(float(s), 2), share=round(float(p), 4))
            for name, w, s, p in zip(names, full, t, shares, strict=True)
            if p > 0.0
        },
        n=len(z),
        n_blocks=len(np.unique(data.group)),
        gain=_round(gain),
        gain_95=(_round(interval[0]), _round(interval[1])),
    )


def fit_band(asked: list[Asked], memories_s: tuple[int, ...], what: str) -> BandCard:
    """Fit one band; the memory is the one with the best left-out gain of the scale."""
    tried = {s: fit_scale(rows(asked, s * NS_PER_S)) for s in memories_s}
    best = max(memories_s, key=lambda s: (tried[s].gain, -s))
    return BandCard(
        rows=what,
        memory_ns=best * NS_PER_S,
        memories_tried={str(s): fit.gain for s, fit in tried.items()},
        scale=tried[best],
        shift=fit_shift(rows(asked, best * NS_PER_S)),
    )


def _round(x: float) -> float:
    return float(f"{x:.5g}")


# --- what ships --------------------------------------------------------------------------------------

BY_HAND: Final = (
    "Bounds, thresholds, lives, voiding conditions and the retraction rule are set by hand. Observations "
    "of book or bars have no weight: the edge has seen them. Denials retract on books only."
)
DIRECTED: Final = ("obi", "ofi", "mlofi", "flow", "wmid", "ret")


def weights_of(name: str, book: BandWeights, bar: BandCard, day: BandCard) -> Weights:
    """Return the weights that a band for books and two fitted bands for bars amount to."""
    return Weights(
        name=name,
        bands=(
            book,
            _band(
                "bar", bar, up_to_ns=12 * NS_PER_HOUR, most=(0.1, 1.0), least=0.1, lives=BAR_LIVES
            ),
            _band(
                "day",
                day,
                up_to_ns=10_000 * NS_PER_DAY,
                most=(0.1, 1.0),
                least=0.1,
                lives=BAR_LIVES,
            ),
        ),
        directed=DIRECTED,
        retract_events=("denial",),
        retract_credibility=0.25,
        voided_by=(Voiding.CONTRARY_EVIDENCE, Voiding.PRICE_CROSS, Voiding.TIME),
    )


def book_band(card: BandCard) -> BandWeights:
    """Return the band of the horizons of order books."""
    return _band(
        "book", card, up_to_ns=60 * NS_PER_S, most=(1.0, 0.7), retract_within_ns=120 * NS_PER_S
    )


def _band(
    name: str,
    card: BandCard,
    *,
    up_to_ns: int,
    most: tuple[float, float],
    least: float = 0.02,
    lives: float = 4.0,
    retract_within_ns: int = 0,
) -> BandWeights:
    return BandWeights(
        name=name,
        up_to_ns=up_to_ns,
        memory_ns=card.memory_ns,
        shift=card.shift.weights,
        scale=card.scale.weights,
        max_shift=most[0],
        max_log_scale=most[1],
        least_shift=0.02,
        least_log_scale=least,
        half_life_ns=card.memory_ns,
        life_ns=round(lives * card.memory_ns),
        retract_within_ns=retract_within_ns,
    )


def fit_reasoner(
    data: Path, out: Path, name: str, *, until: str = BARS_UNTIL, books: bool = True
) -> Card:
    """Fit the bands and write `fusion.json` and its card.

    Args:
        data: Folder that holds `text_price/`.
        out: Folder for the two files.
        name: The weights' name, which every verdict will carry.
        until: Tweets and bars from this instant on are not read; statements end earlier.
        books: Fit the band of order books too; else it stays as it ships.
    """
    bar, day = _fit_hours(data / "text_price", until), _fit_days(data / "text_price", until)
    if books:
        book_card = _fit_books()
        book = book_band(book_card)
    else:
        shipped = msgspec.json.decode((SHIPPED.parent / CARD).read_bytes(), type=Card)
        book_card, book = shipped.bands["book"], load_weights().bands[0]
    card = Card(
        artifact=SHIPPED.name,
        name=name,
        fitted=True,
        licence="Apache-2.0",
        sources=(
            "yumoxu/stocknet-dataset tweet/raw and price/raw, train part (MIT)",
            "QuantConnect/Lean Data/equity/usa/hour (Apache-2.0)",
            "fomc/statements, to 2012 (public domain)",
            "finllm.market.synthetic (own)",
        ),
        method=(__doc__ or "").strip(),
        by_hand=BY_HAND,
        command=f"finllm_lab train reasoner --until {until}" + ("" if books else " --keep-books"),
        bands={"book": book_card, "bar": bar, "day": day},
    )
    out.mkdir(parents=True, exist_ok=True)
    write_record(out / SHIPPED.name, weights_of(name, book, bar, day))
    write_record(out / CARD, card)
    return card


def _fit_hours(text_price: Path, until: str) -> BandCard:
    hourly = text_price / "us_bars_hourly_to_201509.csv.gz"
    tweets = text_price / TWEETS
    statements = text_price / "fomc_statements_1994_2014.jsonl"
    asked = bar_packs(hourly, tweets, until) + statement_packs(
        hourly, statements, min(until, STATEMENTS_UNTIL)
    )
    return fit_band(
        asked,
        tuple(h * NS_PER_HOUR // NS_PER_S for h in (1, 2, 6)),
        f"hourly bars of SPY, AAPL, BAC, IBM, AIG with the tweets filed under them, to {until}, and SPY"
        f" with the Committee's statements from {FIRST_STATEMENT} to {STATEMENTS_UNTIL} around them; at each"
        " close and half-way through the next bar, over that bar; blocks of a week",
    )


def _fit_days(text_price: Path, until: str) -> BandCard:
    daily = text_price / "stock_prices_daily_to_201509.csv.gz"
    return fit_band(
        day_packs(daily, text_price / TWEETS, until),
        tuple(h * NS_PER_HOUR // NS_PER_S for h in (6, 12, 24)),
        f"daily bars of 88 names with the tweets filed under them, to {until}; at each close, four hours"
        " after it and a quarter of an hour before the next open, over the next day; blocks of a week",
    )


def _fit_books() -> BandCard:
    asked: list[Asked] = []
    for number, seed in enumerate(SEEDS):
        asked += book_packs(
            SyntheticMarket(seed=seed, duration_s=TAPE_S, events_per_s=EVENTS_PER_S), number
        )
    return fit_band(
        asked,
        (10, 20, 40, 80),
        f"synthetic market, seeds {SEEDS[0]} to {SEEDS[-1]}, {TAPE_S:g} s each at "
        f"{EVENTS_PER_S:g} events a second, every second, over 5, "
        "10 and 30 s; blocks of 120 s",
    )


def reasoner(
    data: Annotated[Path, typer.Option(help="Folder that holds text_price/.")] = Path(
        "../shared/data"
    ),
    out: Annotated[
        Path, typer.Option(help="Folder for the weights and their card.")
    ] = SHIPPED.parent,
    name: Annotated[
        str, typer.Option(help="Name of the weights, carried by every verdict.")
    ] = "fitted-6",
    until: Annotated[
        str, typer.Option(help="Leave out tweets and bars from this instant on.")
    ] = BARS_UNTIL,
    *,
    keep_books: Annotated[
        bool, typer.Option("--keep-books", help="Leave the band of order books as it ships.")
    ] = False,
) -> None:
    """Fit the embedded reasoner on the training parts, write its weights and print the card."""
    card = fit_reasoner(data, out, name, until=until, books=not keep_books)
    typer.echo(readable(card))
