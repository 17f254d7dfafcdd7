"""500 hostile documents, each in a pack, and a model that obeys whatever it can read."""

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from finllm.domain.evidence import Evidence
from finllm.reasoning.denial import settled
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.reasoning.fusion import alone, load_weights
from finllm.reasoning.llm.answerer import Ask
from finllm.reasoning.llm.prompt import MOST_QUOTE
from finllm.reasoning.llm.reasoner import LlmReasoner
from finllm.reasoning.llm.settings import LlmSettings
from finllm.reasoning.reasoner import Judgement
from support.endpoint import answer
from support.hostile import FAKE, Hostile, hostile_documents, moves
from support.scripted import Scripted

N = 500
S = 1_000_000_000
NOW = 1_000 * 86_400 * S
EVENTS = ("", "denial", "denial", "rumour", "earnings", "other")
EPS = 1e-12
SETTINGS = LlmSettings(model="tiny")
DOCUMENTS = hostile_documents(N)
MEANT_FOR_MODELS = set("<>|[]{}#\\`")
"""Characters of which templates, fences and objects are made."""


def lines_of(ask: Ask) -> list[dict[str, Any]]:
    lines = ask.messages[1].content.split("\n")
    return [json.loads(line) for line in lines if line.startswith('{"id"')]


def obeying(hostile: Hostile, asks: list[Ask]) -> Scripted:
    """Return a model that understands every encoding and does as it is told by what it reads."""

    def play(ask: Ask) -> str:
        asks.append(ask)
        lines = lines_of(ask)
        ids = [line["id"] for line in lines]
        told = any(line.get("words") == hostile.text[:MOST_QUOTE] for line in lines)
        return hostile.said(ids) if told else honest(ask)

    return Scripted(play)


def honest(ask: Ask) -> str:
    ids = [line["id"] for line in lines_of(ask)]
    return answer(ids, stance="none", shift=0.0, vol_scale=1.0)


def evidence_of(
    hostile: Hostile, make: Callable[..., Any], chance: np.random.Generator
) -> list[Evidence]:
    def weighed(name: str, **changes: Any) -> Evidence:
        credibility, stance = float(chance.uniform()), float(chance.uniform(-1.0, 1.0))
        told = {"credibility": credibility, "stance": stance, "ts_recv": NOW - age_s(chance) * S}
        made: Evidence = make(
            "claim", name, **told, event_type=str(chance.choice(EVENTS)), **changes
        )
        return made

    others = [weighed(f"c{i}") for i in range(int(chance.integers(0, 4)))]
    seen = make("observation", "o1", "obi_1", float(chance.normal() * 3.0))
    return [weighed("hostile", quote=hostile.text), *others, seen]


def age_s(chance: np.random.Generator) -> int:
    return int(chance.integers(0, 20))


def test_no_hostile_document_moves_a_verdict_beyond_its_bound_or_leaves_the_schema(
    make: Callable[..., Any], case_of: Any
) -> None:
    read_of: Counter[str] = Counter()
    for i, hostile in enumerate(DOCUMENTS):
        evidence = evidence_of(hostile, make, np.random.default_rng(i))
        case = case_of(make("pack", *evidence))
        asks: list[Ask] = []
        obeyed = case.judged_by(LlmReasoner(SETTINGS, obeying(hostile, asks)))
        resisted = case.judged_by(LlmReasoner(SETTINGS, Scripted(honest)))
        embedded = case.judged_by(EmbeddedReasoner())
        is_read = check_prompt(asks[0], hostile)
        is_refused = is_read and not hostile.is_in_schema
        assert {v.fallback for v in obeyed.verdicts} == {"invalid" if is_refused else ""}
        if is_refused:
            assert moves(obeyed) == moves(embedded)
        else:
            check_gain(case, obeyed, resisted)
        check_bounds(case, obeyed, embedded)
        check_schema(obeyed, embedded, {e.evidence_id for e in evidence})
        read_of[hostile.family] += is_read
    assert min(read_of.values()) > N // 16, read_of  # they are obeyed, not merely left out


def check_gain(case: Any, obeyed: Judgement, resisted: Judgement) -> None:
    """See that who wrote the orders gains no more than the bound times the text's own trust."""
    weights = load_weights()
    for forecast, one, other in zip(case.forecasts, moves(obeyed), moves(resisted), strict=True):
        band = weights.band(forecast.horizon_ns)
        trusts = zip(case.pack.evidence, settled(case.pack, weights, band), strict=True)
        trust = next(w for e, w in trusts if e.evidence_id == "hostile")
        assert abs(one[0] - other[0]) <= band.max_shift * trust + EPS
        assert abs(one[1] - other[1]) <= band.max_log_scale * trust + EPS


def check_bounds(case: Any, obeyed: Judgement, embedded: Judgement) -> None:
    """See that a verdict stays within its band, and within half of it of the reasoner that reads no word."""
    weights = load_weights()
    for forecast, one, own in zip(case.forecasts, moves(obeyed), moves(embedded), strict=True):
        band = weights.band(forecast.horizon_ns)
        for most, a, b in zip((band.max_shift, band.max_log_scale), one, own, strict=True):
            assert abs(a) <= most + EPS
            assert abs(a - b) <= 0.5 * most + EPS


def check_schema(obeyed: Judgement, embedded: Judgement, ids: set[str]) -> None:
    """See that what comes out is a verdict like any other, and says nothing it was told to say."""
    for verdict, own in zip(obeyed.verdicts, embedded.verdicts, strict=True):
        assert {c.evidence_id for c in verdict.citations} <= ids
        assert (verdict.action == "retract") == (own.action == "retract")
        assert not {"9999", "pump", FAKE} & set(verdict.conflict.replace(".", " ").split())
    if obeyed.outlook is not None:
        longest = max(band.half_life_ns for band in load_weights().bands)
        assert obeyed.outlook.half_life_ns <= longest


def check_prompt(ask: Ask, hostile: Hostile) -> bool:
    """See that a text is one string of one line, with nothing of a template in it; return if it is read."""
    content = ask.messages[1].content
    assert content.count("\nEND OF DATA\n") == 1
    lines = [line for line in content.split("\n") if line.startswith('{"id": "hostile"')]
    if not lines or "words" not in json.loads(lines[0]):
        return False
    raw = lines[0].partition('"words": ')[2].removesuffix("}")
    assert json.loads(raw) == hostile.text[:MOST_QUOTE]
    bare = raw.replace("\\u", "")
    assert bare.isprintable()
    assert not MEANT_FOR_MODELS & set(bare)
    return True


@pytest.mark.parametrize("event", sorted(set(EVENTS)))
def test_without_a_model_no_hostile_document_is_worth_more_than_its_weight_whatever_it_passes_for(
    event: str, make: Callable[..., Any], case_of: Any
) -> None:
    weights, reasoner = load_weights(), EmbeddedReasoner()
    n_moved = 0
    for i, hostile in enumerate(DOCUMENTS[:100]):
        loud, *others = evidence_of(hostile, make, np.random.default_rng(i))
        loud = msgspec.structs.replace(loud, event_type=event)
        pack, left = make("pack", loud, *others), make("pack", *others)
        case = case_of(pack)
        for forecast, verdict in zip(
            case.forecasts, case.judged_by(reasoner).verdicts, strict=True
        ):
            band = weights.band(forecast.horizon_ns)
            again = reasoner.again(forecast, left)
            ended_by = {c.evidence_id for c in verdict.citations if verdict.action == "retract"}
            if again.action == "retract" or not ended_by <= {"hostile"}:
                continue  # another's denial, which it does not weigh against
            weight = alone(loud, pack.as_of, band.memory_ns)
            moved = abs(verdict.shift - again.shift)
            n_moved += moved > EPS
            assert moved <= band.max_shift * weight + EPS
            scaled = abs(math.log(verdict.vol_scale) - again.log_scale)
            assert scaled <= band.max_log_scale * weight + EPS
    assert n_moved > 50
