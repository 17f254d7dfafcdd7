"""The reasoning bench, on a run that is there already."""

import math

import msgspec
import pytest

from finllm.app.bench.reasoning import Plan, ReasoningFigures, ablate, bench_reasoning
from finllm.app.records import explained_revisions
from finllm.domain.errors import InputError
from finllm.domain.protocol import Citation
from finllm.reasoning.embedded import EmbeddedReasoner
from support.replays import Replayed


@pytest.fixture(scope="module")
def figures(replayed: Replayed) -> ReasoningFigures:
    return bench_reasoning(Plan(run=replayed.run, most=60), lambda _: None)


def test_every_verdict_is_timed_alone_read_and_explained(figures: ReasoningFigures) -> None:
    assert figures.verdicts == figures.verdict_us.n == figures.explained_us.n <= 60
    assert sum(one.verdict_us.n for one in figures.by_pieces) == figures.verdicts
    assert figures.read_and_verdict_us is not None
    assert figures.explained_us.p50 > figures.verdict_us.p50
    assert figures.reasoner.startswith("embedded:")
    assert figures.encoders


def test_the_same_pack_gives_the_same_bytes(figures: ReasoningFigures) -> None:
    assert figures.differing == 0


def test_what_is_cited_moves_a_verdict_more(figures: ReasoningFigures) -> None:
    ablation = figures.ablation
    assert ablation.share >= 0.8
    low, high = ablation.interval
    assert low <= ablation.share <= high
    assert ablation.cases + ablation.nothing_uncited + ablation.nothing_cited >= figures.verdicts


def test_citing_what_does_not_count_fails_the_ablation(replayed: Replayed) -> None:
    """A liar names what no weight knows of as its reason, and what moves it not at all."""
    turned = []
    for one in explained_revisions(replayed.run):
        cited = {citation.evidence_id for citation in one.verdict.citations}
        rest = [e.evidence_id for e in one.pack.evidence if e.evidence_id not in cited]
        citations = tuple(Citation(evidence_id=n, shift=0.1, log_scale=0.0) for n in rest)
        verdict = msgspec.structs.replace(one.verdict, citations=citations)
        turned.append(msgspec.structs.replace(one, verdict=verdict))
    assert ablate(EmbeddedReasoner(), turned).share < 0.2


def test_no_case_has_no_share() -> None:
    assert math.isnan(ablate(EmbeddedReasoner(), []).share)


def test_a_run_without_a_verdict_is_told(replayed_bare: Replayed) -> None:
    with pytest.raises(InputError, match="no applied verdict"):
        bench_reasoning(Plan(run=replayed_bare.run), lambda _: None)
