"""Fitting the model of hypotheses: a mixture over a pack's texts of multinomial logits.

The likelihood of a case is that of its driver under the served mixture itself; weights, gate and the
trust of "none of the texts" are fitted together by L-BFGS with a ridge, chosen with whole tapes left out.
"""

from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from finllm.domain.errors import InputError
from finllm.domain.units import NS_PER_S
from finllm.reasoning.conflict import SHIPPED, TESTS, ConflictWeights, options
from finllm_lab.cards import Card, write_record
from finllm_lab.conflicts.packs import Case
from finllm_lab.conflicts.planted import FROZEN

NAME: Final = "conflicts-1"
CARD: Final = "conflict.card.json"
MEMORIES_S: Final = (10, 20)
RIDGES: Final = (2.0, 6.0, 18.0)
"""Cases' worth of pull on an input of variance one."""
GATE_RIDGE: Final = 0.5
LEAST_NO_TEXT: Final = 0.1
"""A text with hardly any trust is not to fill an empty room."""
N_FOLDS: Final = 5
_GATES: Final = ("rumour", "denial", "event", "copies", "size")
_MOST_GATE: Final = 3.0

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Cases as the fit sees them: one row an option, cases one after another."""

    names: tuple[str, ...]
    """Of the inputs."""
    x: Floats
    """[n, d]."""
    gate: Floats
    """[n, k]; zero for none of the texts."""
    log_trust: Floats
    """[n]; of none of the texts, 0."""
    is_none: Floats
    """[n], 1 for none of the texts."""
    first: Ints
    """[m], where each case begins."""
    driver: Ints
    """[m], its number in `TESTS`."""
    tape: Ints
    """[m]."""

    def of(self, cases: NDArray[np.bool_]) -> "Table":
        """Return some of the cases."""
        n = np.diff(np.append(self.first, len(self.x)))
        rows = np.repeat(cases, n)
        kept = n[cases]
        first = np.concatenate([[0], np.cumsum(kept)[:-1]]).astype(np.int64)
        parts = {f: getattr(self, f)[rows] for f in ("x", "gate", "log_trust", "is_none")}
        whole = {f: getattr(self, f)[cases] for f in ("driver", "tape")}
        return Table(names=self.names, first=first, **parts, **whole)


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted model, in the units of the inputs."""

    tests: Floats
    """[7, d]."""
    gate: Floats
    """[k]."""
    no_text: float


def table(cases: list[Case], memory_s: int) -> Table:
    """Return cases as the fit sees them."""
    found = [options(case.pack, memory_s * NS_PER_S) for case in cases]
    names = tuple(sorted({name for each in found for one in each for name in one.inputs}))
    flat = [one for each in found for one in each]
    sizes = [len(each) for each in found]
    order = list(TESTS)
    return Table(
        names=names,
        x=np.array([[one.inputs.get(name, 0.0) for name in names] for one in flat]),
        gate=np.array([[one.gate.get(name, 0.0) for name in _GATES] for one in flat]),
        log_trust=np.array([np.log(one.trust) if one.claim else 0.0 for one in flat]),
        is_none=np.array([float(one.claim is None) for one in flat]),
        first=np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64),
        driver=np.array([order.index(case.episode.driver) for case in cases]),
        tape=np.array([case.tape for case in cases]),
    )


def fit(data: Table, ridge: float) -> Parameters:
    """Return the most likely parameters under a ridge on standardised inputs."""
    d, k, n_tests = data.x.shape[1], data.gate.shape[1], len(TESTS)
    scale = 1.0 / np.maximum(np.sqrt((data.x**2).mean(axis=0)), 1e-9)
    x = data.x * scale

    def objective(theta: Floats) -> tuple[float, Floats]:
        tests, gate = theta[: n_tests * d].reshape(n_tests, d), theta[n_tests * d : -1]
        p, share = _mixture(data, x @ tests.T, gate, theta[-1])
        index = _cases(data)
        y = data.driver[index]
        own = p[np.arange(len(p)), y]
        said = np.add.reduceat(share * own, data.first)
        claim = share * own / said[index]
        slope = -claim[:, None] * p
        slope[np.arange(len(p)), y] += claim
        mass = claim - share
        gradient = np.concatenate(
            [(slope.T @ x).ravel(), data.gate.T @ mass, [(mass * data.is_none).sum()]]
        )
        loss = 0.5 * float(pull @ theta**2) - float(np.log(said).sum())
        return loss, pull * theta - gradient

    pull = np.concatenate([np.full(n_tests * d, ridge), np.full(k, GATE_RIDGE), [0.0]])
    start = np.zeros(n_tests * d + k + 1)
    bounds = [(None, None)] * (n_tests * d) + [(-_MOST_GATE, _MOST_GATE)] * k
    bounds.append((float(np.log(LEAST_NO_TEXT)), 3.0))
    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500}
    ).x
    tests = found[: n_tests * d].reshape(n_tests, d) * scale
    return Parameters(tests=tests, gate=found[n_tests * d : -1], no_text=float(np.exp(found[-1])))


def probabilities(data: Table, model: Parameters) -> Floats:
    """Return each case's probabilities, [m, 7]."""
    p, share = _mixture(data, data.x @ model.tests.T, model.gate, float(np.log(model.no_text)))
    return np.asarray(np.add.reduceat(share[:, None] * p, data.first))


def _cases(data: Table) -> Ints:
    """Return the number of each row's case."""
    n = np.diff(np.append(data.first, len(data.x)))
    return np.repeat(np.arange(len(data.first)), n)


def _mixture(data: Table, scores: Floats, gate: Floats, log_none: float) -> tuple[Floats, Floats]:
    """Return each option's probabilities [n, 7] and share of its case [n]."""
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    log_mass = data.log_trust + np.clip(data.gate @ gate, -_MOST_GATE, _MOST_GATE)
    mass = np.exp(log_mass + log_none * data.is_none)
    total = np.add.reduceat(mass, data.first)
    return p, mass / total[_cases(data)]


# --- what ships --------------------------------------------------------------------------------------


class ConflictCard(Card, frozen=True, kw_only=True):
    """What the model of hypotheses is and where it is from."""

    tried: dict[str, float]
    """Memory in seconds and ridge -> nats a case, whole tapes left out."""
    left_out: dict[str, float]
    """Reader -> share of drivers named right, whole tapes left out; of the choice that ships."""
    command: str


def build(cases: list[Case], out: Path) -> ConflictCard:
    """Choose memory and ridge with whole tapes left out, fit on all cases, and write model and card.

    Raises:
        InputError: If there are too few tapes to leave any out.
    """
    if len({case.tape % N_FOLDS for case in cases}) < 2:
        raise InputError(
            "no tape can be left out", place="--packs", mend="Gather several tapes in a row."
        )
    cases = sorted(cases, key=lambda case: (case.tape, case.reader != "words"))
    tried: dict[tuple[int, float], tuple[float, Floats]] = {}
    tables = {memory_s: table(cases, memory_s) for memory_s in MEMORIES_S}
    for memory_s, data in tables.items():
        for ridge in RIDGES:
            p = _left_out(data, ridge)
            tried[memory_s, ridge] = (_nats(p, data.driver), p)
    memory_s, ridge = min(tried, key=lambda one: tried[one][0])
    data = tables[memory_s]
    right = tried[memory_s, ridge][1].argmax(axis=1) == data.driver
    readers = np.array([case.reader for case in cases])
    seeds = sorted({case.tape for case in cases})
    card = ConflictCard(
        artifact=SHIPPED.name,
        name=NAME,
        licence="Apache-2.0",
        generator=FROZEN,
        sources=(f"finllm_lab.conflicts.planted (own), seeds {seeds[0]} to {seeds[-1]}",),
        method=(__doc__ or "").strip(),
        tried={f"{m} s, ridge {r:g}": round(nats, 4) for (m, r), (nats, _) in tried.items()},
        left_out={
            name: round(float(right[readers == name].mean()), 4) for name in sorted({*readers})
        },
        command="finllm_lab conflicts gather --out FILE; finllm_lab conflicts fit --packs FILE",
    )
    out.mkdir(parents=True, exist_ok=True)
    write_record(out / SHIPPED.name, _weights(fit(data, ridge), data.names, memory_s))
    write_record(out / CARD, card)
    return card


def _left_out(data: Table, ridge: float) -> Floats:
    """Return each case's probabilities by a model that never saw its tape, [m, 7]."""
    found = np.zeros((len(data.driver), len(TESTS)))
    for fold in range(N_FOLDS):
        is_out = data.tape % N_FOLDS == fold
        if is_out.any():
            found[is_out] = probabilities(data.of(is_out), fit(data.of(~is_out), ridge))
    return found


def _nats(p: Floats, driver: Ints) -> float:
    return float(-np.log(p[np.arange(len(p)), driver]).mean())


def _weights(model: Parameters, names: tuple[str, ...], memory_s: int) -> ConflictWeights:
    return ConflictWeights(
        name=NAME,
        memory_ns=memory_s * NS_PER_S,
        no_text=_round(model.no_text),
        gate={name: _round(w) for name, w in zip(_GATES, model.gate, strict=True)},
        tests={
            test: {name: _round(w) for name, w in zip(names, row, strict=True)}
            for test, row in zip(TESTS, model.tests, strict=True)
        },
    )


def _round(x: float) -> float:
    return float(f"{x:.4g}")
