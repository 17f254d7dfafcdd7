"""5,000 traces over synthetic and recorded input proved, and 2,000 changed in one place found out.

Verdicts are the embedded reasoner's, a language model's and an ensemble's, the latter two at endpoints that
also say what no evidence bears out.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from finllm.app.explaining import Explainer
from finllm.app.records import Explained, explained_revisions, prove, verify_traces
from finllm.app.replay import Inputs, replay
from finllm.app.settings import Settings, load_settings
from finllm.audit.questions import check_question
from finllm.audit.revisions import check_revision
from finllm.audit.traces import check_trace
from finllm.domain.units import parse_instant
from finllm.market.synthetic import SyntheticMarket, generate
from support.asked import FALSE, asking_one, asking_several
from support.replays import inputs_of
from support.tampering import KINDS

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]
TRACES = 5_000
TAMPERED = 2_000
LEAST_OF_EACH = 200
"""Traces of each kind of reasoner."""
SYNTHETIC_S = 600.0
SEEDS = range(501, 540)
SPY = frozenset({"SPY"})
ASKED = {"llm": asking_one, "ensemble": asking_several}
"""Whoever else is asked, about a synthetic market each."""
TWEETS_UNTIL = "2014-04-05"
"""Most of the traces are of tweets; the part that is for training goes on to 2015-08-01."""
POSTS_UNTIL = "2025-06-15"
"""The end of the part that is for training."""
PRICES = ("open", "high", "low", "close", "volume")


def tweets(shared: Path) -> Inputs:
    """Return hourly bars with the tweets filed under them."""
    folder = shared / "text_price"
    return Inputs(
        bars=folder / "us_bars_hourly_to_201509.csv.gz",
        documents=folder / "stock_tweets_2014_201509.jsonl.gz",
        symbols=frozenset({"SPY", "AAPL", "BAC", "IBM", "AIG"}),
        since=parse_instant("2014-01-03"),
        until=parse_instant(TWEETS_UNTIL),
    )


def posts(shared: Path, folder: Path) -> Inputs:
    """Return posts with those minute bars of SPY that stand beside them, one each."""
    documents = shared / "text_price" / "posts_spy_2025_to_july.csv"
    with documents.open(newline="") as file:
        by_minute = {int(row["ts_ms"]) // 60_000: row for row in csv.DictReader(file)}
    folder.mkdir()
    with (folder / "bars.csv").open("w", newline="") as file:
        bars = csv.writer(file)
        bars.writerow(["symbol", "ts_start_ms", *PRICES])
        for minute, row in sorted(by_minute.items()):
            bars.writerow(["SPY", minute * 60_000, *(row[f"bar_{name}"] for name in PRICES)])
    until = parse_instant(POSTS_UNTIL)
    return Inputs(bars=folder / "bars.csv", documents=documents, symbols=SPY, until=until)


def synthetic(folder: Path, seed: int) -> Inputs:
    folder.mkdir()
    generate(SyntheticMarket(seed=seed, duration_s=SYNTHETIC_S)).write(folder)
    return inputs_of(folder)


@pytest.fixture(scope="module")
def runs(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs that hold 5,000 traces together, those on recorded input first, then one synthetic at least."""
    root, settings = tmp_path_factory.mktemp("traces"), load_settings(None, {})
    recorded = {"tweets": tweets(shared), "posts": posts(shared, root / "bars")}
    found = [run_of(inputs, settings, root / name) for name, inputs in recorded.items()]
    for seed, (name, asking) in enumerate(ASKED.items(), start=SEEDS.stop):
        with ExitStack() as stack:
            market = synthetic(root / f"tape-{name}", seed)
            found.append(run_of(market, asking(stack), root / f"run-{name}"))
    n = sum(map(verify, found))
    for seed in SEEDS:
        found.append(run_of(synthetic(root / f"tape-{seed}", seed), settings, root / f"run-{seed}"))
        n += verify(found[-1])
        if n >= TRACES:
            break
    assert n >= TRACES
    return found


def run_of(inputs: Inputs, settings: Settings, run: Path) -> Path:
    replay(inputs, settings, run)
    return run


def verify(run: Path) -> int:
    """Prove all of a run; return how many revisions that was."""
    proof = verify_traces(run)
    assert proof.ok, proof.failures[:5]
    return proof.checked


def test_every_trace_holds_and_every_change_in_one_place_is_found(runs: list[Path]) -> None:
    rng = np.random.default_rng(20)
    told = [one for run in runs for one in explained_revisions(run) if one.trace.statements]
    by_reasoner = Counter(one.verdict.reasoner.partition(":")[0] for one in told)
    assert by_reasoner.keys() == {"embedded", *ASKED}
    assert min(by_reasoner.values()) >= LEAST_OF_EACH
    assert not any(words in one.verdict.conflict for one in told for words in FALSE)
    explainer = Explainer()
    tried: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    missed: list[str] = []
    for name, changed in changes(told, rng):
        tried[name] += 1
        alone[name] += bool(by_records_alone(changed))
        if not prove(changed, explainer):
            missed.append(name)
    kinds = {
        name: {"changed": n, "found_by_records_alone": alone[name]} for name, n in tried.items()
    }
    print(json.dumps({"traces": len(told), "by": by_reasoner, "kinds": kinds}))  # noqa: T201 - the figures of the run
    assert missed == []


def changes(told: list[Explained], rng: np.random.Generator) -> Iterator[tuple[str, Explained]]:
    """Yield records changed in one place, of every kind and every kind of reasoner in turn."""
    by_reasoner: dict[str, list[Explained]] = {}
    for one in told:
        by_reasoner.setdefault(one.verdict.reasoner.partition(":")[0], []).append(one)
    among = list(by_reasoner.values())
    n = 0
    while n < TAMPERED:
        tamper = KINDS[n % len(KINDS)]
        chosen = among[int(rng.integers(len(among)))]
        one = chosen[int(rng.integers(len(chosen)))]
        changed = tamper(one, rng)
        if changed is not None:
            assert changed != one, f"{tamper.__name__} changes nothing"
            n += 1
            yield tamper.__name__, changed


def by_records_alone(one: Explained) -> list[str]:
    """Return what is found without the trace being written again."""
    found = check_revision(one.revision, one.before, one.verdict)
    found += check_question(one.question, one.verdict, one.before, one.pack)
    return found + check_trace(one.trace, one.verdict, one.before, one.pack, one.texts)
