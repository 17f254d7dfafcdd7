"""The frozen conflicts, and the model that names their driver."""

from finllm_lab.conflicts.planted import DRIVERS, FROZEN, LAW, Conflicts, frozen_hash


def test_the_generator_is_the_one_that_was_frozen() -> None:
    assert frozen_hash() == FROZEN


def test_a_tape_depends_on_its_seed_alone_and_holds_every_driver() -> None:
    tapes = [Conflicts(seed) for seed in range(10)]
    assert tapes[3].episodes == Conflicts(3).episodes
    assert tapes[3].documents == Conflicts(3).documents
    assert {e.driver for tape in tapes for e in tape.episodes} == set(DRIVERS)
    for tape in tapes:
        received = [document.ts_recv for document in tape.documents]
        assert received == sorted(received)
        for episode in tape.episodes:
            assert episode.question in received
            assert 0 < episode.question - episode.start < LAW.episode_s * 1e9
