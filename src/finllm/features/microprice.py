"""Stoikov's microprice, learnt while it is served: what the next mid moves are expected to add up to.

The state of the touch is a cell: how lopsided the queues are (five classes of |imbalance|) and how wide
the spread is (1, 2, 3, 4 or more ticks). Bid and ask are mirror images, so one table serves both.

The paper's microprice is mid + g(cell), where g is the limit of G1 + B G1 + B B G1 + ...: G1 the mean
of the next mid move, B the chances of the cell that follows it. That limit is the fixed point of
g(cell) = mean(next move + g(cell after it)), and the fixed point is what is tracked here: at each mid
move every cell seen since the move before it is pulled towards move + g(new cell), in proportion to the
views spent in it. Differences from the paper: its table is estimated once from a whole sample, day by
day, and would peek; this one forgets exponentially, knows only moves already seen, and starts from a
prior of no move.

Layout: `visits` are rows of the state, one per class of spread, views that leaned to the bid less views
that leaned to the ask, then all views; `table` holds the sums of all cells, then their weights.

Source:
    Stoikov (2018), "The micro-price: a high-frequency estimator of future prices", Quantitative Finance.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from finllm.runtime.kernels import kernel

N_SPREADS: Final = 4
N_LEANS: Final = 5
N_CELLS: Final = N_SPREADS * N_LEANS
MEMORY: Final = 0.5 ** (1.0 / 100.0)
"""What a cell keeps of its sums at each mid move that ends a stay in it: half after a hundred."""
PRIOR_VIEWS: Final = 100.0
"""Views in which nothing followed, added to every cell."""
MAX_STEP: Final = 256.0
"""Moves and expectations are cut here, half-ticks."""


@kernel
def cell_of(bid: int, ask: int, spread: int) -> int:
    """Return the cell of two touch queues, in lots and above zero, and a spread in ticks."""
    lean = min(abs(bid - ask) * N_LEANS // (bid + ask), N_LEANS - 1)
    return int((min(max(spread, 1), N_SPREADS) - 1) * N_LEANS + lean)


@kernel
def side_of(bid: int, ask: int) -> int:
    """Return +1 where the bid queue is the longer one, -1 where the ask queue is, else 0."""
    return int(bid > ask) - int(bid < ask)


@kernel
def expected_move(table: NDArray[np.float64], at: int, cell: int) -> float:
    """Return what the mid is expected to add towards the longer queue, half-ticks."""
    g = table[at + cell] / (table[at + N_CELLS + cell] + PRIOR_VIEWS)
    return float(min(max(g, -MAX_STEP), MAX_STEP))


@kernel
def learn_move(
    state: NDArray[np.int64], first: int, table: NDArray[np.float64], at: int, target: float
) -> None:
    """Pull the cells seen since the last move towards what came, and start a new stay.

    Args:
        state: Holds the visits from row `first` on.
        first: First row of the visits.
        table: Holds the sums and weights from `at` on.
        at: Where the table starts.
        target: The move and what is expected after it, half-ticks.
    """
    for spread in range(N_SPREADS):
        row = first + spread
        for lean in range(N_LEANS):
            n = state[row, N_LEANS + lean]
            if n > 0:
                cell = at + spread * N_LEANS + lean
                table[cell] = table[cell] * MEMORY + state[row, lean] * target
                table[cell + N_CELLS] = table[cell + N_CELLS] * MEMORY + n
    forget_stay(state, first)


@kernel
def forget_stay(state: NDArray[np.int64], first: int) -> None:
    """Clear the visits since the last move."""
    for row in range(first, first + N_SPREADS):
        for column in range(2 * N_LEANS):
            state[row, column] = 0


@kernel
def visit(state: NDArray[np.int64], first: int, cell: int, side: int) -> None:
    """Count one view spent in a cell."""
    row = first + cell // N_LEANS
    lean = cell % N_LEANS
    state[row, lean] += side
    state[row, N_LEANS + lean] += 1
