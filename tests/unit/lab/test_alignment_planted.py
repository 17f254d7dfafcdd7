"""The frozen test of planted causes."""

import numpy as np

from finllm.narrative.alignment.anomalies import AnomalyDetector
from finllm_lab.alignment import phrases
from finllm_lab.alignment.baselines import describe, lexical, nearness, rank_of
from finllm_lab.alignment.planted import (
    BEAT_NS,
    FROZEN,
    INSTRUMENTS,
    N_CANDIDATES,
    N_WAYS,
    OTHERS,
    TRACES,
    frozen_hash,
    moved,
    plant,
    tell_each,
)


def test_the_generator_is_the_one_that_was_frozen() -> None:
    assert frozen_hash() == FROZEN


def test_a_case_holds_one_cause_among_a_hundred_and_depends_on_its_seed_alone() -> None:
    case = plant(77, 1)
    assert len(case.documents) == N_CANDIDATES
    assert {why: case.why.count(why) for why in {*case.why}} == {**OTHERS, "cause": 1}
    assert plant(77, 1) == case
    assert plant(78, 1) != case
    received = [one.ts_recv for one in case.documents]
    assert received == sorted(received)


def test_the_halves_share_no_sentence() -> None:
    trained = {text for halves in phrases.TOLD.values() for text in halves[0]} | {*phrases.NOISE[0]}
    unseen = {text for halves in phrases.TOLD.values() for text in halves[1]} | {*phrases.NOISE[1]}
    assert not trained & unseen
    assert len(trained) == len(unseen)


def test_neither_words_nor_time_alone_find_the_cause() -> None:
    names = dict(INSTRUMENTS)
    ranks: dict[str, list[float]] = {"words": [], "time": []}
    for seed in range(900, 916):
        case = plant(seed, 1)
        detector = AnomalyDetector(case.instrument)
        found = [
            anomaly
            for start, values in zip(case.starts, case.channels, strict=True)
            for anomaly in detector.push(start, start + BEAT_NS, values)
            if 0 <= start - case.onset < 8 * BEAT_NS
        ]
        right = case.why.index("cause")
        received = [one.ts_recv for one in case.documents]
        query = describe(found, names[case.instrument]) if found else ""
        ranks["words"].append(rank_of(lexical(query, [d.text for d in case.documents]), right))
        ranks["time"].append(rank_of(nearness(case.onset, received, BEAT_NS), right))
    assert all(np.mean(np.array(one) <= 5.0) <= 0.5 for one in ranks.values())


def test_a_market_to_learn_from_is_that_of_the_case_with_its_seed() -> None:
    case, bare = plant(31, 0), moved(31)
    assert (bare.values, bare.starts, bare.kind, bare.is_good, bare.size) == (
        case.values,
        case.starts,
        case.kind,
        case.is_good,
        case.size,
    )
    assert not bare.documents


def test_every_way_of_telling_every_event_is_told_once_and_as_much_tells_of_nothing() -> None:
    told = [news for way in range(N_WAYS) for _, news in tell_each(3, (way,))]
    kinds = [news.kind for news in told]
    assert {kind: kinds.count(kind) for kind in {*kinds}} == dict.fromkeys((*TRACES, ""), 8)
    goods = [news.is_good for news in told if news.kind]
    assert sum(goods) * 2 == len(goods)
    assert tell_each(3) == tell_each(3)
