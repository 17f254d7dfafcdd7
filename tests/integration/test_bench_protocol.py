"""`finllm bench protocol`: policies live through the same worlds, and their figures hang together."""

import itertools
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from finllm.app.bench import known
from finllm.app.bench.interference import LoadProcess
from finllm.app.bench.learning import Gated
from finllm.app.bench.policies import Ask, Chance, Life, Took
from finllm.app.bench.protocol import (
    MAIN,
    SHARES,
    WARM_SEED,
    Plan,
    ProtocolFigures,
    bench_protocol,
    mind_named,
    plot,
)
from finllm.app.bench.slowpath import SlowPath
from finllm.app.cli import app
from finllm.app.routed import Route, Routed, route_world
from finllm.app.settings import Settings
from finllm.domain.errors import InputError
from finllm.escalation.gate import GateSettings
from finllm.market.known.law import LAW
from finllm.market.known.minds import MINDS, Answer, Seeing
from finllm.narrative.room import NarrativeSettings

pytestmark = pytest.mark.timeout(600)
HASHING = NarrativeSettings(encoder="hashing")
STARTS_A_LOAD = """
import sys, time
from pathlib import Path
from finllm.app.bench.interference import LoadProcess
from finllm.app.bench.slowpath import SlowPath
from finllm.narrative.room import NarrativeSettings
hashing = NarrativeSettings(encoder="hashing")
with LoadProcess(SlowPath(folder=Path(sys.argv[1]), settings=hashing)) as load:
    load.go()
    print(load._process.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def world() -> list[known.Read]:
    return list(known.read_world(LAW, 5, 1))


@pytest.fixture(scope="module")
def figures() -> ProtocolFigures:
    plan = Plan(seeds=(5,), days=1, warm_days=0, edge_pairs=1, edge_seconds=1.0)
    return bench_protocol(plan, lambda _: None)


def test_asking_nobody_gains_nothing_and_asking_everybody_asks_everybody(
    world: list[known.Read],
) -> None:
    nobody = Life([MINDS[1]], Chance(0.0, 1)).live(world)
    assert (nobody.asked, nobody.expected) == (0, 0.0)
    everybody = Life([MINDS[1]], Chance(1.0, 1)).live(world)
    assert everybody.asked == everybody.occasions > 500
    assert everybody.expected > 0.0


def test_a_mind_that_is_slower_than_the_deadline_changes_nothing(world: list[known.Read]) -> None:
    slow = msgspec.structs.replace(MINDS[1], p50_s=300.0, p95_s=400.0, slots=10_000)
    life = Life([slow], Chance(0.1, 1)).live(world)
    assert life.late == life.asked > 0
    assert (life.expected, life.late_applied) == (0.0, 0)


def test_each_reasoner_of_a_cascade_is_asked_its_share_of_what_reaches_it(
    world: list[known.Read],
) -> None:
    life = Life(MINDS[1:], Gated(MINDS[1:], [0.3, 0.2]))
    tally = life.live(world)
    small, large = MINDS[1].tokens, MINDS[2].tokens
    n_large = (tally.tokens - small * tally.asked) / (large - small)
    n_small = tally.asked - n_large
    assert n_large == int(n_large) > 0
    assert n_small / tally.occasions == pytest.approx(0.3, abs=0.05)
    assert n_large / n_small == pytest.approx(0.2, abs=0.08)


def test_advice_that_nobody_acts_on_changes_nothing_that_is_said(world: list[known.Read]) -> None:
    read = world[0]
    seeing = Seeing(MINDS, read.day, read.truth.base, 0)
    hours = [read.day.start + hour * 3_600 * 10**9 for hour in range(1, 24)]
    assert any(seeing.answer(0, at, also=0).shift.any() for at in hours)
    assert not any(seeing.answer(0, at).shift.any() for at in hours)
    seeing.read(0, hours[-1], 2)
    assert any(seeing.answer(0, at).shift.any() for at in hours)
    for at in hours:
        said = seeing.answer(0, at).shift
        assert (seeing.answer(0, at, also=0).shift == said).all()
        assert (seeing.answer(0, at, also=2).shift == said).all()


class AskedTwice(Chance):
    """Asks again as soon as it is answered."""

    def hear(self, life: Life, i: int, ask: Ask, answer: Answer, took: Took) -> Ask | None:
        again = Ask(1_000_000 + ask.number, ask.deadline, ask.mind)
        return None if ask.number > 1_000_000 else again


def test_a_verdict_that_says_what_was_said_gains_nothing_more(world: list[known.Read]) -> None:
    quick = msgspec.structs.replace(MINDS[1], p50_s=0.001, p95_s=0.002, slots=1_000)
    lives = [Life([quick], policy).live(world) for policy in (Chance(0.3, 1), AskedTwice(0.3, 1))]
    once, twice = (life.expected - life.outlook for life in lives)
    assert lives[1].asked == 2 * lives[0].asked
    assert abs(twice - once) < 0.1 * abs(once)


def test_the_same_life_twice_is_the_same(world: list[known.Read]) -> None:
    one, two = (Life(MINDS[1:], Gated(MINDS[1:], [0.3, 0.3])).live(world) for _ in range(2))
    assert (one.asked, one.expected, one.harm) == (two.asked, two.expected, two.harm)


def test_the_figures_of_a_bench_hang_together(figures: ProtocolFigures) -> None:
    points = {point.policy: point for point in figures.curve}
    assert points["always"].gain_share == points["always"].call_share == 1.0
    assert points["oracle"].gain_share > points["gate"].gain_share
    assert {"gate", "gate, advised", "random", "uncertainty", "any document"} <= set(points)
    assert points["cascade"].calls > points["gate"].calls
    gated = [point for point in figures.curve if point.policy == "gate"]
    assert [point.budget for point in gated] == list(SHARES)
    assert [round(point.call_share, 1) for point in gated] == [0.0, 0.1, 0.2, 0.5]
    cascades = [point for point in figures.curve if point.policy == "cascade"]
    assert all(point.token_share < 0.7 for point in cascades)
    assert cascades == sorted(cascades, key=lambda point: point.token_share)
    assert all(point.late_applied == 0 for point in figures.curve)
    assert figures.judgement.startswith("simulated")
    assert 0 < figures.n_eff <= figures.forecasts
    assert figures.stages["decide"].p50 > 0


def test_a_curve_is_shown_whole_in_80_columns_each_row_with_its_budget(
    figures: ProtocolFigures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finllm.app.bench.protocol.bench_protocol", lambda *_: figures)
    ran = CliRunner().invoke(app, ["bench", "protocol"], env={"COLUMNS": "80"})
    lines = ran.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    shown = [line.split() for line in lines]
    for point in figures.curve:
        budget = "-" if point.budget is None else f"{point.budget:.0%}"
        p_value = "-" if point.p_value is None else f"{point.p_value:.1e}"
        figure = [f"{share:.1%}" for share in (point.call_share, point.token_share)]
        whole = [budget, *point.policy.split(), *figure]
        assert any(row[: len(whole)] == whole and row[-1] == p_value for row in shown)
    said = " ".join(" ".join(lines[-2:]).split())
    for name in ("gate", "cascade"):
        (point,) = (p for p in figures.curve if (p.policy, p.budget) == (name, MAIN))
        assert f"the {name} {point.gain_share:.1%} and {point.oracle_share:.1%}" in said


def test_an_edge_beside_the_slow_path_is_held_against_one_alone(figures: ProtocolFigures) -> None:
    beside = figures.edge_beside
    assert beside is not None
    (pair,) = beside.pairs
    assert beside.ratio_p50 == pytest.approx(pair.beside_us.p50 / pair.alone_us.p50, abs=1e-3)
    assert (beside.alone_us.p99, beside.beside_us.p99) == (pair.alone_us.p99, pair.beside_us.p99)
    assert list(beside.load_per_s) == ["documents", "questions", "traces"]
    assert set(figures.quiet) == {"before", "after"}


def test_a_slow_path_reads_asks_and_explains_until_it_is_to_stand_still(tmp_path: Path) -> None:
    with LoadProcess(SlowPath(folder=tmp_path, settings=HASHING)) as path:
        before = path.done
        time.sleep(0.2)
        assert path.done == before
        path.go()
        ends = time.monotonic() + 240
        while not all(n > before[kind] for kind, n in path.done.items()):
            assert time.monotonic() < ends
            time.sleep(0.05)
        path.stand()
        after = path.done
        time.sleep(0.2)
        assert path.done == after


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_load_does_not_outlive_who_started_it(tmp_path: Path) -> None:
    started = subprocess.Popen(
        [sys.executable, "-c", STARTS_A_LOAD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with started:
        assert started.stdout is not None
        load = Path("/proc", started.stdout.readline().strip(), "stat")
        assert load.exists()
        started.kill()
    ends = time.monotonic() + 240
    while load.exists() and load.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_a_slow_path_has_one_life_after_another_each_with_a_ledger_of_its_own(
    tmp_path: Path,
) -> None:
    load = SlowPath(folder=tmp_path, settings=HASHING, most=40)
    done = list(itertools.takewhile(lambda _: not (tmp_path / "ledger-2").exists(), load.work()))
    assert done.count("documents") == 80
    one, two = (list(part) for part in np.array_split(done, 2))
    assert one == two
    assert "traces" in one
    assert [kept.name for kept in tmp_path.iterdir()] == ["ledger-2"]


def test_a_curve_can_be_drawn(figures: ProtocolFigures, tmp_path: Path) -> None:
    plot(figures, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


@pytest.mark.parametrize("bench", ["protocol", "edge"])
def test_a_picture_that_cannot_be_drawn_stops_a_bench_before_it_measures(
    bench: str, tmp_path: Path
) -> None:
    for out in (tmp_path, tmp_path / "none" / "curve.png"):
        ran = CliRunner().invoke(app, ["bench", bench, "--plot", str(out)])
        assert isinstance(ran.exception, InputError)


def test_an_unknown_reasoner_is_named() -> None:
    with pytest.raises(InputError, match="no reasoner"):
        mind_named("delphi")


@pytest.mark.parametrize(
    "seeds",
    [(-1,), (2**64,), (811, 811), (WARM_SEED,)],
    ids=["below 0", "too large", "twice", "warm"],
)
def test_worlds_that_are_none_or_do_not_count_are_refused(seeds: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="--seeds"):
        bench_protocol(Plan(seeds=seeds, days=1), lambda _: None)


@pytest.mark.parametrize("seed", ["-1", str(2**64)])
def test_a_dry_run_over_a_world_that_is_none_is_refused(seed: str) -> None:
    ran = CliRunner().invoke(app, ["route", "--dry-run", "--seed", seed])
    assert isinstance(ran.exception, InputError)


TIERS = tuple(mind.name for mind in MINDS)


def routed(limit: int, **gate: Any) -> Route:
    return route_world(1, Settings(escalation=GateSettings(**gate)), limit)


def test_a_dry_run_over_a_known_world_climbs_from_tier_to_tier_up_to_the_first_hold() -> None:
    found = routed(40, learn=True)
    assert found.tiers == TIERS
    assert found.escalated + found.held == len(found.questions)
    climbs: dict[str, list[Routed]] = {}
    for one in found.questions:
        climbs.setdefault(one.notice_id, []).append(one)
    assert len(climbs) == 40
    for climb in climbs.values():
        assert tuple(one.tier for one in climb) == TIERS[: len(climb)]
        assert all(one.escalates and one.deadline > one.ts for one in climb[:-1])
        assert len(climb) == len(TIERS) or not climb[-1].escalates
        assert all(one.reason for one in climb)


def test_each_tier_of_a_known_world_spends_its_share_of_what_is_put_to_its_own_gate() -> None:
    found = routed(400, learn=True, call_share=0.25)
    put = Counter(one.tier for one in found.questions)
    asked = Counter(one.tier for one in found.questions if one.escalates)
    below = "embedded"
    for tier in TIERS[1:]:
        assert put[tier] == asked[below]
        assert 0 < asked[tier] <= 0.25 * put[tier] + 1  # a gate begins with credit for one
        below = tier


def test_a_learnt_estimate_begins_at_eighty_times_what_is_set_by_hand_less_the_price() -> None:
    by_hand, learnt = routed(1).questions, routed(1, learn=True).questions
    assert [one.is_learnt for one in by_hand] == [False] * 3
    assert [one.is_learnt for one in learnt] == [False, True, True]
    for hand, all_in, mind in zip(by_hand[1:], learnt[1:], MINDS[1:], strict=True):
        assert all_in.expected_gain == pytest.approx(80.0 * hand.expected_gain - mind.usd)


def test_a_known_world_leaves_what_gates_have_learnt_of_others_alone(tmp_path: Path) -> None:
    state = tmp_path / "gate.state"
    state.write_bytes(b"nonsense")
    assert routed(5, learn=True, state=str(state)) == routed(5, learn=True)
    assert state.read_bytes() == b"nonsense"


def test_a_dry_run_prints_by_hand_and_learnt_nats_apart_and_what_each_tier_is_asked() -> None:
    ran = CliRunner().invoke(app, ["route", "--dry-run", "--learn", "--limit", "1"])
    *lines, last = ran.stdout.splitlines()
    assert " nats counted once; ask embedded " in lines[0]
    assert all(" nats in all; " in line for line in lines[1:])
    assert len(lines) > 1
    assert last.startswith("known world 1: ")
    assert all(f"{tier} 1" in last for tier in TIERS)
