"""Nothing emitted before an instant depends on anything received from it on."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from finllm.app.replay import Inputs
from finllm.app.settings import Settings
from finllm.domain.units import NS_PER_S
from support.poison import VARIANTS, assert_unchanged, before, frames_after, poisoned
from support.replays import Emitted, Replayed, replayed_into, tapes_of

CUTS = 2
"""Of each variant; many more are made in the long runs."""
AFTER_NS = 5 * NS_PER_S
"""How far the replay of an altered input goes beyond its cut."""


@pytest.fixture(scope="module")
def one_tape(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Emitted:
    """What is said about the first tape alone."""
    inputs = Inputs(tapes=tapes_of(synthetic)[:1])
    return replayed_into(tmp_path_factory.mktemp("one"), inputs, Settings()).emitted


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_comes_after_a_cut_changes_nothing_before_it(
    run_inputs: Callable[..., tuple],
    synthetic: Path,
    replayed: Replayed,
    tmp_path: Path,
    variant: str,
) -> None:
    rng = np.random.default_rng(3)
    whole = replayed.emitted
    first, last = whole[0][0], whole[-1][0]
    for i, cut in enumerate(rng.integers(first + (last - first) // 3, last, CUTS).tolist()):
        inputs = poisoned(synthetic, tmp_path / f"{variant}-{i}", cut, variant, rng)
        _, partial = run_inputs(msgspec.structs.replace(inputs, until=cut + AFTER_NS))
        assert_unchanged(whole, partial, cut)


def test_a_frame_that_claims_another_receive_time_keeps_its_place_on_its_tape(
    run_inputs: Callable[..., tuple], synthetic: Path, one_tape: Emitted, tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    cut = (one_tape[0][0] + one_tape[-1][0]) // 2
    frames_after(tapes_of(synthetic)[0], tmp_path / "tape", cut, "misdated_receipt", rng)
    _, partial = run_inputs(Inputs(tapes=(tmp_path / "tape",)))
    assert_unchanged(one_tape, partial, cut)


def test_a_planted_look_ahead_is_found(one_tape: Emitted, replayed_bare: Replayed) -> None:
    """The check can fail: an alteration *before* the cut is seen."""
    whole = replayed_bare.emitted
    cut = (whole[0][0] + whole[-1][0]) // 2
    assert before(one_tape, cut) != before(whole, cut)
