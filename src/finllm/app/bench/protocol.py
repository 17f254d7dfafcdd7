"""What asking is worth: policies live through known worlds, and gain is held against calls.

The worlds are frozen, and the reasoner's judgement is simulated: the figures say what the *gate* makes of a
reasoner of stated skill, and nothing of any language model. Gains are expectations under the law that made
the prices; significance is that of the realised scores. What the slow path costs the edge is measured beside
it, with the reasoner that is embedded.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.app.bench import edge
from finllm.app.bench.interference import TARGETS, Beside, beside_the_edge
from finllm.app.bench.known import Read, check_seed, read_world
from finllm.app.bench.learning import Gated
from finllm.app.bench.measure import Quiet, Say
from finllm.app.bench.plot import pyplot
from finllm.app.bench.policies import (
    Chance,
    Life,
    Oracle,
    Policy,
    Tally,
    Unsure,
    entropy_at,
)
from finllm.app.bench.slowpath import SlowPath
from finllm.audit.intervals import (
    CELLS_PER_BLOCK,
    Blocks,
    diebold_mariano,
    draw_runs,
    effective_n,
    percentile_interval,
    resample,
)
from finllm.domain.errors import InputError
from finllm.market.known.base import REACH
from finllm.market.known.frozen import FROZEN
from finllm.market.known.law import GRID_S, LAW, LISTINGS, MOVED, STEPS, moved
from finllm.market.known.minds import MINDS, Mind

Floats = NDArray[np.float64]
SHARES: Final = (0.05, 0.1, 0.2, 0.5)
TICKS: Final = (*SHARES, 1.0)
MAIN: Final = 0.2
GATE: Final = "gate"
"""The gate before the reasoner, by share of the calls."""
CASCADE: Final = "cascade"
"""The small reasoner behind a gate, and the large one behind another, told what the small one said: by share
of the tokens."""
ADVISED: Final = "{}, advised"
"""The same, the first gate told what a reader without a language model sees in the news. The simulated one
reads better than the embedded reasoner that ships (docs/lab-log.md)."""
PASSED_ON: Final = 0.3
"""Of what the small reasoner has answered, the share that may be put to the large one."""
WARM_SEED: Final = 901
"""The world in which the gate has learnt before the others begin; none of them."""
SEEDS: Final = (811, 812)
"""Worlds to develop on. Final figures are from others, used once (docs/lab-log.md)."""
_CELL_STEPS: Final = 135
"""Steps of a cell: a block of four covers three of the longest horizons."""
_RESAMPLES: Final = 1_000
_LEAST_ORACLE: Final = 0.05
"""Nats from which the oracle asks."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One policy at one share of the calls."""

    policy: str
    budget: float | None
    """Share that it may take: of the calls, or for a cascade of the tokens; None = it has none."""
    call_share: float
    """Questions over the occasions that the gate is asked about."""
    token_share: float
    """Tokens over those of always asking."""
    gain_share: float
    """Expected gain over that of always asking."""
    oracle_share: float
    """Expected gain over the oracle's."""
    harm_share: float
    """Summed expected loss of the forecasts that lose, over the gain."""
    harm_answers_share: float
    """The same where a whole answer loses."""
    late: int
    late_applied: int
    calls: int
    gain: float
    """Expected, nats a forecast over the base."""
    realised: float
    outlook_share: float
    """Of the gain, from outlooks; the rest is that of verdicts on the forecasts asked about."""
    p_value: float | None
    """Of no gain at all: Diebold-Mariano on the realised scores."""
    interval: tuple[float, float] | None
    """Of the realised gain, by block bootstrap, nats a forecast."""


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What remains where the worlds are other than the gate has learnt in."""

    policy: str
    parameter: str
    factor: float
    call_share: float
    token_share: float
    gain_share: float


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """How long a step takes, microseconds."""

    p50: float
    p99: float
    per_s: float


class ProtocolFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What `finllm bench protocol` reports."""

    stages: dict[str, Stage]
    curve: list[Point]
    n_eff: int
    p_value: float | None
    """Of the gate at a fifth of the calls."""
    of_oracle: float
    """The gate's gain at a fifth of the calls over the oracle's."""
    explored: int
    """Questions that it asked by chance."""
    reasoner: str
    """The one that is always asked, and tops the cascade."""
    judgement: str
    """Where the reasoner's judgement comes from."""
    worlds: str
    """Hash of the frozen worlds."""
    seeds: tuple[int, ...]
    days: int
    forecasts: int
    documents: int
    moved: list[Moved]
    edge_beside: Beside | None
    """The edge beside the whole slow path at full load."""
    quiet: dict[str, Quiet]
    """How quiet the machine was, before and after that; empty where it was not measured."""
    targets: dict[str, float]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    seeds: tuple[int, ...] = SEEDS
    days: int = 2
    """Of each world."""
    warm_days: int = 2
    """Of the world in which the gate learns before; 0 = it begins cold."""
    mind: str = "ensemble"
    moved_days: int = 0
    """Of each world with a parameter moved; 0 = none are measured."""
    edge_pairs: int = 0
    """Pairs of edge runs, beside the slow path and alone; 0 = none."""
    edge_seconds: float = 5.0
    """Seconds of tape of each."""


def bench_protocol(plan: Plan, say: Say) -> ProtocolFigures:
    """Measure, and return the figures.

    Args:
        plan: What to measure.
        say: Told what is being measured.

    Raises:
        InputError: If there is no such reasoner, or the seeds are none.
    """
    mind = mind_named(plan.mind)
    _check_seeds(plan)
    run = _Run(mind)
    beside, quiet = _edge_beside(plan, say)
    if plan.warm_days:
        run.warm(list(read_world(LAW, WARM_SEED, plan.warm_days, say)), say)
    learnt = dict(run.states)
    for seed in plan.seeds:
        run.world(list(read_world(LAW, seed, plan.days, say)), say)
    points = [run.point(name, share) for name, share in run.lives]
    gate = run.lives[GATE, MAIN]
    took = np.array(run.took_ns) / 1e3
    p50, p99 = (round(float(x), 1) for x in np.quantile(took, (0.5, 0.99)))
    main = next(p for p in points if (p.policy, p.calls) == (GATE, gate.asked))
    return ProtocolFigures(
        stages={"decide": Stage(p50=p50, p99=p99, per_s=round(1e6 / float(took.mean())))},
        curve=points,
        n_eff=_independent(gate, plan),
        p_value=main.p_value,
        of_oracle=main.oracle_share,
        explored=run.explored,
        reasoner=mind.name,
        judgement="simulated, by stated skill",
        worlds=FROZEN,
        seeds=plan.seeds,
        days=plan.days,
        forecasts=gate.rows,
        documents=run.documents,
        moved=list(_moved(mind, learnt, plan.moved_days, say)) if plan.moved_days else [],
        edge_beside=beside,
        quiet=quiet,
        targets=TARGETS,
    )


def _edge_beside(plan: Plan, say: Say) -> tuple[Beside | None, dict[str, Quiet]]:
    """Return the edge beside the slow path at full load, and how quiet the machine was."""
    if not plan.edge_pairs:
        return None, {}
    before = Quiet.look()
    with TemporaryDirectory(prefix="finllm-bench-") as folder:
        load = SlowPath(folder=Path(folder))
        beside = beside_the_edge(plan.edge_pairs, edge.Plan(seconds=plan.edge_seconds), load, say)
    return beside, {"before": before, "after": Quiet.look()}


def _check_seeds(plan: Plan) -> None:
    """Check that each world is one, counted once, and not the one in which the gates have learnt.

    Raises:
        InputError: If they are not.
    """
    place = "--seeds"
    for seed in plan.seeds:
        check_seed(seed, place)
    if len(set(plan.seeds)) != len(plan.seeds):
        raise InputError("a world is named twice", place=place, mend="Name each once.")
    if plan.warm_days and WARM_SEED in plan.seeds:
        raise InputError(
            f"the gates learn in {WARM_SEED} before", place=place, mend="Name another seed."
        )


def mind_named(name: str) -> Mind:
    """Return a simulated reasoner.

    Raises:
        InputError: If there is none of that name.
    """
    found = next((mind for mind in MINDS if mind.name == name), None)
    if found is None:
        known = ", ".join(mind.name for mind in MINDS)
        raise InputError(f"{name!r} is no reasoner", place="--reasoner", mend=f"One of {known}.")
    return found


def _cascades(mind: Mind, share: float) -> dict[str, tuple[list[Mind], list[float | None]]]:
    """Return the cascades that are measured, each with who is in it and what shares their gates may ask.

    A gate's share is one of calls, a whole cascade's one of tokens.
    """
    embedded, *cheaper = MINDS[: MINDS.index(mind)] or (mind,)
    found: dict[str, tuple[list[Mind], list[float | None]]] = {GATE: ([mind], [share])}
    if mind is not embedded:
        found[ADVISED.format(GATE)] = [embedded, mind], [None, share]
    if cheaper:
        small = cheaper[-1]
        first = min(1.0, share / (small.tokens / mind.tokens + PASSED_ON))
        found[CASCADE] = [small, mind], [first, PASSED_ON]
        found[ADVISED.format(CASCADE)] = [embedded, small, mind], [None, first, PASSED_ON]
    return found


def _lived(
    minds: Sequence[Mind],
    shares: Sequence[float | None],
    world: Sequence[Read],
    states: Sequence[bytes],
) -> tuple[Tally, Gated]:
    gated = Gated(minds, shares)
    if states:
        gated.restore(states)
    return Life(minds, gated).live(world), gated


class _Run:
    """Every policy's lives, over one world after another."""

    def __init__(self, mind: Mind) -> None:
        self._mind = mind
        self.states: dict[tuple[str, float], tuple[bytes, ...]] = {}
        """What the gates of each cascade have learnt."""
        self._cold: tuple[bytes, ...] = ()
        self.lives: dict[tuple[str, float], Tally] = {}
        self.took_ns: list[int] = []
        self.explored = 0
        self.documents = 0

    def warm(self, world: list[Read], say: Say) -> None:
        """Let the gates learn in a world that is not counted."""
        for share in SHARES:
            say(f"seed {world[0].seed}, to learn: {share:.0%}")
            self._live_gated(world, share)

    def world(self, world: list[Read], say: Say) -> None:
        """Let every policy live through one world."""
        occasions = [o for read in world for o in read.occasions]
        n_asked = sum(o.notice is not None for o in occasions)
        n_told = sum(o.told is not None for o in occasions)
        self.documents += n_told
        unsure = np.array(
            [entropy_at(read, o) for read in world for o in read.occasions if o.notice is not None]
        )
        for share in SHARES:
            say(f"seed {world[0].seed}: {share:.0%}")
            for name, (tally, gated) in self._live_gated(world, share).items():
                self._add(name, share, tally)
                if (name, share) == (GATE, MAIN):
                    self.took_ns += gated.took_ns
                    self.explored += gated.explored
            seed = int(1e4 * share)
            self._live("random", share, Chance(share, seed), world)
            self._live("uncertainty", share, Unsure(share, unsure), world)
            by_document = min(1.0, share * n_asked / n_told)
            policy = Chance(by_document, seed, any_document=True)
            self._live("any document", share, policy, world)
        tally, gated = _lived(*_cascades(self._mind, MAIN)[GATE], world, self._cold)
        self._cold = gated.states
        self._add("gate from cold", MAIN, tally)
        say(f"seed {world[0].seed}: always, and the oracle")
        self._live("always", 1.0, Chance(1.0, 0), world)
        self._live("oracle", 0.0, Oracle(_LEAST_ORACLE), world)

    def _live_gated(self, world: list[Read], share: float) -> dict[str, tuple[Tally, Gated]]:
        """Let each cascade live on from what it has learnt."""
        found = {}
        for name, (minds, shares) in _cascades(self._mind, share).items():
            found[name] = _lived(minds, shares, world, self.states.get((name, share), ()))
            self.states[name, share] = found[name][1].states
        return found

    def _live(self, name: str, share: float, policy: Policy, world: list[Read]) -> None:
        self._add(name, share, Life([self._mind], policy).live(world))

    def _add(self, name: str, share: float, tally: Tally) -> None:
        before = self.lives.get((name, share))
        self.lives[name, share] = tally if before is None else _together(before, tally)

    def point(self, name: str, share: float) -> Point:
        """Return a policy's figures over all worlds."""
        life, always = self.lives[name, share], self.lives["always", 1.0]
        oracle = self.lives["oracle", 0.0]
        sums, counts = _cells(life.realised), _cells(life.counts)
        rng = np.random.default_rng(1)
        runs = draw_runs(len(sums), _RESAMPLES, rng)
        totals = resample(np.stack([sums, counts], axis=1), runs)
        n_blocks = len(sums) // CELLS_PER_BLOCK
        p_value = diebold_mariano(sums, counts)
        return Point(
            policy=name,
            budget=share if share in SHARES else None,
            call_share=round(life.asked / life.occasions, 4),
            token_share=round(life.tokens / max(1, always.tokens), 4),
            gain_share=round(life.expected / always.expected, 4),
            oracle_share=round(life.expected / oracle.expected, 4),
            harm_share=round(life.harm / life.expected, 4),
            harm_answers_share=round(life.harm_answers / life.expected, 4),
            late=life.late,
            late_applied=life.late_applied,
            calls=life.asked,
            gain=life.expected / life.rows,
            realised=float(sums.sum() / counts.sum()),
            outlook_share=round(life.outlook / life.expected, 4),
            p_value=p_value,
            interval=percentile_interval(totals[:, 0] / totals[:, 1], n_blocks),
        )


def _together(one: Tally, other: Tally) -> Tally:
    """Return two tallies as one: sums, and days after days."""
    return Tally(**{name: getattr(one, name) + getattr(other, name) for name in Tally.__slots__})


def _cells(by_day: Iterable[Floats]) -> Floats:
    """Return sums by step of each day as sums by cell."""
    cells: Floats = np.concatenate([day.reshape(-1, _CELL_STEPS).sum(axis=1) for day in by_day])
    return cells


def _independent(life: Tally, plan: Plan) -> int:
    """Return the number of independent forecasts that the worlds are worth."""
    loss = _cells(life.loss) - _cells(life.realised)
    counts = _cells(life.counts)
    runs = draw_runs(len(loss), _RESAMPLES, np.random.default_rng(2))
    totals = resample(np.stack([loss, counts], axis=1), runs)
    block_s = float(_CELL_STEPS * CELLS_PER_BLOCK * GRID_S)
    blocks = Blocks(np.arange(len(loss)), len(loss), block_s)
    disjoint = sum(STEPS // reach for reach in REACH) * len(LISTINGS) * plan.days * len(plan.seeds)
    mean = float(loss.sum() / counts.sum())
    variance = life.squares / life.rows - mean * mean
    return effective_n(disjoint, variance, totals[:, 0] / totals[:, 1], blocks)


def _moved(
    mind: Mind, states: dict[tuple[str, float], tuple[bytes, ...]], n_days: int, say: Say
) -> Iterator[Moved]:
    """Yield what the gates reach in worlds with one parameter moved, having learnt in none such."""
    for name in MOVED:
        for factor in (0.5, 1.5):
            world = list(read_world(moved(name, factor), SEEDS[0], n_days, say))
            always = Life([mind], Chance(1.0, 0)).live(world)
            for policy, (minds, shares) in _cascades(mind, MAIN).items():
                tally, _ = _lived(minds, shares, world, states.get((policy, MAIN), ()))
                yield Moved(
                    policy=policy,
                    parameter=name,
                    factor=factor,
                    call_share=round(tally.asked / tally.occasions, 4),
                    token_share=round(tally.tokens / max(1, always.tokens), 4),
                    gain_share=round(tally.expected / always.expected, 4),
                )


def plot(figures: ProtocolFigures, out: Path) -> None:
    """Draw the share of the gain over the share of the calls, a line for each policy.

    Raises:
        InputError: If matplotlib is not installed.
    """
    plt = pyplot()
    from matplotlib.ticker import NullLocator, PercentFormatter

    figure, axes = plt.subplots(figsize=(9, 5))
    for name in dict.fromkeys(point.policy for point in figures.curve):
        points = sorted((p.token_share, p.gain_share) for p in figures.curve if p.policy == name)
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set(
        xlabel="tokens, share of always asking",
        ylabel="share of the always-asking gain",
        xscale="log",
    )
    axes.set_xticks(TICKS, [f"{tick:.0%}" for tick in TICKS])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title(f"Known worlds, simulated reasoner ({figures.reasoner})")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(out, dpi=110)
    plt.close(figure)
