"""The newswire: every kind several times, most of it noise, words that tell but not by themselves."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finllm.domain.evidence import Document
from finllm.domain.identity import content_id
from finllm.market.synthetic import (
    OUTLETS,
    SyntheticMarket,
    Truth,
    TruthKind,
    document_line,
    generate,
    phrases,
)
from finllm.market.synthetic.chance import draws, normal, pick, shuffled
from finllm.narrative.sources.documents import read_documents
from finllm.runtime.tally import Tally

TAPE = generate(SyntheticMarket(seed=5, duration_s=3_600.0))
KINDS = (TruthKind.ANNOUNCEMENT, TruthKind.RUMOUR, TruthKind.DENIAL, TruthKind.ECHO)


@pytest.fixture(scope="module")
def documents() -> dict[str, Document]:
    return {each.document_id: each for each in TAPE.documents()}


@pytest.fixture(scope="module")
def truths() -> tuple[Truth, ...]:
    return TAPE.truths


@pytest.mark.parametrize("seed", [1, 2, 7])
def test_every_kind_is_planted_several_times_in_ten_minutes(seed: int) -> None:
    kinds = Counter(each.kind for each in generate(SyntheticMarket(seed=seed)).truths)
    assert all(kinds[kind] >= 3 for kind in TruthKind)
    told = sum(kinds[kind] for kind in KINDS)
    assert kinds[TruthKind.NOISE] > told


def test_each_instrument_has_its_share_of_good_and_bad_news(truths: tuple[Truth, ...]) -> None:
    signs = Counter(
        (each.instrument, each.effect_bps > 0)
        for each in truths
        if each.kind is TruthKind.ANNOUNCEMENT
    )
    assert len(signs) == 4
    assert min(signs.values()) > 0.5 * max(signs.values())


def test_ids_times_and_truths_of_documents_agree(
    documents: dict[str, Document], truths: tuple[Truth, ...]
) -> None:
    assert len({each.document_id for each in TAPE.documents()}) == len(documents)
    told = {each.document_id: each for each in truths if each.document_id}
    for each in documents.values():
        assert each.document_id == content_id(each.source, each.ts_published, each.text)
        assert told[each.document_id].ts == each.ts_published
        assert 0 < each.ts_recv - each.ts_published < 1_000_000_000
        assert each.text.strip() == each.text
        assert "{" not in each.text


def test_echoes_and_denials_come_after_what_they_are_about(
    documents: dict[str, Document], truths: tuple[Truth, ...]
) -> None:
    n_echoes = 0
    for truth in truths:
        if truth.about and truth.document_id in documents:
            assert documents[truth.about].ts_recv < documents[truth.document_id].ts_published
        if truth.kind is TruthKind.ECHO and truth.document_id in documents:
            n_echoes += 1
            original, echo = documents[truth.about], documents[truth.document_id]
            assert echo.source != original.source
            assert truth.effect_bps == 0.0
            shared = set(original.text.lower().split()) & set(echo.text.lower().split())
            assert len(shared) >= 0.5 * len(set(original.text.split()))
    assert n_echoes > 50


def test_false_stories_come_mostly_from_loose_outlets(
    documents: dict[str, Document], truths: tuple[Truth, ...]
) -> None:
    reliability = {outlet.name: outlet.reliability for outlet in OUTLETS}

    def usual(kind: TruthKind) -> float:
        found = [
            reliability[documents[each.document_id].source]
            for each in truths
            if each.kind is kind and each.document_id in documents
        ]
        return sum(found) / len(found)

    assert usual(TruthKind.RUMOUR) < 0.65
    assert usual(TruthKind.ANNOUNCEMENT) > 0.8
    assert usual(TruthKind.DENIAL) > 0.9


def test_there_are_many_ways_to_say_each_thing() -> None:
    for name in ("GOOD", "BAD", "MARKET_GOOD", "MARKET_BAD", "RUMOUR", "DENIAL", "ECHO", "NOISE"):
        templates = getattr(phrases, name)
        assert len(set(templates)) == len(templates) >= 12


def test_the_words_of_news_are_the_words_of_noise_too() -> None:
    noise = set(" ".join(phrases.NOISE + phrases.OFF_TOPIC).lower().split())
    news = Counter(" ".join(phrases.GOOD + phrases.BAD).lower().split())
    assert len(noise & set(news)) >= 30
    for keyword in ("regulator", "withdrawals", "record", "approval", "upgrade", "{n}%"):
        assert keyword in noise
        assert keyword in news


def test_the_newswire_is_read_as_it_was_written(
    tmp_path: Path, documents: dict[str, Document]
) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_bytes(b"".join(document_line(each) for each in documents.values()))
    tally = Tally()
    assert list(read_documents(path, tally=tally)) == list(documents.values())
    assert not tally.dropped


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**63), purpose=st.text(max_size=8), index=st.integers(0, 99))
def test_draws_depend_on_seed_purpose_and_index_alone(seed: int, purpose: str, index: int) -> None:
    one, again = draws(seed, purpose, index), draws(seed, purpose, index)
    numbers = [one() for _ in range(3_000)]
    assert numbers == [again() for _ in range(3_000)]
    assert all(0.0 <= number < 1.0 for number in numbers)
    other = draws(seed, purpose, index + 1)
    assert numbers[:5] != [other() for _ in range(5)]


def test_chance_has_the_moments_it_states() -> None:
    draw = draws(1, "moments")
    numbers = [normal(draw) for _ in range(20_000)]
    mean = sum(numbers) / len(numbers)
    assert abs(mean) < 0.03
    assert abs(sum((each - mean) ** 2 for each in numbers) / len(numbers) - 1.0) < 0.03
    assert max(map(abs, numbers)) <= 3.5
    assert sorted(shuffled(draw, list(range(50)))) == list(range(50))
    assert {pick(draw, (1, 2, 3)) for _ in range(100)} == {1, 2, 3}
