"""Boosted trees for US stocks: the stock plan's priors, calibration and quantiles, classes by trees.

How far the trees are trusted at each horizon is what loses least when the day left out is walked,
calibration and references included. Knows nothing of files of ticks.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import numpy as np

from finllm.edge.artifact import EMPTY_CARD, MODEL_FILE, HorizonPrior, Manifest, load_artifact
from finllm_lab.choice import LEAST_GAIN, TRUSTS, class_ratios
from finllm_lab.edge import Build, priors_for
from finllm_lab.export import write_graph
from finllm_lab.labels import targets
from finllm_lab.plans import Plan
from finllm_lab.tapes import Session
from finllm_lab.training import Sample, columns_of, pool
from finllm_lab.walk import walk
from finllm_lab.zoo.graphs import with_logits
from finllm_lab.zoo.trees import fit_turned_trees, turned_nodes

N_ROUNDS: Final = 150
"""Of boosting. On the day left out 100 lost 0.7 points at 1 s on BAC and won 0.1 at 10 s."""
Say = Callable[[str], None]


def with_trees(material: Build, folder: Path, say: Say, *, n_rounds: int = N_ROUNDS) -> Manifest:
    """Replace a linear artifact's classes by trees.

    Args:
        material: What the artifact in `folder` was built from.
        folder: Of the linear artifact; overwritten.
        say: Told what was found, a line at a time.
        n_rounds: Of boosting.

    Returns:
        The manifest as written.
    """
    plan = material.plan
    linear = load_artifact(folder, spec=plan.spec).manifest
    quantiles = (folder / MODEL_FILE).read_bytes()
    held = []
    for trial in material.trials:
        say("trees, leaving " + ", ".join(sorted({session.name for session in trial.compare})))
        graph = _graph(plan, [session for session, _ in trial.fit], quantiles, n_rounds)
        manifest = msgspec.structs.replace(
            linear, priors=priors_for(plan, trial.fit), card=EMPTY_CARD
        )
        with TemporaryDirectory() as made:
            write_graph(Path(made), manifest, graph)
            artifact = load_artifact(Path(made), spec=plan.spec)
            held += [
                class_ratios(walk(session, artifact, plan.grid_ns)) for session in trial.compare
            ]
    # Pinball is not looked at: the linear quantiles have seen the day, and were chosen without it before.
    losses = np.mean(held, axis=0)
    trusts = [
        0.0 if 1.0 - losses[:, h].min() < LEAST_GAIN else TRUSTS[int(np.argmin(losses[:, h]))]
        for h in range(len(plan.horizons))
    ]
    said = ", ".join(
        f"{horizon.name} {trust:g} ({100 * (1 - losses[TRUSTS.index(trust), h]):.1f} % over climatology)"
        for h, (horizon, trust) in enumerate(zip(plan.horizons, trusts, strict=True))
    )
    say(f"trees, trust: {said}")
    priors: tuple[HorizonPrior, ...] = tuple(
        msgspec.structs.replace(prior, trust_p=trust)
        for prior, trust in zip(linear.priors, trusts, strict=True)
    )
    note = (
        f"Classes are those of boosted trees, {n_rounds} rounds; trust on the day left out: {said}."
        " What is said of classes above is of the linear model that they replace."
    )
    card = msgspec.structs.replace(linear.card, limits=(*linear.card.limits, note))
    final = msgspec.structs.replace(linear, name=f"{plan.name}-trees", priors=priors, card=card)
    graph = _graph(plan, [session for session, _ in material.fit], quantiles, n_rounds)
    return write_graph(folder, final, graph)


def _graph(plan: Plan, sessions: Sequence[Session], quantiles: bytes, n_rounds: int) -> bytes:
    """Return trees fitted on every grid point, with a linear graph's quantiles."""
    odd = columns_of(plan.spec, is_mirrored=plan.is_mirrored, core=plan.core).odd
    lead, sigma = (plan.spec.columns[name] for name in (plan.baseline_column, "sigma"))
    samples = []
    for session in sessions:
        found = targets(session, plan.horizons, sigma, plan.grid_ns)
        # What is served is float32, so that is what a tree must cut.
        rows = session.rows_at(found.at).astype(np.float32).astype(np.float64)
        samples.append(Sample(rows=rows, label=found.label, scaled=found.scaled))
    ensembles = fit_turned_trees(pool(samples), odd, lead, n_rounds=n_rounds)
    return with_logits(quantiles, *turned_nodes(ensembles, odd, lead))
