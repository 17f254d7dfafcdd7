"""What ends an outlook: its evidence taken back, news against it, the price, the regime, its time."""

from typing import Any

import msgspec
import pytest

from asking import notice
from finllm.app.standing import StandingOutlook
from finllm.domain.outlook import CROSS_DEVIATIONS, Market, outlook_of
from finllm.domain.protocol import Opinion, Outlook, Reach, Share, Voiding
from finllm.edge.artifact import SHIPPED
from finllm.edge.bank import load_bank
from finllm.edge.serving import OUT_VERSION
from finllm.edge.session import EdgeSession
from finllm.features.book_spec import BOOK_SPEC

S = 1_000_000_000
NOW = 1_000 * S
CALM = Market(mid2=2_000_000, regime=0, sigma_bps=1.0)
EVERYTHING = tuple(Voiding)


@pytest.fixture(scope="module")
def session() -> EdgeSession:
    return EdgeSession(load_bank(SHIPPED["book"], spec=BOOK_SPEC), BOOK_SPEC, "test:A")


@pytest.fixture
def stands(session: EdgeSession) -> StandingOutlook:
    session.adopt(None)
    return StandingOutlook(session)


def said(
    *evidence: str, shift: float = 0.2, as_of: int = NOW, received: int = 9, **changes: Any
) -> Outlook:
    """An answer on a pack of 5 s, with older evidence: its origin is its first letter, each moves as much."""
    opinion = Opinion(
        opinion_id=f"{evidence} {shift} {as_of}",
        since=as_of - 5 * S,
        as_of=as_of,
        ts=as_of + S,
        half_life_ns=16 * S,
        expires=as_of + 41 * S,
        reaches=(Reach(up_to_ns=60 * S, max_shift=1.0, max_log_scale=0.7),),
        shares=tuple(
            Share(
                evidence_id=name,
                origin=name[0],
                ts_recv=as_of - received * S,
                shift=(shift,),
                log_scale=(0.0,),
            )
            for name in evidence
        ),
        voided_by=EVERYTHING,
    )
    opinion = msgspec.structs.replace(opinion, **changes)
    return outlook_of("test:A", (opinion,), now=opinion.ts, version=1)


def hear(
    stands: StandingOutlook, outlook: Outlook, now: int = NOW + S, **taken_back: int
) -> Outlook | None:
    return stands.hear(outlook, CALM, taken_back, now)


def shift_of(outlook: Outlook | None) -> float:
    assert outlook is not None
    return outlook.at(10 * S, outlook.ts)[0]


def test_what_is_taken_back_is_gone_from_the_next_row_on(
    stands: StandingOutlook, session: EdgeSession
) -> None:
    assert shift_of(hear(stands, said("a", "b"))) == pytest.approx(0.4)
    left = stands.take_back({"a": NOW + 2 * S}, "condemned", NOW + 2 * S)
    assert left is not None
    assert (left.version, left.reason, left.evidence_ids) == (2, "condemned", ("b",))
    assert shift_of(left) == pytest.approx(0.2 * 2 ** (-1 / 16))
    assert session.parameters[OUT_VERSION] == 2
    nothing = stands.take_back({"b": NOW + 3 * S}, "condemned", NOW + 3 * S)
    assert shift_of(nothing) == 0.0
    assert stands.take_back({"b": NOW + 4 * S}, "condemned", NOW + 4 * S) is None


def test_an_answer_that_was_on_its_way_does_not_bring_it_back(stands: StandingOutlook) -> None:
    hear(stands, said("a"))
    stands.take_back({"a": NOW + 2 * S}, "quarantined", NOW + 2 * S)
    late = hear(stands, said("a", "b", as_of=NOW + S), NOW + 3 * S, a=NOW + 2 * S)
    assert late is not None
    assert late.evidence_ids == ("b",)
    again = hear(stands, said("a", "b", as_of=NOW + 4 * S), NOW + 5 * S)
    assert again is not None
    assert again.evidence_ids == ("a", "b"), "released, and read anew"


def test_an_overtaken_answer_adds_what_the_later_one_has_not_read(stands: StandingOutlook) -> None:
    hear(stands, said("a", shift=0.1, as_of=NOW + S), NOW + 2 * S)
    known = said("b", shift=0.3, received=1)
    assert hear(stands, known, NOW + 2 * S) is None, "the later pack could have held it"
    both = hear(stands, said("a", "b", shift=0.3), NOW + 2 * S)
    assert shift_of(both) == pytest.approx(0.1 + 0.3 * 2 ** (-1 / 16))
    assert hear(stands, said("a", "b", shift=0.3), NOW + 3 * S) is None, "it comes twice"


@pytest.mark.parametrize(
    ("changes", "ends"),
    [
        ({}, True),
        ({"stance": 0.9}, False),
        ({"stance": -0.1}, False),
        ({"credibility": 0.3}, False),
    ],
)
def test_credible_news_against_it_ends_it(
    stands: StandingOutlook, changes: dict[str, float], ends: bool
) -> None:
    hear(stands, said("a"))
    news = notice(**{"stance": -0.5, "credibility": 0.8} | changes)
    ended = stands.contradict(news, NOW + 2 * S)
    assert (ended is not None) is ends
    if ended is not None:
        assert (ended.reason, shift_of(ended)) == (Voiding.CONTRARY_EVIDENCE, 0.0)
        assert hear(stands, said("b", as_of=NOW + S), NOW + 3 * S) is None, "formed before the news"
        assert hear(stands, said("b", as_of=NOW + 2 * S), NOW + 3 * S) is not None


@pytest.mark.parametrize("shift", [0.2, -0.2])
@pytest.mark.parametrize(("share", "ends"), [(-1.01, True), (-0.99, False), (1.01, False)])
def test_the_price_ends_it_by_going_far_enough_against_it(
    stands: StandingOutlook, shift: float, share: float, ends: bool
) -> None:
    """Its half-life is 16 s and the deviation 1 bps per root second: 4 bps a deviation."""
    hear(stands, said("a", shift=shift))
    way_bps = share * CROSS_DEVIATIONS * 4.0 * (1.0 if shift > 0 else -1.0)
    crossed = msgspec.structs.replace(CALM, mid2=round(CALM.mid2 * (1.0 + way_bps / 1e4)))
    assert stands.watch(CALM, NOW + 2 * S) is None
    ended = stands.watch(crossed, NOW + 3 * S)
    assert (ended is not None) is ends
    if ended is not None:
        assert (ended.reason, shift_of(ended)) == (Voiding.PRICE_CROSS, 0.0)


def test_another_regime_ends_it(stands: StandingOutlook) -> None:
    hear(stands, said("a"))
    ended = stands.watch(msgspec.structs.replace(CALM, regime=2), NOW + 2 * S)
    assert ended is not None
    assert (ended.reason, shift_of(ended)) == (Voiding.REGIME_CHANGE, 0.0)


def test_its_time_ends_a_part_by_a_new_version_and_the_whole_without_one(
    stands: StandingOutlook,
) -> None:
    hear(stands, said("a"))
    hear(stands, said("b", as_of=NOW + 10 * S), NOW + 11 * S)
    assert stands.watch(CALM, NOW + 40 * S) is None
    left = stands.watch(CALM, NOW + 41 * S)
    assert left is not None
    assert (left.reason, left.evidence_ids) == (Voiding.TIME, ("b",))
    assert stands.watch(CALM, NOW + 51 * S) is None
    assert not stands.is_due(NOW + 1_000 * S)


def test_what_it_does_not_name_does_not_end_it(stands: StandingOutlook) -> None:
    hear(stands, said("a", voided_by=()))
    elsewhere = Market(mid2=1_000_000, regime=2, sigma_bps=1.0)
    assert stands.watch(elsewhere, NOW + 2 * S) is None
    assert stands.contradict(notice(stance=-0.9), NOW + 3 * S) is None


def test_what_it_says_of_horizons_that_are_not_served_is_no_lean(stands: StandingOutlook) -> None:
    """A book serves up to 30 s: here nothing is said of those but a volatility."""
    reaches = (
        Reach(up_to_ns=40 * S, max_shift=1.0, max_log_scale=0.7),
        Reach(up_to_ns=9_000 * S, max_shift=1.0, max_log_scale=0.7),
    )
    share = Share(evidence_id="a", origin="a", ts_recv=NOW, shift=(0.0, 0.5), log_scale=(0.3, 0.0))
    assert hear(stands, said("a", reaches=reaches, shares=(share,))) is not None
    assert stands.contradict(notice(stance=-0.9), NOW + 2 * S) is None
    assert stands.watch(msgspec.structs.replace(CALM, mid2=1_000_000), NOW + 3 * S) is None


def test_a_row_that_is_not_good_ends_nothing(stands: StandingOutlook) -> None:
    hear(stands, said("a"))
    assert stands.watch(None, NOW + 2 * S) is None
