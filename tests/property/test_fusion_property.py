"""No text moves a verdict by more than the bound times its own trust, whatever else is said."""

import math

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from finllm.domain.evidence import Evidence, EvidenceKind, EvidencePack, Reason
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Action, Escalate, Verdict, standing_of
from finllm.reasoning.denial import settled
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.reasoning.fusion import BandWeights, Weights, alone, load_weights, trusts
from finllm.reasoning.reasoner import admissible
from support.forecasts import forecast

S = 1_000_000_000
NOW = 1_000 * 86_400 * S
EPS = 1e-9
UNIT = st.floats(0.0, 1.0) | st.sampled_from([0.001, 0.03, 0.3, 1.0])
STANCE = st.floats(-1.0, 1.0) | st.sampled_from([-1.0, 0.0, 1.0])
EVENTS = ("", "denial", "rumour", "earnings", "other")
TEXTS = st.builds(
    Evidence,
    evidence_id=st.uuids().map(str),
    kind=st.just(EvidenceKind.CLAIM),
    instrument=st.just("test:A"),
    ts_recv=st.integers(0, 60).map(lambda age_s: NOW - age_s * S),
    origin=st.sampled_from(["wire", "blog", "a", "b"]),
    document_id=st.just("d"),
    stance=STANCE,
    novelty=UNIT,
    credibility=UNIT,
    relevance=UNIT,
    event_type=st.sampled_from(EVENTS),
    reasons=st.sampled_from([(), (Reason(name="denied", log_odds=-1.0),)]),
)
SEEN = st.builds(
    Evidence,
    evidence_id=st.uuids().map(str),
    kind=st.just(EvidenceKind.OBSERVATION),
    instrument=st.just("test:A"),
    ts_recv=st.just(NOW),
    origin=st.just("market"),
    feature=st.sampled_from(["obi_1", "sigma"]),
    z_score=st.floats(-5.0, 5.0),
)
PACKS = st.builds(
    EvidencePack,
    pack_id=st.just("p"),
    instrument=st.just("test:A"),
    as_of=st.just(NOW),
    evidence=st.tuples(st.lists(TEXTS, min_size=1, max_size=6), st.lists(SEEN, max_size=2)).map(
        lambda parts: (*parts[0], *parts[1])
    ),
    n_documents=st.just(9),
    n_copies=st.just(0),
    burst=st.floats(0.0, 100.0),
)
SHIPPED = load_weights()
WEIGHT = st.floats(-3.0, 3.0)
ALONG = ("stance", "event:denial", "event:rumour", "event:earnings")
ALL = ("present", "breadth", "burst", "dispersion", "conflict", *ALONG)


@st.composite
def any_weights(draw: st.DrawFn) -> Weights:
    """Return the shipped weights, or others that would break the law if nothing held them back."""
    if draw(st.booleans()):
        return SHIPPED
    bands = [
        msgspec.structs.replace(
            band,
            shift=draw(st.dictionaries(st.sampled_from(ALONG), WEIGHT)),
            scale=draw(st.dictionaries(st.sampled_from(ALL), WEIGHT)),
        )
        for band in SHIPPED.bands
    ]
    return msgspec.structs.replace(SHIPPED, bands=tuple(bands))


def less(pack: EvidencePack, text: Evidence) -> EvidencePack:
    left = tuple(e for e in pack.evidence if e.evidence_id != text.evidence_id)
    return msgspec.structs.replace(pack, evidence=left)


def texts_of(pack: EvidencePack) -> list[Evidence]:
    return [e for e in pack.evidence if e.kind is EvidenceKind.CLAIM]


def judged(weights: Weights, asked: Forecast, pack: EvidencePack) -> Verdict:
    question = Escalate(
        question_id="q",
        instrument="test:A",
        ts=NOW,
        notice_id="n",
        standing=(standing_of(asked),),
        deadline=NOW + 30 * S,
        expected_gain=0.01,
        reason="law",
    )
    return EmbeddedReasoner(weights).judge(question, (asked,), pack, NOW, 1).verdicts[0]


def check(weights: Weights, band: BandWeights, pack: EvidencePack, issued: int) -> None:
    """See that leaving out any text moves a verdict by no more than that.

    Not where it lets another text's denial end what was said, or keeps it from that: then there is no sum.
    """
    asked = forecast(band.up_to_ns / S, issued=issued)
    said = judged(weights, asked, pack)
    ended_by = said.citations[0].evidence_id if said.action is Action.RETRACT else ""
    reasoner = EmbeddedReasoner(weights)
    for text in texts_of(pack):
        left = reasoner.again(asked, less(pack, text))
        if left.action is Action.RETRACT or ended_by not in ("", text.evidence_id):
            continue
        weight = alone(text, NOW, band.memory_ns)
        assert abs(said.shift - left.shift) <= band.max_shift * weight + EPS
        moved = abs(math.log(said.vol_scale) - left.log_scale)
        assert moved <= band.max_log_scale * weight + EPS


@settings(max_examples=300, deadline=None)
@given(any_weights(), PACKS)
def test_no_text_moves_a_verdict_by_more_than_the_bound_times_its_trust(
    weights: Weights, pack: EvidencePack
) -> None:
    for band in weights.bands:
        check(weights, band, pack, issued=NOW)


@settings(max_examples=300, deadline=None)
@given(PACKS)
def test_nor_does_a_denial_by_retracting(pack: EvidencePack) -> None:
    check(SHIPPED, SHIPPED.bands[0], pack, issued=NOW - 120 * S)


@settings(max_examples=300, deadline=None)
@given(PACKS)
def test_a_text_adds_and_takes_no_more_trust_than_it_has(pack: EvidencePack) -> None:
    band = SHIPPED.bands[0]
    for text in texts_of(pack):
        left = less(pack, text)
        for before, after in (
            (
                trusts(left.evidence, NOW, band.memory_ns),
                trusts(pack.evidence, NOW, band.memory_ns),
            ),
            (settled(left, SHIPPED, band), settled(pack, SHIPPED, band)),
        ):
            had = dict(zip([e.evidence_id for e in admissible(left)], before, strict=True))
            has = dict(zip([e.evidence_id for e in admissible(pack)], after, strict=True))
            moved = sum(abs(has[name] - had.get(name, 0.0)) for name in has)
            assert moved <= alone(text, NOW, band.memory_ns) + EPS


@settings(max_examples=100, deadline=None)
@given(PACKS)
def test_nothing_is_trusted_less_than_not_at_all(pack: EvidencePack) -> None:
    for band in SHIPPED.bands:
        assert min(settled(pack, SHIPPED, band)) >= 0.0
