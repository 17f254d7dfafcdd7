"""The aligned space and what it explains."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from finllm.domain.errors import ArtifactError, InputError
from finllm.domain.evidence import Evidence, EvidenceKind
from finllm.narrative.alignment.anomalies import AFTER, BEFORE, N_CHANNELS, Anomaly, AnomalyDetector
from finllm.narrative.alignment.explanations import Explainer, Move, moves_of
from finllm.narrative.alignment.space import (
    BOOK_ONLY,
    KINDS,
    LAG_EDGES,
    N_AXES,
    N_LAGS,
    N_MARKET,
    N_TEXT_EXTRAS,
    SHIPPED,
    AlignedSpace,
    figures,
    file_names,
    fit,
    lag_bin,
    load_space,
    market_features,
    text_features,
)
from finllm.narrative.reading.claims import EVENT_TYPES
from finllm.narrative.reading.encoder import HASHING_DIM, Embedding, HashingEncoder
from finllm.narrative.reading.minilm import graph_name

BEAT = 60_000_000_000
KEY = "us-equity:NWAV"


class Foreign:
    """An encoder that no space was learnt for."""

    name = "foreign/1"
    dim = 3
    knows_until = ""

    def embed(self, text: str) -> Embedding:
        return np.full(3, len(text), dtype=np.float32)


@pytest.fixture(scope="module")
def space() -> AlignedSpace:
    return load_space(HashingEncoder.name)


def claim(text: str, ts: int, number: int = 0, **said: object) -> Evidence:
    given = {
        "evidence_id": f"e{number}",
        "kind": EvidenceKind.CLAIM,
        "instrument": KEY,
        "ts_recv": ts,
        "origin": "wire",
        "document_id": f"d{number}",
        "quote": text,
        "relevance": 0.8,
        "event_type": "earnings",
        "novelty": 1.0,
        **said,
    }
    return Evidence(**given)  # type: ignore[arg-type]


def market(jump: float, n: int = 140, at: int = 100) -> tuple[AnomalyDetector, Move]:
    """Return a market with one jump on heavy volume, and its move."""
    values = np.random.default_rng(5).normal(0.0, 1.0, (n, N_CHANNELS)).clip(-3.0, 3.0)
    values[at, 0] += jump
    values[at : at + 4, 1] += 4.0
    values[at : at + 4, 5] += 9.0
    detector = AnomalyDetector(KEY)
    found: list[Anomaly] = []
    for i, row in enumerate(values):
        found += detector.push(i * BEAT, (i + 1) * BEAT, row)
    return detector, moves_of(found)[0]


GOOD = "Northwave beats estimates as quarterly profit rises 45%"
BAD = "Northwave misses estimates as quarterly profit falls 45%"


@pytest.mark.parametrize("encoder", [HashingEncoder.name, graph_name()])
def test_the_weights_that_ship_are_small_and_name_what_they_are(encoder: str) -> None:
    card = load_space(encoder).card
    assert card.encoder == encoder
    assert card.licence.startswith("synthetic")
    assert card.scores["space.recall_5"] > card.scores["words.recall_5"]
    assert (SHIPPED / file_names(encoder)[1]).stat().st_size < 300_000


def test_every_kind_with_a_trace_is_one_that_texts_are_read_for() -> None:
    assert set(KINDS) <= set(EVENT_TYPES)


def test_a_text_is_spread_over_what_news_may_be_and_a_window_is_held_against_chance(
    space: AlignedSpace,
) -> None:
    texts = space.texts(
        [text_features(claim(text, 0), HashingEncoder().embed(text)) for text in (GOOD, BAD)]
    )
    assert texts.shape == (2, N_AXES)
    assert texts.sum(axis=1) == pytest.approx(1.0)
    detector, move = market(25.0)
    window = space.market(detector.window(move.ts_start), move.ts_start)
    assert window[:-1].mean() == pytest.approx(1.0)
    # What tells of any event alike fits any window as well as by chance.
    anything = np.append(np.full(N_AXES - 1, 1.0 / (N_AXES - 1)), 0.0)
    assert fit(anything[None], window) == pytest.approx(0.0, abs=1e-9)
    good, bad = fit(texts, window)
    assert good > bad


def test_of_a_window_without_a_book_the_direction_alone_is_believed(space: AlignedSpace) -> None:
    detector, move = market(25.0)
    window = detector.window(move.ts_start)
    window[:, BOOK_ONLY] = np.nan
    axes = space.market(window, move.ts_start)[:-1].reshape(len(KINDS), 2, 3)
    assert np.ptp(axes, axis=(0, 2)) == pytest.approx(0.0)
    assert axes[0, 1, 0] > 1.0 > axes[0, 0, 0]


def test_candidates_that_are_alike_share_the_chance_that_one_would_have(
    space: AlignedSpace,
) -> None:
    alone, none = space.probabilities(np.array([2.0]))
    shared, none_of_five = space.probabilities(np.full(5, 2.0))
    assert shared.sum() == pytest.approx(alone.sum())
    assert none_of_five == pytest.approx(none)


def test_the_fit_of_a_text_hangs_on_no_other_text(space: AlignedSpace) -> None:
    rng = np.random.default_rng(8)
    texts, window = rng.random((50, N_AXES)), rng.random(N_AXES)
    assert all(fit(texts[: i + 1], window)[i] == fit(texts, window)[i] for i in range(50))


def test_a_space_refuses_the_vectors_of_another_encoder(space: AlignedSpace) -> None:
    detector, _ = market(20.0)
    with pytest.raises(InputError, match="foreign/1"):
        Explainer(space, Foreign(), detector)
    with pytest.raises(ArtifactError, match="no usable space"):
        load_space("foreign/1")


def test_weights_that_are_not_the_cards_or_a_card_of_another_encoder_are_refused(
    tmp_path: Path,
) -> None:
    card_name, weights_name = file_names(HashingEncoder.name)
    for name in (card_name, weights_name):
        shutil.copy(SHIPPED / name, tmp_path / name)
    packed = bytearray((tmp_path / weights_name).read_bytes())
    packed[-1] ^= 1
    (tmp_path / weights_name).write_bytes(packed)
    with pytest.raises(ArtifactError):
        load_space(HashingEncoder.name, tmp_path)
    other_card, other_weights = file_names("foreign/1")
    shutil.copy(SHIPPED / card_name, tmp_path / other_card)
    shutil.copy(SHIPPED / weights_name, tmp_path / other_weights)
    with pytest.raises(ArtifactError, match="learnt with hashing/1"):
        load_space("foreign/1", tmp_path)


def test_figures_are_read_whatever_their_unit() -> None:
    assert figures("up 12.5% and 3 percent, $1,200 million") == (12.5, 1_200.0)
    assert figures("loses $2.5bn, 40 basis points") == (40.0, 2_500.0)
    assert figures("nothing stated in 2015") == (0.0, 0.0)


def test_features_have_their_shape_and_are_finite_even_of_an_empty_window() -> None:
    said = text_features(claim(GOOD, 0), HashingEncoder().embed(GOOD))
    assert said.shape == (HASHING_DIM + N_TEXT_EXTRAS,)
    empty = market_features(np.full((BEFORE + AFTER, N_CHANNELS), np.nan), 0)
    assert empty.shape == (N_MARKET,)
    assert np.isfinite(empty).all()


def test_every_lag_within_reach_has_a_bin() -> None:
    lags = np.linspace(LAG_EDGES[0], LAG_EDGES[-1] - 1e-9, 300)
    bins = [lag_bin(float(lag)) for lag in lags]
    assert bins == sorted(bins)
    assert set(bins) == set(range(N_LAGS))


def test_the_news_that_fits_the_move_leads_and_its_opposite_does_not(space: AlignedSpace) -> None:
    ts = 99 * BEAT + BEAT // 2
    for jump, right in ((25.0, GOOD), (-25.0, BAD)):
        detector, move = market(jump)
        claims = [
            claim(GOOD, ts, 1, stance=0.8),
            claim(BAD, ts, 2, stance=-0.8),
            claim("Northwave opens a new office", ts, 3, event_type="other"),
        ]
        answer = Explainer(space, HashingEncoder(), detector).look_back(move, claims, least_p=0.0)
        leading = next(c for c in claims if c.evidence_id == answer.explanations[0].evidence_id)
        assert leading.quote == right
        total = sum(one.p for one in answer.explanations) + answer.p_nothing
        assert total == pytest.approx(1.0, abs=1e-3)


def test_the_lag_is_signed_and_the_market_may_lead(space: AlignedSpace) -> None:
    detector, move = market(25.0)
    early = claim(GOOD, 98 * BEAT, 1)
    late = claim(GOOD, 103 * BEAT, 2)
    other = claim(GOOD, 98 * BEAT, 3, instrument="us-equity:AAPL")
    old = claim(GOOD, 10 * BEAT, 4)
    answer = Explainer(space, HashingEncoder(), detector).look_back(
        move, [early, late, other, old], least_p=0.0
    )
    lags = {one.document_id: one.lag_ns for one in answer.explanations}
    assert lags == {"d1": 3 * BEAT, "d2": -2 * BEAT}
    assert answer.n_candidates == 2


def test_where_nothing_is_near_nothing_is_named(space: AlignedSpace) -> None:
    detector, move = market(25.0)
    answer = Explainer(space, HashingEncoder(), detector).look_back(move, [claim(GOOD, 0)])
    assert answer.explanations == ()
    assert answer.p_nothing == 1.0


def test_a_document_that_tells_nothing_is_refused_rather_than_guessed(space: AlignedSpace) -> None:
    detector, move = market(25.0)
    idle = claim("Five charts on Northwave since spring", 85 * BEAT, event_type="other")
    answer = Explainer(space, HashingEncoder(), detector).look_back(move, [idle], least_p=0.5)
    assert answer.explanations == ()
    assert answer.p_nothing > 0.5


def test_what_is_asked_as_of_an_instant_is_the_same_whatever_came_later(
    space: AlignedSpace,
) -> None:
    early = [claim(GOOD, 99 * BEAT, 1), claim(BAD, 100 * BEAT, 2)]
    late = [claim(GOOD, 104 * BEAT + 1, 3), claim(BAD, 106 * BEAT, 4)]
    as_of = 104 * BEAT
    detector, move = market(25.0, n=104)
    then = Explainer(space, HashingEncoder(), detector).so_far(move, early, as_of, least_p=0.0)
    detector, move = market(25.0, n=140)
    explainer = Explainer(space, HashingEncoder(), detector)
    now = explainer.so_far(move, early + late, as_of, least_p=0.0)
    assert msgspec.json.encode(now) == msgspec.json.encode(then)
    # Looking back does know what came later: that is why the two are apart.
    assert explainer.look_back(move, early + late, least_p=0.0).n_candidates == 4


def test_a_move_cannot_be_asked_about_before_it_was_known(space: AlignedSpace) -> None:
    detector, move = market(25.0)
    explainer = Explainer(space, HashingEncoder(), detector)
    with pytest.raises(InputError, match="was known"):
        explainer.so_far(move, [claim(GOOD, 99 * BEAT)], as_of=move.ts_recv - 1)
