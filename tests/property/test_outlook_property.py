"""Opinions merged: by the evidence that they rest on, whichever came first, and nothing twice."""

import math

from hypothesis import given
from hypothesis import strategies as st

from finllm.domain.identity import content_id
from finllm.domain.outlook import (
    Opinions,
    covers,
    joined,
    outlook_of,
    restated,
    unexpired,
    without,
)
from finllm.domain.protocol import Opinion, Reach, Share

S = 1_000_000_000
NOW = 1_000 * S
REACHES = (
    Reach(up_to_ns=60 * S, max_shift=1.0, max_log_scale=0.7),
    Reach(up_to_ns=3_600 * S, max_shift=0.1, max_log_scale=0.4),
)
NAMES = "abcdef"
"""Origins; the evidence of each is its name with a number."""


def opinion(
    shares: tuple[Share, ...], *, as_of: int, since: int | None = None, half_life_s: float = 10.0
) -> Opinion:
    """An opinion; where nothing else is said, on a pack that held its own evidence alone."""
    return Opinion(
        opinion_id=content_id(shares, as_of, since, half_life_s),
        since=as_of if since is None else since,
        as_of=as_of,
        ts=as_of + S,
        half_life_ns=int(half_life_s * S),
        expires=NOW + 40 * S,
        reaches=REACHES,
        shares=shares,
    )


def share(name: str, shift: float = 0.2, log_scale: float = 0.1, ts: int = NOW - 50 * S) -> Share:
    return Share(
        evidence_id=name,
        origin=name[0],
        ts_recv=ts,
        shift=(shift, shift / 10),
        log_scale=(log_scale, log_scale),
    )


moves = st.floats(-0.6, 0.6, allow_subnormal=False)


@st.composite
def opinions(draw: st.DrawFn) -> Opinion:
    """An opinion on a pack of the last ten seconds; some of its evidence is older than that."""
    as_of = NOW - draw(st.integers(2, 20)) * S
    names = sorted(draw(st.sets(st.sampled_from(NAMES))))
    return opinion(
        tuple(
            share(f"{name}{number}", draw(moves), draw(moves), as_of - draw(st.integers(0, 20)) * S)
            for name in names
            for number in range(draw(st.integers(1, 2)))
        ),
        as_of=as_of,
        since=as_of - 10 * S,
        half_life_s=draw(st.sampled_from([5.0, 10.0, 40.0])),
    )


several = st.lists(opinions(), max_size=4).map(lambda made: joined((), tuple(made)))
taken = st.dictionaries(
    st.sampled_from([f"{name}{number}" for name in NAMES for number in range(2)]),
    st.integers(NOW - 20 * S, NOW),
    max_size=4,
)

taken_now = st.sets(st.sampled_from([f"{name}{n}" for name in NAMES for n in range(2)])).map(
    lambda names: dict.fromkeys(sorted(names), NOW)
)


def effect(held: Opinions) -> list[tuple[float, float]]:
    found = outlook_of("test:A", held, now=NOW, version=1)
    return [found.at(horizon * S, NOW) for horizon in (1, 60, 600, 3_600, 4_000)]


@given(several, several)
def test_it_makes_no_difference_which_came_first(one: Opinions, other: Opinions) -> None:
    assert joined(one, other) == joined(other, one)


@given(several, several, several)
def test_nor_in_which_order_several_are_merged(a: Opinions, b: Opinions, c: Opinions) -> None:
    assert joined(joined(a, b), c) == joined(a, joined(b, c))


@given(several, several)
def test_what_comes_twice_counts_once(one: Opinions, other: Opinions) -> None:
    both = joined(one, other)
    assert joined(both, one) == both
    assert joined(both, both) == both


@given(several)
def test_what_a_later_pack_held_or_could_have_held_counts_by_it_alone(held: Opinions) -> None:
    for number, one in enumerate(held):
        assert not any(covers(later, s) for later in held[:number] for s in one.shares)
    names = {s.origin for one in held for s in one.shares}
    assert len(names) == sum(len({s.origin for s in one.shares}) for one in held)


@given(several, st.sets(st.sampled_from(NAMES), min_size=1))
def test_an_older_reading_of_the_same_evidence_adds_nothing(
    held: Opinions, names: set[str]
) -> None:
    both = tuple(share(name + "0") for name in sorted(names))
    later = joined(held, (opinion(both, as_of=NOW),))
    older = opinion(tuple(share(name + "1") for name in sorted(names)), as_of=NOW - 100 * S)
    assert effect(joined(later, (older,))) == effect(later)


@given(several)
def test_an_answer_that_has_read_all_that_stands_is_what_stands(held: Opinions) -> None:
    latest = opinion((share("a0", 0.3), share("b0", -0.1)), as_of=NOW, since=NOW - 60 * S)
    assert [o for o in joined(held, (latest,)) if o.shares] == [latest]


@given(several, several, taken)
def test_what_is_taken_back_stays_out_whenever_its_answer_comes(
    one: Opinions, other: Opinions, gone: dict[str, int]
) -> None:
    at_once = joined(without(one, gone), without(other, gone))
    assert without(joined(one, other), gone) == at_once
    held = {s.evidence_id: o.as_of for o in at_once for s in o.shares}
    assert not any(gone.get(name, -1) >= as_of for name, as_of in held.items())


@given(several.filter(len), taken_now, taken_now)
def test_what_two_places_have_each_taken_back_is_out_for_both(
    held: Opinions, here: dict[str, int], there: dict[str, int]
) -> None:
    one, other = without(held, here), without(held, there)
    both = without(without(held, here), there)
    assert joined(one, other) == joined(other, one) == both
    assert joined(joined(one, other), held) == both


@given(several)
def test_together_they_are_bounded_as_one_is(held: Opinions) -> None:
    for (shift, k), reach in zip(effect(held), [0, 0, 1, 1], strict=False):
        assert abs(shift) <= REACHES[reach].max_shift
        assert abs(math.log(k)) <= REACHES[reach].max_log_scale + 1e-12
    assert effect(held)[-1] == (0.0, 1.0)


@given(moves, moves, st.integers(0, 30), st.integers(0, 30))
def test_other_evidence_adds_to_what_the_first_has_left(
    first: float, second: float, one_s: int, other_s: int
) -> None:
    old = opinion((share("a0", first, 0.0),), as_of=NOW - one_s * S)
    new = opinion((share("b0", second, 0.0),), as_of=NOW - other_s * S)
    (one, *_), (other, *_), (both, *_) = (
        effect((old,)),
        effect((new,)),
        effect(joined((old,), (new,))),
    )
    most = REACHES[0].max_shift
    assert abs(both[0] - min(most, max(-most, one[0] + other[0]))) < 1e-12


def test_alike_half_lives_fade_on_exactly_and_others_as_fast_as_their_sum_does_at_first() -> None:
    parts = (
        opinion((share("a0", 0.3, 0.0),), as_of=NOW - 9 * S),
        opinion((share("b0", 0.2, 0.0),), as_of=NOW - 3 * S),
    )
    both = outlook_of("test:A", joined(parts[:1], parts[1:]), now=NOW, version=1)
    for later_s in (0, 5, 17):
        alone = [outlook_of("test:A", (p,), now=NOW, version=1) for p in parts]
        wanted = sum(one.at(S, NOW + later_s * S)[0] for one in alone)
        assert abs(both.at(S, NOW + later_s * S)[0] - wanted) < 1e-12
    slow = opinion((share("c0", 0.1, 0.0),), as_of=NOW - 2 * S, half_life_s=40.0)
    mixed = outlook_of("test:A", joined(parts, (slow,)), now=NOW, version=1)
    left = [outlook_of("test:A", (p,), now=NOW, version=1) for p in (*parts, slow)]
    slope = sum(o.bands[0].shift / o.half_life_ns for o in left)
    assert abs(mixed.bands[0].shift / mixed.half_life_ns / slope - 1.0) < 1e-9


@given(several)
def test_a_new_version_only_where_something_else_is_said(held: Opinions) -> None:
    first = restated(None, held, instrument="test:A", now=NOW)
    assert first.version == int(any(one.shares for one in held))
    again = restated(first, joined(held, held), instrument="test:A", now=NOW + S)
    assert again == first
    over = restated(first, held, instrument="test:A", now=NOW + 40 * S)
    assert (over.version, over.opinions) == (first.version, unexpired(held, NOW + 40 * S))
