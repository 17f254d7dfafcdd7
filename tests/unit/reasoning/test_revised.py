"""Laws of the revision rule."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from finllm.domain.forecast import Cost, Status
from finllm.domain.protocol import Action
from finllm.domain.revise import revised, tilted
from finllm.reasoning.scripted import ScriptedReasoner

Make = Callable[..., Any]
NOW = 1_000 * 86_400 * 10**9


def verdict_on(
    make: Make, forecast: Any, action: Action, shift: float = 0.3, k: float = 1.2
) -> Any:
    pack = make("pack", make("claim", "a"))
    double = ScriptedReasoner.steady(action, shift, k)
    return double.judge(make("question", forecast), (forecast,), pack, NOW, 1).verdicts[0]


def carrying_an_outlook(make: Make) -> Any:
    plain = make("forecast")
    p, q = tilted(plain, -0.2, 1.5)
    return msgspec.structs.replace(plain, emitted=p, emitted_q=q, outlook_version=4)


def test_refine_tilts_the_base_and_replaces_the_outlook(make: Make) -> None:
    before = carrying_an_outlook(make)
    after = revised(before, verdict_on(make, before, Action.REFINE), NOW)
    p, q = tilted(make("forecast"), 0.3, 1.2)
    assert after.emitted == pytest.approx(p, abs=1e-12)
    assert after.emitted_q == pytest.approx(q, abs=1e-12)
    assert (after.base, after.base_q) == (before.base, before.base_q)
    assert after.outlook_version == 0
    assert after.status is Status.REFINED


def test_refining_twice_counts_nothing_twice(make: Make) -> None:
    before = make("forecast")
    once = revised(before, verdict_on(make, before, Action.REFINE), NOW)
    twice = revised(once, verdict_on(make, once, Action.REFINE), NOW + 1)
    assert (twice.emitted, twice.emitted_q) == (once.emitted, once.emitted_q)
    assert (twice.version, twice.base_version) == (3, 2)


def test_confirm_keeps_what_is_emitted(make: Make) -> None:
    before = carrying_an_outlook(make)
    after = revised(before, verdict_on(make, before, Action.CONFIRM), NOW)
    assert (after.emitted, after.emitted_q) == (before.emitted, before.emitted_q)
    assert (after.outlook_version, after.status) == (4, Status.CONFIRMED)


def test_retract_emits_the_climatology_that_was_known_at_issue(make: Make) -> None:
    before = carrying_an_outlook(make)
    after = revised(before, verdict_on(make, before, Action.RETRACT), NOW)
    assert after.emitted == before.reference.climatology
    assert after.emitted_q == before.reference.climatology_q
    assert (after.outlook_version, after.status) == (0, Status.RETRACTED)


def test_retract_without_a_reference_emits_the_base(make: Make) -> None:
    before = msgspec.structs.replace(carrying_an_outlook(make), reference=None)
    after = revised(before, verdict_on(make, before, Action.RETRACT), NOW)
    assert (after.emitted, after.emitted_q) == (before.base, before.base_q)


@pytest.mark.parametrize("action", list(Action))
def test_a_revision_changes_nothing_else(make: Make, action: Action) -> None:
    before = carrying_an_outlook(make)
    after = revised(before, verdict_on(make, before, action), NOW)
    may_change = {
        "version",
        "base_version",
        "ts_emit",
        "emitted",
        "emitted_q",
        "outlook_version",
        "status",
        "cost",
    }
    for field in set(before.__struct_fields__) - may_change:
        assert getattr(after, field) == getattr(before, field)
    assert (after.version, after.base_version, after.ts_emit) == (2, 1, NOW)


def test_costs_add_up(make: Make) -> None:
    before = msgspec.structs.replace(
        make("forecast"), cost=Cost(tokens=5, energy_j=1.0, method="meter")
    )
    verdict = verdict_on(make, before, Action.REFINE)
    free = revised(before, verdict, NOW)
    assert free.cost == before.cost
    dear = msgspec.structs.replace(verdict, cost=Cost(tokens=7, energy_j=0.5, method="model"))
    assert revised(before, dear, NOW).cost == Cost(tokens=12, energy_j=1.5, method="model")
