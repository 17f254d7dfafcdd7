"""Nothing emitted before an instant depends on anything received from it on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from finllm.app.replay import Inputs
from support.poison import VARIANTS, assert_unchanged, before, frames_after, poisoned


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_comes_after_a_cut_changes_nothing_before_it(
    run_inputs: Callable[..., tuple], synthetic: Path, tmp_path: Path, variant: str
) -> None:
    rng = np.random.default_rng(3)
    tapes = tuple(sorted(synthetic.glob("frames-*")))
    _, whole = run_inputs(Inputs(tapes=tapes, documents=synthetic / "documents.jsonl"))
    first, last = whole[0][0], whole[-1][0]
    for i, cut in enumerate(rng.integers(first + (last - first) // 3, last, 3).tolist()):
        inputs = poisoned(synthetic, tmp_path / f"{variant}-{i}", cut, variant, rng)
        _, partial = run_inputs(inputs)
        assert_unchanged(whole, partial, cut)


def test_a_frame_that_claims_another_receive_time_keeps_its_place_on_its_tape(
    run_inputs: Callable[..., tuple], synthetic: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    tape = min(synthetic.glob("frames-*"))
    _, whole = run_inputs(Inputs(tapes=(tape,)))
    cut = (whole[0][0] + whole[-1][0]) // 2
    frames_after(tape, tmp_path / "tape", cut, "misdated_receipt", rng)
    _, partial = run_inputs(Inputs(tapes=(tmp_path / "tape",)))
    assert_unchanged(whole, partial, cut)


def test_a_planted_look_ahead_is_found(run_inputs: Callable[..., tuple], synthetic: Path) -> None:
    """The check can fail: an alteration *before* the cut is seen."""
    tapes = tuple(sorted(synthetic.glob("frames-*")))
    _, whole = run_inputs(Inputs(tapes=tapes))
    cut = (whole[0][0] + whole[-1][0]) // 2
    _, other = run_inputs(Inputs(tapes=tapes[:1]))
    assert before(other, cut) != before(whole, cut)
