"""The narrative room under the attacks that need a stream."""

import pytest

from finllm.app.attack.field import read_field
from finllm.app.attack.streams import campaigns, poisoned
from finllm.narrative.room import NarrativeSettings

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]


def test_a_planted_campaign_is_caught_and_moves_no_forecast() -> None:
    field = read_field(None, settings=NarrativeSettings(), seed=3, size=25, most=200)
    for share in (0.0, 0.15):
        caught, left, moved, _ = campaigns(field, share, least_recall=0.95, tick=lambda: None)
        assert caught.recall >= 0.95
        assert left.recall >= (0.95 if share == 0.0 else 0.6)
        assert caught.false_positives <= 0.01
        assert moved.recall >= 0.95


def test_poisoned_times_reach_no_earlier_pack_and_change_none() -> None:
    field = read_field(None, settings=NarrativeSettings(), seed=3, size=25, most=2_600)
    kept_out, unchanged = poisoned(field, 10_000, tick=lambda: None)
    assert kept_out.n_attacks >= 9_000
    assert kept_out.recall == 1.0
    assert kept_out.false_positives == 0.0
    assert unchanged.n_attacks > 50
    assert unchanged.recall == 1.0
