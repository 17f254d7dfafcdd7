"""The frozen conflicts, and the model that names their driver."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from finllm.domain.errors import InputError
from finllm.narrative.reading.reader import words_only
from finllm.reasoning.conflict import TESTS, load_conflict, mixed, options, weigh
from finllm_lab.conflicts.fit import Parameters, Table, build, fit, probabilities, table
from finllm_lab.conflicts.oracle import beliefs
from finllm_lab.conflicts.packs import Case, cases
from finllm_lab.conflicts.picture import draw
from finllm_lab.conflicts.planted import DRIVERS, FROZEN, LAW, Conflicts, frozen_hash
from finllm_lab.conflicts.score import score_cases


@pytest.fixture(scope="module")
def few() -> list[Case]:
    """Return the cases of a short tape, read by words alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("finllm_lab.conflicts.packs.Conflicts", lambda seed: Conflicts(seed, 4))
        return cases(5001, {"words": words_only()}, ask_oracle=True)


def test_the_generator_is_the_one_that_was_frozen() -> None:
    assert frozen_hash() == FROZEN


def test_a_tape_depends_on_its_seed_alone_and_holds_every_driver() -> None:
    tapes = [Conflicts(seed) for seed in range(10)]
    assert tapes[3].episodes == Conflicts(3).episodes
    assert tapes[3].documents == Conflicts(3).documents
    assert {e.driver for tape in tapes for e in tape.episodes} == set(DRIVERS)
    for tape in tapes:
        received = [document.ts_recv for document in tape.documents]
        assert received == sorted(received)
        for episode in tape.episodes:
            assert episode.question in received
            assert 0 < episode.question - episode.start < LAW.episode_s * 1e9


def test_the_reasoner_tests_the_very_drivers_that_are_planted() -> None:
    assert set(TESTS) == set(DRIVERS)
    assert set(load_conflict().tests) == set(DRIVERS)


def test_a_pack_holds_nothing_from_after_its_question(few: list[Case]) -> None:
    for case in few:
        assert case.pack.as_of == case.episode.question
        assert all(e.ts_recv <= case.episode.question for e in case.pack.evidence)
        assert {"move_2s", "move_60s", "obi_10_lately"} <= {e.feature for e in case.pack.evidence}


def test_the_oracle_knows_a_drain_for_certain_and_says_probabilities() -> None:
    tape = Conflicts(5003, 6)
    assert sum(1 for _ in tape.frames()) > 0
    for episode, belief in zip(tape.episodes, beliefs(tape), strict=True):
        assert abs(belief.sum() - 1.0) < 1e-9
        at = DRIVERS.index("hidden liquidity drain")
        assert belief[at] == float(episode.driver == "hidden liquidity drain")


def test_scoring_counts_every_case_once_for_a_reader(few: list[Case]) -> None:
    found = score_cases(few)
    assert found.n == len(few)
    assert np.sum(found.readers["words"].confusion) == len(few)
    assert 0.0 <= found.readers["words"].top_1.low <= found.readers["words"].top_1.high <= 1.0


def test_a_model_that_is_built_can_be_served_and_needs_tapes_to_leave_out(
    few: list[Case], tmp_path: Path
) -> None:
    apart = [msgspec.structs.replace(case, tape=i) for i, case in enumerate(few)]
    card = build(apart, tmp_path)
    assert set(card.left_out) == {"words"}
    assert load_conflict(tmp_path / card.artifact).name == card.name
    assert build(apart[::-1], tmp_path).generator == FROZEN
    with pytest.raises(InputError, match="left out"):
        build(few, tmp_path)


def test_the_confusion_matrix_is_drawn(few: list[Case], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(score_cases(few), tmp_path / "conflicts.png")
    assert (tmp_path / "conflicts.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_fitted_is_what_is_served(few: list[Case]) -> None:
    """The fit's mixture and the reasoner's give the same probabilities from the same weights."""
    weights = load_conflict()
    data = table(few, weights.memory_ns // 10**9)
    gate = np.array([weights.gate[n] for n in ("rumour", "denial", "event", "copies", "size")])
    tests = np.array([[weights.tests[t].get(n, 0.0) for n in data.names] for t in TESTS])
    fitted = probabilities(data, Parameters(tests=tests, gate=gate, no_text=weights.no_text))
    for row, case in zip(fitted, few, strict=True):
        served = mixed(weigh(options(case.pack, weights.memory_ns), weights))
        assert np.allclose(row, [served[name] for name in TESTS], atol=1e-9)


def test_the_fit_finds_a_test_that_was_planted() -> None:
    rng = np.random.default_rng(3)
    driver = rng.integers(0, 7, 400)
    x = np.eye(7)[driver] + 0.3 * rng.standard_normal((400, 7))
    data = Table(
        names=tuple("abcdefg"),
        x=x,
        gate=np.zeros((400, 5)),
        log_trust=np.zeros(400),
        is_none=np.ones(400),
        first=np.arange(400),
        driver=driver,
        tape=np.arange(400),
    )
    assert (probabilities(data, fit(data, 1.0)).argmax(axis=1) == driver).mean() > 0.9
