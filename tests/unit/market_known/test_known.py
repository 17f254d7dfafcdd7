"""Laws of the known worlds."""

import numpy as np
import pytest

from finllm.domain.tilt import tilt
from finllm.market.known.base import TILT_C
from finllm.market.known.frozen import FROZEN, frozen_hash
from finllm.market.known.law import LAW, MOVED, moved
from finllm.market.known.minds import MINDS, Seeing
from finllm.market.known.world import Day, make_day, profile, whole_bps
from finllm.market.known.worth import Truth, divergence, expected_gain, normal_cdf, tilted, truth_of


@pytest.fixture(scope="module")
def day() -> Day:
    return make_day(LAW, 3, 0)


@pytest.fixture(scope="module")
def truth(day: Day) -> Truth:
    return truth_of(day)


def test_the_worlds_are_as_they_were_frozen() -> None:
    assert frozen_hash() == FROZEN


def test_a_day_is_a_function_of_its_seed_and_number_alone(day: Day) -> None:
    make_day(LAW, 4, 1)
    again = make_day(LAW, 3, 0)
    assert again.plan == day.plan
    assert (again.returns == day.returns).all()


def test_documents_come_in_order_of_receipt_and_never_before_they_are_published(day: Day) -> None:
    received = [told.document.ts_recv for told in day.plan.told]
    assert received == sorted(received)
    assert all(t.document.ts_published <= t.document.ts_recv for t in day.plan.told)


def test_a_whole_move_is_its_size_once_it_has_had_its_time(day: Day) -> None:
    n_whole = 0
    for story in day.plan.stories:
        first, share = profile(story, day.start)
        ended = first + len(share) < day.drift.shape[1]
        if story.size and story.onset > day.start and ended and story.half_life_ns < 300 * 10**9:
            n_whole += 1
            assert share.sum() == pytest.approx(1.0, abs=0.01)
            assert np.sign(whole_bps(story, day.start, day.usual)) == np.sign(story.size)
    assert n_whole > 20


def test_the_tilt_on_arrays_is_the_domains() -> None:
    p = np.array([[0.3, 0.4, 0.3], [0.1, 0.2, 0.7]])
    got = tilted(p, np.array([0.4, -1.0]), np.array([0.3, -0.2]))
    for row, s, k, want in zip(p, (0.4, -1.0), (0.3, -0.2), got, strict=True):
        one, q = row.tolist(), [-2.0, -1.0, 0.0, 1.0, 2.0]
        tilt(one, q, s, float(np.exp(k)), TILT_C)
        assert one == pytest.approx(want.tolist(), abs=1e-12)


def test_the_truth_gains_what_it_claims_and_nothing_gains_more(truth: Truth) -> None:
    p = truth.p[0, 1, 100:200]
    p = np.maximum(p, 1e-6) / np.maximum(p, 1e-6).sum(axis=1, keepdims=True)
    base = truth.base.p[0, 1, 100:200]
    best = expected_gain(p, p, base)
    assert best == pytest.approx(divergence(p, base))
    assert (best >= expected_gain(p, 0.5 * p + 0.5 * base, base) - 1e-12).all()


def test_what_is_expected_is_what_happens_on_average() -> None:
    expected = happened = n = 0.0
    for number in range(4):
        truth = truth_of(make_day(LAW, 5, number))
        is_open = truth.label >= 0
        p, label = truth.base.p[is_open], truth.label[is_open]
        expected -= float((truth.p[is_open] * np.log(p)).sum())
        happened -= float(np.log(p[np.arange(len(p)), label]).sum())
        n += len(p)
    assert happened / n == pytest.approx(expected / n, abs=0.005)


def test_news_that_nobody_has_published_is_no_part_of_the_truth(day: Day, truth: Truth) -> None:
    story = next(s for s in day.plan.stories if s.kind == "surprise" and abs(s.size) > 2.0
                 and day.start + 10**13 < s.ts < day.start + 7 * 10**13)  # fmt: skip
    published = day.step(story.ts) + 1
    lean = np.log(truth.p[story.instrument, 2, :, 2] / truth.p[story.instrument, 2, :, 0])
    before, after = lean[published - 2], lean[published + 6]
    assert (after - before) * np.sign(story.size) > 0.3


def test_a_mind_knows_nothing_before_it_is_told_and_says_the_same_twice(
    day: Day, truth: Truth
) -> None:
    at = day.start + 5 * 3600 * 10**9
    one, two = (Seeing([MINDS[2]], day, truth.base, 0) for _ in range(2))
    assert not one.answer(0, at).shift.any()
    for seeing in (one, two):
        seeing.read(0, at, 0)
    assert one.answer(0, at).shift.any()
    assert (one.answer(0, at).shift == two.answer(0, at).shift).all()
    assert not one.answer(0, day.start).shift.any()


@pytest.mark.parametrize("name", MOVED)
def test_a_law_can_be_moved_either_way(name: str) -> None:
    for factor in (0.5, 1.5):
        changed = moved(name, factor)
        assert getattr(changed, name) != getattr(LAW, name)
        make_day(changed, 1, 0)


def test_the_normal_law_is_right_to_a_millionth() -> None:
    from math import erf, sqrt

    x = np.linspace(-5.0, 5.0, 201)
    right = [0.5 * (1.0 + erf(each / sqrt(2.0))) for each in x]
    assert normal_cdf(x) == pytest.approx(right, abs=1e-6)
