"""What gates have learnt, kept from one run to the next."""

from pathlib import Path

import msgspec

from finllm.app.settings import Settings, load_settings
from finllm.app.wiring import open_gates
from finllm.escalation.gate import Gate

LLM = """
[reasoning.llm]
base_url = "http://h:1/v1"
model = "m"
"""


def settings(folder: Path, *, more: str = "") -> Settings:
    path = folder / "live.toml"
    path.write_text(f'[escalation]\nlearn = true\nstate = "{folder / "gate.state"}"\n{more}')
    return load_settings(path, {})


def learn(gate: Gate) -> bytes:
    """Let a gate learn something, and return what it has learnt."""
    assert gate.appraiser is not None
    gate.appraiser.reliability.count("m", "first", 10.0, 5.0, 4.0)
    return gate.appraiser.state


def test_a_run_with_fewer_tiers_keeps_what_the_others_have_learnt(tmp_path: Path) -> None:
    with_llm, alone = settings(tmp_path, more=LLM), settings(tmp_path)
    gates = open_gates(with_llm, tmp_path, None)
    learnt = learn(gates.book[1])
    gates.keeper.keep()
    embedded = open_gates(alone, tmp_path, None)
    of_embedded = learn(embedded.book[0])
    embedded.keeper.keep()
    after = open_gates(with_llm, tmp_path, None).book[1].appraiser
    assert after is not None
    assert after.state == learnt
    again = open_gates(alone, tmp_path, None).book[0].appraiser
    assert again is not None
    assert again.state == of_embedded


def test_a_dear_tier_with_a_small_share_is_asked_by_judgement_and_not_by_chance(
    tmp_path: Path,
) -> None:
    tiers = '[[tier]]\nreasoner = "embedded"\n\n[[tier]]\nreasoner = "llm"\nshare = 0.01\n'
    with_llm = settings(tmp_path, more=LLM + tiers)
    gate = with_llm.tiers[1].gate(with_llm.escalation, is_free=False)
    assert 0.0 < gate.explore <= 0.25 * gate.call_share
    usual = msgspec.structs.replace(with_llm.tiers[1], share=0.0)
    assert usual.gate(with_llm.escalation, is_free=False).explore == with_llm.escalation.explore
