"""Building the two shipped edge models from recorded tapes, with every choice made off the last look.

What is compared is the walk itself, calibration and baselines included. What was decided beforehand is in
`finllm_lab.plans`. Knows nothing of how rows or labels are made.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.instrument import Horizon
from finllm.domain.units import NS_PER_S, parse_instant
from finllm.edge.artifact import (
    EMPTY_CARD,
    FORMAT,
    Artifact,
    Card,
    HorizonPrior,
    Manifest,
    load_artifact,
)
from finllm.edge.linear import Network
from finllm_lab.choice import Choice, Comparing, chosen, class_ratios, quantile_ratios
from finllm_lab.export import graph_of, write_artifact
from finllm_lab.labels import (
    Targets,
    targets,
)
from finllm_lab.manifest import checked, hash_of
from finllm_lab.plans import BAR_PLAN, BOOK_PLAN, DAY_PLAN, STOCK_PLAN, Plan
from finllm_lab.priors import priors_of
from finllm_lab.tapes import (
    BARS,
    BOOK_TAPES,
    DAYS,
    SYMBOLS,
    Session,
    bar_sessions,
    between,
    book_sessions,
    tape_paths,
)
from finllm_lab.ticks import FOLDER, STOCK_TAPES, tick_sessions
from finllm_lab.training import (
    Path as FitPath,
)
from finllm_lab.training import (
    Penalty,
    Sample,
    columns_of,
    fit_path,
    pool,
)
from finllm_lab.walk import Said, skill, walk

Say = Callable[[str], None]
Array = NDArray[np.float64]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions to fit on, and sessions to compare penalties on."""

    fit: tuple[tuple[Session, Targets], ...]
    compare: tuple[Session, ...]


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a build needs, read and labelled."""

    plan: Plan
    fit: tuple[tuple[Session, Targets], ...]
    trials: tuple[Trial, ...]
    files: tuple[str, ...]
    """Name and SHA-256 of every file read."""
    licence: str = "A"
    """Class of the most restricted of them."""


def labelled(plan: Plan, sessions: Sequence[Session]) -> tuple[tuple[Session, Targets], ...]:
    """Return sessions with what became of their grid points."""
    sigma = plan.spec.columns["sigma"]
    return tuple((s, targets(s, plan.horizons, sigma, plan.fit_grid_ns)) for s in sessions)


def book_build(data: Path) -> Build:
    """Read the training tapes of the book model.

    Raises:
        InputError: If a tape is missing under `data`.
    """
    sessions, files = [], []
    for tape in BOOK_TAPES:
        if tape.use == "train":
            paths = tape_paths(data, tape)
            files += [_signed(path) for path in paths]
            sessions += book_sessions(tape.name, paths)
    fit = labelled(BOOK_PLAN, sessions)
    names = sorted({session.name for session in sessions})
    trials = tuple(
        Trial(
            fit=tuple(pair for pair in fit if pair[0].name != left_out),
            compare=tuple(session for session in sessions if session.name == left_out),
        )
        for left_out in names
    )
    return Build(plan=BOOK_PLAN, fit=fit, trials=trials, files=tuple(files))


def stock_build(data: Path) -> Build:
    """Read the training days of the stock model.

    Raises:
        InputError: If a file is missing under `data`, or was changed.
    """
    sessions = stock_sessions(data, "train")
    files = [
        _signed(data / FOLDER / f"{name}.csv.gz")
        for tape in STOCK_TAPES
        if tape.use == "train"
        for name in tape.files
    ]
    fit = labelled(STOCK_PLAN, sessions)
    last = max(session.name for session in sessions)
    trial = Trial(
        fit=tuple(pair for pair in fit if pair[0].name != last),
        compare=tuple(session for session in sessions if session.name == last),
    )
    return Build(plan=STOCK_PLAN, fit=fit, trials=(trial,), files=tuple(files))


def stock_sessions(data: Path, use: str) -> list[Session]:
    """Read the days of AIG and BAC that are entered for a use, features on the plan's grid."""
    return tick_sessions(data, STOCK_TAPES, use=use, grid_ns=STOCK_PLAN.grid_ns)


def bar_build(data: Path) -> Build:
    """Read the training part of the hourly bars.

    Raises:
        InputError: If the file is missing under `data`.
    """
    sessions = bar_sessions(checked(data, BARS), SYMBOLS)
    early = [_span(session, "2005-01-01", "2015-01-01") for session in sessions]
    fit = labelled(BAR_PLAN, early)
    compare = tuple(_span(session, "2015-01-01", "2015-08-01") for session in sessions)
    trial = Trial(fit=fit, compare=compare)
    return Build(plan=BAR_PLAN, fit=fit, trials=(trial,), files=(_signed(data / BARS),))


def day_build(data: Path) -> Build:
    """Read the training part of the daily bars.

    Raises:
        InputError: If the file is missing under `data`.
    """
    sessions = bar_sessions(checked(data, DAYS))
    fit = labelled(DAY_PLAN, [_span(session, "2012-09-01", "2014-07-01") for session in sessions])
    compare = tuple(_span(session, "2014-07-01", "2015-08-01") for session in sessions)
    trial = Trial(fit=fit, compare=compare)
    return Build(plan=DAY_PLAN, fit=fit, trials=(trial,), files=(_signed(data / DAYS),))


def bar_validation(data: Path) -> list[Session]:
    """Read the bars of 2015 to the end of September; only August and September are to be scored."""
    sessions = bar_sessions(checked(data, BARS), SYMBOLS)
    return [_span(session, "2015-01-01", "2015-10-01") for session in sessions]


BAR_VALIDATION_FROM: Final = parse_instant("2015-08-01")


def _span(session: Session, start: str, end: str) -> Session:
    return between(session, parse_instant(start), parse_instant(end))


def _signed(path: Path) -> str:
    return f"{path.name} sha256:{hash_of(path)}"


def build(material: Build, out: Path, say: Say) -> Manifest:
    """Choose penalties, fit on everything, and write the artifact.

    Args:
        material: Sessions and plan.
        out: Folder of the artifact.
        say: Told what was found, a line at a time.

    Returns:
        The manifest as written.
    """
    plan = material.plan
    tried = [_Tried(_fit(plan, t.fit), priors_for(plan, t.fit), t.compare) for t in material.trials]
    rule = partial(
        chosen,
        horizons=plan.horizons,
        penalties=plan.penalties,
        most_trust=plan.most_trust,
        near=plan.near,
        say=say,
    )
    say("classes")
    classes = rule(_classes_compared(plan, tried))
    say("quantiles")
    quantiles = rule(_quantiles_compared(plan, tried, classes))
    network = _fit(plan, material.fit).network(
        [choice.penalties for choice in classes], [choice.penalties for choice in quantiles]
    )
    priors = _trusted(
        priors_for(plan, material.fit),
        [choice.trust for choice in classes],
        [choice.trust for choice in quantiles],
    )
    lines = tuple(
        _in_words(plan.penalties, *three)
        for three in zip(plan.horizons, classes, quantiles, strict=True)
    )
    card = Card(
        data=material.files,
        licence_class=material.licence,
        splits=plan.splits,
        scores=(),
        limits=plan.limits + lines,
    )
    return _write(plan, priors, network, card, out)


def _in_words(
    penalties: Sequence[Penalty], horizon: Horizon, classes: Choice, quantiles: Choice
) -> str:
    said = [
        f"{what} penalties {', '.join(str(penalties[r]) for r in choice.penalties)}, trust"
        f" {choice.trust:g}"
        if choice.trust
        else f"{what} {otherwise}"
        for what, choice, otherwise in (
            ("classes", classes, "abstain"),
            ("quantiles", quantiles, "follow the classes"),
        )
    ]
    return f"{horizon.name}: {'; '.join(said)}"


class _Tried(NamedTuple):
    """What was fitted without a recording, and that recording."""

    path: FitPath
    priors: tuple[HorizonPrior, ...]
    sessions: Sequence[Session]


def _classes_compared(plan: Plan, tried: Sequence[_Tried]) -> Array:
    """Return how each penalty's classes did on what was left out; see `Comparing.ratios`."""
    n, comparing = len(plan.horizons), Comparing(len(plan.penalties))
    for one in tried:
        for r in range(len(plan.penalties)):
            network = one.path.network([(r,)] * n, [(r,)] * n)
            for said in _walked(plan, one.priors, network, one.sessions):
                comparing.add(r, class_ratios(said))
    return comparing.ratios()


def _quantiles_compared(plan: Plan, tried: Sequence[_Tried], choices: Sequence[Choice]) -> Array:
    """Return how each penalty's quantiles did, pooled with what the chosen classes imply."""
    n, comparing = len(plan.horizons), Comparing(len(plan.penalties))
    classes, trusts = [c.penalties for c in choices], [c.trust for c in choices]
    for one in tried:
        silent = _trusted(one.priors, trusts, [0.0] * n)
        implied = _walked(plan, silent, one.path.network(classes, [(0,)] * n), one.sessions)
        alone = _trusted(one.priors, trusts, [1.0] * n)
        for r in range(len(plan.penalties)):
            network = one.path.network(classes, [(r,)] * n)
            for said, other in zip(
                _walked(plan, alone, network, one.sessions), implied, strict=True
            ):
                comparing.add(r, quantile_ratios(said, other))
    return comparing.ratios()


def _trusted(
    priors: Sequence[HorizonPrior], trusts_p: Sequence[float], trusts_q: Sequence[float]
) -> tuple[HorizonPrior, ...]:
    return tuple(
        msgspec.structs.replace(prior, trust_p=trust_p, trust_q=trust_q)
        for prior, trust_p, trust_q in zip(priors, trusts_p, trusts_q, strict=True)
    )


def _fit(plan: Plan, found: Sequence[tuple[Session, Targets]]) -> FitPath:
    samples = [Sample(rows=s.rows_at(t.at), label=t.label, scaled=t.scaled) for s, t in found]
    return fit_path(
        pool(samples),
        plan.penalties,
        columns_of(plan.spec, is_mirrored=plan.is_mirrored, core=plan.core, unread=plan.unread),
    )


def priors_for(plan: Plan, found: Sequence[tuple[Session, Targets]]) -> tuple[HorizonPrior, ...]:
    """Return what a plan's artifact believes before the first outcome, one prior a horizon."""
    return priors_of(
        plan.horizons,
        found,
        baseline_column=plan.spec.columns[plan.baseline_column],
        rule=plan.regime,
        is_mirrored=plan.is_mirrored,
    )


def _walked(
    plan: Plan, priors: tuple[HorizonPrior, ...], network: Network, sessions: Sequence[Session]
) -> list[list[Said]]:
    learning = msgspec.structs.replace(
        plan.learning,
        grid_s=max(plan.learning.grid_s, plan.choice_grid_ns / NS_PER_S),
    )
    with TemporaryDirectory() as folder:
        trial = msgspec.structs.replace(plan, learning=learning)
        _write(trial, priors, network, EMPTY_CARD, Path(folder))
        artifact = load_artifact(Path(folder), spec=plan.spec)
        return [walk(session, artifact, plan.choice_grid_ns) for session in sessions]


def _write(
    plan: Plan, priors: tuple[HorizonPrior, ...], network: Network, card: Card, out: Path
) -> Manifest:
    manifest = msgspec.structs.replace(
        manifest_of(plan, priors),
        inputs=tuple(zip(network.centre.tolist(), network.spread.tolist(), strict=True)),
        card=card,
    )
    return write_artifact(out, manifest, graph_of(network))


def manifest_of(plan: Plan, priors: tuple[HorizonPrior, ...]) -> Manifest:
    """Return the manifest of a plan whose model is not written yet: no hashes, no version, no card."""
    return Manifest(
        format=FORMAT,
        name=plan.name,
        version="",
        spec_hash=plan.spec.hash,
        columns=tuple(plan.spec.columns),
        sigma_column="sigma",
        baseline_column=plan.baseline_column,
        priors=priors,
        learning=plan.learning,
        regime=plan.regime,
        card=EMPTY_CARD,
        model_sha256="",
    )


def score_lines(
    artifact: Artifact, sessions: Sequence[Session], grid_ns: int, *, since: int = 0
) -> tuple[str, ...]:
    """Walk an artifact over sessions; return one line per instrument and horizon, and pooled ones.

    Args:
        artifact: What to score.
        sessions: What to walk.
        grid_ns: Time between two forecasts.
        since: Forecasts before this instant are walked but not scored.
    """
    walked = [walk(session, artifact, grid_ns) for session in sessions]
    lines = []
    for h, horizon in enumerate(artifact.horizons):
        log, pin = [], []
        for said in (heard[h] for heard in walked):
            kept = said.ts >= since
            log.append(said.log_loss()[kept])
            pin.append(said.pinball()[kept])
            lines.append(_line(f"{said.instrument} {horizon.name}", log[-1], pin[-1]))
        lines.append(_line(f"pooled {horizon.name}", np.concatenate(log), np.concatenate(pin)))
    return tuple(lines)


def _line(what: str, log: NDArray[np.float64], pinball: NDArray[np.float64]) -> str:
    against = [100.0 * skill(log, column) for column in (1, 2, 3)]
    width = [100.0 * skill(pinball, column) for column in (1, 2)]
    return (
        f"{what} n={len(log)} log skill % climatology {against[0]:.1f} ewma {against[1]:.1f}"
        f" obi {against[2]:.1f}; pinball skill % climatology {width[0]:.1f} ewma {width[1]:.1f}"
    )
