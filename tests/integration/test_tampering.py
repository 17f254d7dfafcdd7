"""Whatever is changed in one place of a trace, or of what it rests on, is found."""

import numpy as np
import pytest

from finllm.app.explaining import Explainer
from finllm.app.records import Explained, explained_revisions, prove
from support.replays import Replayed
from support.tampering import KINDS, Tamper

TRIES = 4


@pytest.fixture(scope="module")
def told(replayed: Replayed) -> list[Explained]:
    return list(explained_revisions(replayed.run))


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer()


def test_untouched_every_trace_is_proved(told: list[Explained], explainer: Explainer) -> None:
    assert told
    assert [prove(one, explainer) for one in told] == [[]] * len(told)


def test_where_the_reasoner_is_not_at_hand_its_fidelity_is_taken_over(
    told: list[Explained],
) -> None:
    others = Explainer(())
    for one in told:
        assert prove(one, others) == []
        assert not others.can_ask(one.verdict.reasoner)
        anew = others.write(one.verdict, one.before, one.before, one.pack, one.texts)
        assert "cannot be asked again" in anew.fidelity.unmeasured


@pytest.mark.parametrize("tamper", KINDS, ids=lambda tamper: tamper.__name__)
def test_a_change_in_one_place_is_found(
    tamper: Tamper, told: list[Explained], explainer: Explainer
) -> None:
    rng = np.random.default_rng([*tamper.__name__.encode()])
    tried = 0
    while tried < TRIES:
        one = told[int(rng.integers(len(told)))]
        changed = tamper(one, rng)
        if changed is not None:
            tried += 1
            assert prove(changed, explainer)
