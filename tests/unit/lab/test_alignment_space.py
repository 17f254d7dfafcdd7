"""Learning the space that joins news and moves."""

from pathlib import Path

import numpy as np
import pytest

from finllm.narrative.alignment.space import KINDS, N_AXES, N_LAGS, N_OF_A_KIND, load_space
from finllm.narrative.reading.encoder import HashingEncoder
from finllm.narrative.reading.reader import words_only
from finllm_lab.alignment.cases import CaseReader, example, planted_reader
from finllm_lab.alignment.planted import N_WAYS, TRACES
from finllm_lab.alignment.readouts import learn_text, lines, together
from finllm_lab.alignment.train import build_space
from finllm_lab.alignment.weigh import Placed, lag_ratios, without_cause


@pytest.fixture(scope="module")
def reader() -> CaseReader:
    return planted_reader(HashingEncoder(), words_only())


def test_the_kinds_of_the_space_are_those_that_are_planted() -> None:
    assert tuple(TRACES) == KINDS


def test_a_way_of_telling_that_was_kept_back_is_read_far_better_than_by_chance(
    reader: CaseReader,
) -> None:
    ways = [lines(range(6), reader, (way,)) for way in range(N_WAYS)]
    right = []
    for way in range(N_WAYS):
        read = learn_text(together(ways[:way] + ways[way + 1 :]))(ways[way].x)
        kinds = read[:, :-1].reshape(len(read), len(KINDS), N_OF_A_KIND).sum(axis=2)
        found = np.append(kinds, read[:, -1:], axis=1).argmax(axis=1)
        right.append((found == ways[way].kind).mean())
    assert np.mean(right) > 0.6


def test_a_case_without_its_cause_has_none_and_is_otherwise_the_same() -> None:
    one = Placed(
        texts=np.arange(3.0 * N_AXES).reshape(3, N_AXES),
        market=np.ones(N_AXES),
        lags=np.array([1.0, 2.0, 3.0]),
        names=np.zeros(3),
        right=1,
    )
    bereft, whole = without_cause([one, one])
    assert (bereft.right, bereft.lags.tolist()) == (2, [1.0, 3.0])
    assert (bereft.texts == one.texts[[0, 2]]).all()
    assert whole is one


def test_lags_at_which_causes_came_speak_for_them(reader: CaseReader) -> None:
    found = [
        one for seed in range(700, 716) for one in [example(seed, reader, (0,))] if one is not None
    ]
    ratios = np.array(lag_ratios(found))
    assert ratios.shape == (len(KINDS) + 1, N_LAGS)
    assert ratios[-1].argmax() in {3, 4, 5, 6, 7}
    assert ratios[-1, -1] < 0.0


def test_a_space_is_learnt_weighed_scored_and_written_so_that_it_can_be_served(
    tmp_path: Path,
) -> None:
    card, examined = build_space(
        HashingEncoder(),
        tmp_path,
        heads=words_only(),
        n_lines=4,
        n_markets=500,
        n_weigh=12,
        n_score=6,
        score_from=900,
        say=lambda _: None,
    )
    served = load_space(HashingEncoder.name, tmp_path).card
    assert served == card
    assert served.scores["space.recall_5"] == examined.space.recall_5
    assert served.weighing.content > 0.0
