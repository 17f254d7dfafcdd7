"""The inputs that fuzzing kept (see `tests/fuzz`), against the slow books; and what the oracle catches."""

import re
from pathlib import Path

import pytest

from finllm.market import venue_feed
from finllm.market.sequence import Step
from fuzz import oracle, seeds
from fuzz.inputs import read, written

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"


@pytest.fixture(scope="module", autouse=True)
def _warm():
    seeds.warm()


@pytest.mark.parametrize("venue", oracle.NAMES)
def test_kept_inputs_break_no_law(venue):
    outcomes = [oracle.run(venue, read(path.read_bytes())) for path in (CORPUS / venue).iterdir()]
    assert sum(outcome.n_valid for outcome in outcomes) > 0


def test_the_kept_inputs_stay_small():
    assert sum(path.stat().st_size for path in CORPUS.rglob("*.txt")) < 200_000


@pytest.mark.parametrize("venue", oracle.NAMES)
def test_honest_sessions_make_valid_books_that_equal_the_slow_ones(venue):
    sessions = list(seeds.sessions(venue, 12, seed=7))
    assert [read(written(frames)) for frames in sessions] == sessions
    outcomes = [oracle.run(venue, frames) for frames in sessions]
    assert all(outcome.n_valid for outcome in outcomes)
    assert sum(outcome.n_valid for outcome in outcomes) > 4 * len(outcomes)


@pytest.mark.parametrize("venue", ["bybit", "deribit", "normalised"])
def test_a_feed_that_overlooks_a_gap_is_caught(venue, monkeypatch):
    monkeypatch.setattr(venue_feed, "_step", lambda *_: Step.APPLY)
    caught = 0
    for frames in seeds.sessions(venue, 12):
        try:
            oracle.run(venue, frames[:3] + frames[4:])
        except oracle.BrokenLawError as fault:
            caught += fault.law == "a valid book is right"
    assert caught > 1


@pytest.mark.parametrize("venue", ["kraken", "okx"])
def test_a_feed_that_overlooks_a_checksum_is_caught(venue, monkeypatch):
    monkeypatch.setattr(venue_feed.VenueFeed, "_is_confirmed", lambda *_: True)
    caught = 0
    for frames in seeds.sessions(venue, 12):
        wrong = [
            re.sub(rb'("checksum":|"c":")-?\d+', rb"\g<1>12345", told.payload) for told in frames
        ]
        try:
            oracle.run(
                venue,
                [told._replace(payload=text) for told, text in zip(frames, wrong, strict=True)],
            )
        except oracle.BrokenLawError as fault:
            caught += fault.law == "a valid book is right"
    assert caught > 2
