"""Faults on the way from a venue: each is flagged before the next forecast; sound tapes have none."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from fault_walk import Walk, count, walk
from finllm.domain.market import Flag, Frame
from finllm.market.faults import LOSES, Fault, Injector

BREAKS = LOSES | {Fault.REORDER, Fault.ROLL_OVER}
"""After these the numbers do not link."""


@pytest.fixture(scope="module")
def harmed(synthetic: Path) -> Walk:
    return walk(sorted(synthetic.glob("frames-*"))[:1], every_s=2.0)


def test_every_kind_of_fault_is_put_in(harmed: Walk) -> None:
    assert set(count(harmed)) == {str(fault) for fault in Fault} - {str(Fault.DISCONNECT)}


def test_a_valid_row_is_the_true_book_whatever_went_wrong(harmed: Walk) -> None:
    assert harmed.compared > 300
    assert harmed.wrong == []


def test_every_fault_that_breaks_the_numbering_is_a_gap(harmed: Walk) -> None:
    breaks = [one for one in harmed.faults if one.fault in BREAKS]
    for one in breaks:
        assert any(one.ts <= gap.ts_recv <= one.ts + 9_000_000_000 for gap in harmed.gaps), one
    assert harmed.unusable_at_end == 0


def test_the_first_row_after_a_stall_says_so(harmed: Walk) -> None:
    stalls = [i for i, one in enumerate(harmed.faults) if one.fault is Fault.STALL]
    assert stalls
    for i in stalls:
        assert harmed.first_after[i] & (Flag.STALE | Flag.RESYNCING)


def test_what_does_no_harm_is_dropped_or_noted(harmed: Walk) -> None:
    faults = count(harmed)
    assert harmed.dropped["old_diff"] >= faults["duplicate"]
    assert harmed.dropped["bad_json"] >= faults["truncate"]
    assert harmed.noted["clock_leap"] >= faults["clock_jump"]


def test_a_sound_tape_has_no_gap_and_no_flag(synthetic: Path) -> None:
    whole = walk(sorted(synthetic.glob("frames-*"))[:1])
    assert whole.gaps == []
    assert "clock_leap" not in whole.noted
    assert whole.false_flags == 0
    assert whole.wrong == []
    assert whole.compared > 300


def test_where_a_recording_lacks_diffs_no_book_is_given_out_until_its_next_snapshot() -> None:
    def frame(body: dict[str, object]) -> Frame:
        return Frame(1_000, msgspec.json.encode({"data": body}), 0)

    def diff(first: int, last: int, before: int, bids: list[list[str]]) -> Frame:
        numbers = {"U": first, "u": last, "pu": before, "E": 1, "T": 1}
        return frame({"e": "depthUpdate", "s": "A", **numbers, "b": bids, "a": []})

    def whole(last: int, price: str) -> Frame:
        sides = {"bids": [[price, "1"]], "asks": [["9", "1"]]}
        return frame({"lastUpdateId": last, "symbol": "A", "E": 1, "T": 1, **sides})

    injector = Injector(np.random.default_rng(0))
    for one in (whole(10, "5"), diff(11, 12, 10, [["6", "1"]])):
        injector.push(one)
    assert b'"6.0"' in (injector.snapshot(0, "A", 1) or b"")
    injector.push(diff(20, 21, 19, [["4", "2"]]))  # 13 to 19, which took 6 away, are not there
    assert injector.snapshot(0, "A", 1) is None
    injector.push(whole(19, "5"))
    body = injector.snapshot(0, "A", 1)
    assert body is not None
    assert b'"6.0"' not in body
    assert b'"4.0"' in body  # what came before the snapshot and is newer counts
