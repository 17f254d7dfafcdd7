"""Laws of free words: a number, quote or address in them is borne out, or it is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finllm.domain.evidence import Evidence, EvidenceKind
from finllm.domain.free_words import Stated, stated_by, unproven

CLAIM = Evidence(
    evidence_id="c1",
    kind=EvidenceKind.CLAIM,
    instrument="test:A",
    ts_recv=0,
    origin="wire",
    quote="The Fed holds rates.",
    stance=0.31,
    novelty=0.9,
    credibility=0.62,
    relevance=1.0,
)
DEPTH = Evidence(
    evidence_id="o1",
    kind=EvidenceKind.OBSERVATION,
    instrument="test:A",
    ts_recv=0,
    origin="market",
    feature="move_5",
    value=3.204,
    unit="bps",
    z_score=-1.52,
)
STATED = [*stated_by(CLAIM), *stated_by(DEPTH)]
QUOTES = [CLAIM.quote]


def found(text: str) -> list[str]:
    return unproven(text, STATED, QUOTES, [DEPTH.feature])


@pytest.mark.parametrize(
    "text",
    [
        "The text leads the market.",
        "The firm's and the traders' view isn't clear.",
        "Stance 0.31 at a credibility of 0.62, while novelty is 0.90.",
        "z -1.5, z-score: -1.52; z_score = -1.52",
        "move_5 is 3.20 bps; move_5 leans up",
        'The wire says "holds rates", \u201cThe Fed holds rates.\u201d',
        "Tension tends to often weigh on them, e.g. in the U.S., none of it phoney.",
    ],
)
def test_what_is_borne_out_is_left(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "Losses of $1 bn and 0 revenue.",
        "Rates fall by 1%.",
        "It lost 0.62 today.",
        "Credibility 0.31.",
        "Credibility 1.",
        "stance 0.3",
        "z 1.52",
        "stance 0.31 %",
        "stance 0.31bn",
        "stance 0.31 points",
        "credibility $0.62",
        "relevance 1.00,5",
        "move_5 is 3.20 euros",
        "stance 3.1e-1",
        "stance \u0660.31",
        "It rose by \u00bd.",
        "\uff11\uff10 banks failed.",
        "A dozen banks failed.",
        "One bank failed.",
        "A quarter of it fled.",
        "It fell by a third.",
        "Zero is left.",
        "The first default.",
        "It doubled, twice.",
        "Twenty-five of them.",
        "It fell f\u0301ive-fold.",
        "XIV banks failed.",
        "He said 'sell everything now'.",
        "He said \u2018sell everything now\u2019.",
        "He said `sell'.",
        'He said "sell everything".',
        'An odd quote " stands alone.',
        "Visit pump.example now.",
        "Call t.me/pump",
        "Ask me@pump",
        "It fell by \u043f\u044f\u0442\u044c.",
    ],
)
def test_what_is_not_borne_out_is_told(text: str) -> None:
    assert found(text) != []


@pytest.mark.parametrize("name", ["hyperliquid:@107", "test:ONE", "us:BRK.CLASS", "\u5e73:XIV"])
def test_a_name_is_no_word(name: str) -> None:
    assert unproven(f"{name} 10s refined", names=[name, "10s"]) == []
    assert unproven(f"{name} 10s refined at 20s", names=[name, "10s"])
    assert unproven(f"{name} 10s refined", names=["10s"])


@given(st.text(max_size=120))
def test_no_digit_is_left_that_nothing_states(text: str) -> None:
    if any(c.isnumeric() for c in text):
        assert unproven(text)


@given(st.floats(-1.0, 1.0), st.integers(1, 999))
def test_a_figure_is_borne_out_only_as_it_is_displayed(value: float, off: int) -> None:
    stated = [Stated(name="stance", value=value)]
    assert unproven(f"stance {value:+.3f}", stated) == []
    assert unproven(f"stance {value + off / 500.0:+.3f}", stated)
    assert unproven(f"novelty {value:+.3f}", stated)
    assert unproven(f"it is {value:+.3f}", stated)
