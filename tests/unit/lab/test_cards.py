"""The form of the lab's records."""

from pathlib import Path

import msgspec
import pytest

from finllm.narrative.trust import credibility
from finllm.reasoning import conflict, fusion
from finllm_lab import reasoner
from finllm_lab.cards import write_record
from finllm_lab.conflicts.fit import ConflictCard
from finllm_lab.credibility.fit import CredibilityCard


@pytest.mark.parametrize(
    ("weights", "name", "kind"),
    [
        (credibility.SHIPPED, "credibility.card.json", CredibilityCard),
        (conflict.SHIPPED, "conflict.card.json", ConflictCard),
        (fusion.SHIPPED, reasoner.CARD, reasoner.Card),
    ],
)
def test_a_card_that_ships_is_written_again_byte_for_byte(
    weights: Path, name: str, kind: type, tmp_path: Path
) -> None:
    shipped = (weights.parent / name).read_bytes()
    card = msgspec.json.decode(shipped, type=kind)
    write_record(tmp_path / name, card)
    assert (tmp_path / name).read_bytes() == shipped
