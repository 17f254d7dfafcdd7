"""Laws of the hypotheses and of the driver."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finllm.domain.errors import ArtifactError
from finllm.domain.identity import canonical
from finllm.reasoning.conflict import TESTS, distance, load_conflict, mixed, options, weigh
from finllm.reasoning.embedded import EmbeddedReasoner

Make = Callable[..., Any]
S = 1_000_000_000
NOW = 1_000 * 86_400 * S
REASONER = EmbeddedReasoner()
WEIGHTS = load_conflict()
MOVES_S = (2, 5, 10, 20, 30, 60)
QUIET = {
    **dict.fromkeys(("obi_10", "obi_1", "depth_slope_skew", "depletion_10s", "rv_10s"), 0.0),
    **dict.fromkeys(("rv_60s", "event_rate_2s", "sigma", "spread_rel", "obi_10_lately"), 0.0),
    **dict.fromkeys(("depth_slope_skew_lately", "depth_slope_lately"), 0.0),
}
fast = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def market(make: Make, moves: tuple[float, ...] = (0.0,) * 6, **z: float) -> list[Any]:
    """Return what a book shows: the z-score of each window's move, and of other features."""
    seen = [
        make("observation", f"m{s}", f"move_{s}s", move, window_ns=s * S, value=move, unit="bps")
        for s, move in zip(MOVES_S, moves, strict=True)
    ]
    shown = (QUIET | z).items()
    return [*seen, *(make("observation", name, name, value, value=value) for name, value in shown)]


def named(tested: tuple[Any, ...]) -> dict[str, float]:
    return {one.name: one.probability for one in tested}


def test_without_moves_nothing_is_tested_and_an_empty_pack_has_no_driver(make: Make) -> None:
    assert REASONER.test(make("pack")) == ()
    assert REASONER.test(make("pack", make("claim", "c"))) == ()
    assert REASONER.driver(make("pack"), 10 * S) is None


def test_a_quiet_market_without_words_has_nothing_to_explain(make: Make) -> None:
    pack = make("pack", *market(make))
    tested = REASONER.test(pack)
    assert tested[0].name == "unrelated"
    assert {one.name for one in tested} == set(TESTS)


def test_a_side_that_stays_thin_is_a_drain_and_the_depth_its_driver(make: Make) -> None:
    thin = {"obi_10_lately": -3.0, "depth_slope_skew_lately": -4.0, "depth_slope_lately": -3.0}
    pack = make("pack", *market(make, (-2.0, -3.0, -3.0, -2.0, -2.0, -1.0), **thin))
    assert REASONER.test(pack)[0].name == "hidden liquidity drain"
    driver = REASONER.driver(pack, 10 * S)
    assert driver is not None
    assert driver.source == "market depth"


def test_a_denied_rumour_is_a_false_one_and_the_denial_its_driver(make: Make) -> None:
    said = make("claim", "r", event_type="rumour", ts_recv=NOW - 18 * S, origin="blog")
    denied = make("claim", "d", event_type="denial", ts_recv=NOW, origin="wire", stance=-0.5)
    pack = make("pack", said, denied, *market(make))
    assert REASONER.test(pack)[0].name == "false rumour"
    driver = REASONER.driver(pack, 10 * S)
    assert driver is not None
    assert driver.source == "wire"


def test_a_move_before_a_repeated_story_makes_the_news_late_and_one_after_it_does_not(
    make: Make,
) -> None:
    story = make("claim", "s", n_copies=3, ts_recv=NOW - 5 * S)
    late = make("pack", story, *market(make, (0.0, 0.0, 4.0, 6.0, 5.0, 4.0)))
    early = make("pack", story, *market(make))
    name = "news lags the market"
    assert named(REASONER.test(late))[name] > named(REASONER.test(early))[name]


CLAIMS = st.lists(
    st.tuples(
        st.floats(-1.0, 1.0),
        *[st.floats(0.0, 1.0)] * 3,
        st.sampled_from(["", "other", "rumour", "denial", "hack"]),
        st.integers(0, 9),
        st.integers(0, 90),
    ),
    max_size=5,
)


def claims(make: Make, drawn: list[Any]) -> list[Any]:
    return [
        make(
            "claim",
            f"c{i}",
            stance=a,
            novelty=b,
            credibility=c,
            relevance=d,
            event_type=event,
            n_copies=n,
            ts_recv=NOW - age * S,
        )
        for i, (a, b, c, d, event, n, age) in enumerate(drawn)
    ]


@fast
@given(CLAIMS, st.lists(st.floats(allow_nan=True), min_size=6, max_size=6))
def test_the_probabilities_are_some_and_the_same_each_time(
    make: Make, drawn: list[Any], moves: list[float]
) -> None:
    pack = make("pack", *claims(make, drawn), *market(make, tuple(moves)))
    tested = REASONER.test(pack)
    assert math.isclose(math.fsum(named(tested).values()), 1.0, abs_tol=1e-9)
    assert canonical(tested) == canonical(REASONER.test(pack))
    assert [h.probability for h in tested] == sorted((h.probability for h in tested), reverse=True)


@fast
@given(CLAIMS, st.floats(-9.0, 9.0))
def test_no_text_moves_the_hypotheses_by_more_than_its_share(
    make: Make, drawn: list[Any], move: float
) -> None:
    """Whatever a text says or is read as, what is said of all others stays as it was."""
    seen = market(make, (move,) * 6)
    hostile = make("claim", "h", event_type="denial", n_copies=10**6, stance=1.0)
    before = weigh(options(make("pack", *claims(make, drawn), *seen), WEIGHTS.memory_ns), WEIGHTS)
    pack = make("pack", *claims(make, drawn), hostile, *seen)
    after = weigh(options(pack, WEIGHTS.memory_ns), WEIGHTS)
    own = next(w.mass for w in after if w.option.claim is hostile)
    share = own / sum(w.mass for w in after)
    assert distance(mixed(before), mixed(after)) <= share + 1e-9
    doubted = msgspec.structs.replace(hostile, credibility=0.0)
    pack = make("pack", *claims(make, drawn), doubted, *seen)
    assert mixed(weigh(options(pack, WEIGHTS.memory_ns), WEIGHTS)) == mixed(before)


def test_a_model_of_other_hypotheses_is_refused(tmp_path: Any) -> None:
    other = msgspec.structs.replace(WEIGHTS, tests={"sunspots": {}})
    path = tmp_path / "other.json"
    path.write_bytes(msgspec.json.encode(other))
    with pytest.raises(ArtifactError, match="hypotheses"):
        load_conflict(path)
