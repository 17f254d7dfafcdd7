"""Laws of the windows: what enters is summed once, what leaves is subtracted once."""

import numpy as np
import pytest

from finllm.features.windows import WIDTH, clear, lay_out, rows_of, slide

LENGTHS = (3, 10, 40)
ADDED = 0
AT = 1


@pytest.fixture
def state():
    state = np.zeros((AT + rows_of(LENGTHS), WIDTH), np.int64)
    lay_out(state, AT, LENGTHS)
    return state


def add(state, slot, amount):
    state[ADDED] = 0
    state[ADDED, 1:] = amount
    slide(state, AT, slot, ADDED)


def test_each_window_holds_its_slots_and_no_others(state):
    rng = np.random.default_rng(3)
    events, slot = [], 10_000
    for _ in range(1_000):
        slot += int(
            rng.choice([0, 0, 1, 2, 7, 39, 40, 41, 200], p=[0.4, 0.2, 0.2, 0.1, *[0.02] * 5])
        )
        events.append((slot, int(rng.integers(-100, 100))))
        add(state, *events[-1])
        if len(events) % 5:
            continue
        for j, length in enumerate(LENGTHS):
            total = sum(amount for at, amount in events[-120:] if at > slot - length)
            assert (state[AT + 1 + j, 1:] == total).all()


def test_a_slot_leaves_a_window_exactly_when_it_is_as_old_as_the_window_is_long(state):
    add(state, 100, 5)
    add(state, 102, 0)
    assert state[AT + 1, 1] == 5
    add(state, 103, 0)
    assert state[AT + 1, 1] == 0
    assert state[AT + 2, 1] == 5


def test_a_burst_takes_one_row_a_slot_and_loses_nothing(state):
    for _ in range(10_000):
        add(state, 77, 1)
    assert [state[AT + 1 + j, 1] for j in range(3)] == [10_000] * 3
    assert state[AT, 0] == 1


def test_a_cleared_ring_is_as_new(state):
    for slot in range(100):
        add(state, slot, 3)
    clear(state, AT)
    add(state, 200, 4)
    assert [state[AT + 1 + j, 1] for j in range(3)] == [4] * 3
