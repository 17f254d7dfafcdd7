"""A gate that learns is replayed to the same bytes: what it learnt comes from the records alone."""

from pathlib import Path

import msgspec
import pytest

from finllm.app.routed import route_run
from finllm.app.settings import Settings, load_settings
from support.replays import Replayed, inputs_of, replayed_into


def learning(chunk: int = 512, workers: int = 0) -> Settings:
    settings = load_settings(None, {"FINLLM_ESCALATION__LEARN": "true"})
    return msgspec.structs.replace(
        settings,
        escalation=msgspec.structs.replace(settings.escalation, call_share=0.6, explore=0.1),
        edge=msgspec.structs.replace(settings.edge, chunk=chunk, workers=workers),
    )


@pytest.fixture(scope="module")
def learnt(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    return replayed_into(
        tmp_path_factory.mktemp("learnt") / "run", inputs_of(synthetic), learning()
    )


@pytest.mark.parametrize(("chunk", "workers"), [(1, 0), (64, 2)])
def test_a_gate_that_learns_gives_the_same_digest_however_it_is_run(
    synthetic: Path, tmp_path: Path, learnt: Replayed, chunk: int, workers: int
) -> None:
    again = replayed_into(tmp_path / "run", inputs_of(synthetic), learning(chunk, workers))
    assert again.summary.digest == learnt.summary.digest


def test_learning_changes_what_is_asked(learnt: Replayed, replayed: Replayed) -> None:
    assert learnt.summary.escalated > 0
    assert learnt.summary.held > 0
    assert learnt.summary.digest != replayed.summary.digest


def test_a_dry_run_says_what_the_gate_would_do_and_why(learnt: Replayed) -> None:
    found = route_run(Path(learnt.summary.run), learning(), 1_000)
    assert found.learns
    assert found.escalated + found.held == learnt.summary.escalated + learnt.summary.held
    asked = [one for one in found.questions if one.escalates]
    assert asked
    assert all(one.tier == "embedded" and one.deadline > one.ts for one in asked)
    assert all(one.reason for one in found.questions)


def test_a_dry_run_by_hand_says_what_the_run_itself_decided(replayed: Replayed) -> None:
    found = route_run(Path(replayed.summary.run), load_settings(None, {}), 1_000)
    assert (found.escalated, found.held) == (replayed.summary.escalated, replayed.summary.held)
