"""Whatever is changed in one place of a trace, or of what it rests on, is found, whoever gave the verdict."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from finllm.app.explaining import Explainer
from finllm.app.records import Explained, explained_revisions, prove
from finllm.app.settings import Settings
from support.asked import FALSE, asking_one, asking_several
from support.replays import Replayed, inputs_of, replayed_into
from support.tampering import KINDS, Tamper

pytestmark = pytest.mark.timeout(300)
TRIES = 4
MOST_TURNS = 400
ASKED: dict[str, Callable[[ExitStack], Settings]] = {
    "llm": asking_one,
    "ensemble": asking_several,
}


@pytest.fixture(scope="module")
def told(replayed: Replayed) -> list[Explained]:
    return list(explained_revisions(replayed.run))


@pytest.fixture(scope="module", params=ASKED)
def told_by_others(
    request: pytest.FixtureRequest, synthetic: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Explained]:
    with ExitStack() as stack:
        settings = ASKED[request.param](stack)
        run = replayed_into(
            tmp_path_factory.mktemp("asked") / "run", inputs_of(synthetic), settings
        )
    found = list(explained_revisions(run.run))
    assert {one.verdict.reasoner.partition(":")[0] for one in found} == {request.param}
    return found


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
    assert tampered_in_vain(tamper, told, explainer) == TRIES


def test_what_others_say_is_proved_and_none_of_their_false_words_is_left(
    told_by_others: list[Explained], explainer: Explainer
) -> None:
    for one in told_by_others:
        assert prove(one, explainer) == []
        assert not any(said.struck for said in one.trace.statements)
        assert "lead, and the market has not followed" in one.verdict.conflict
        assert not any(sentence in one.verdict.conflict for sentence in FALSE)


def test_a_change_in_one_place_of_what_others_say_is_found(
    told_by_others: list[Explained], explainer: Explainer
) -> None:
    found = {tamper: tampered_in_vain(tamper, told_by_others, explainer) for tamper in KINDS}
    assert [tamper.__name__ for tamper, n in found.items() if not n] == []


def tampered_in_vain(tamper: Tamper, told: list[Explained], explainer: Explainer) -> int:
    """Change records in one place until that was found so many times, or there is no such place."""
    rng = np.random.default_rng([*tamper.__name__.encode()])
    tried = 0
    for _ in range(MOST_TURNS):
        changed = tamper(told[int(rng.integers(len(told)))], rng)
        if changed is not None:
            tried += 1
            assert prove(changed, explainer), tamper.__name__
        if tried == TRIES:
            break
    return tried
