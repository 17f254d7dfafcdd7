"""The best that anyone could do: the exact filter of the law that drew a stream, with its scales known.

The hidden chain is the law's own, stage by stage; what is returned is each row's probability of each
regime given that row and all before it.
"""

import numpy as np
from numpy.typing import NDArray

from finllm.runtime.kernels import kernel
from finllm_lab.regimes.law import Law

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


@kernel
def _filter(seen: Ints, table: Doubles, regime: Ints, chain: Doubles, out: Doubles) -> None:
    m = len(regime)
    belief, moved = np.full(m, 1.0 / m), np.zeros(m)
    for i in range(len(seen)):
        total = 0.0
        for b in range(m):
            mass = 0.0
            for a in range(m):
                mass += belief[a] * chain[a, b]
            moved[b] = mass * table[seen[i], regime[b]]
            total += moved[b]
        out[i] = 0.0
        for b in range(m):
            belief[b] = moved[b] / total
            out[i, regime[b]] += belief[b]


def beliefs(law: Law, seen: Ints) -> Doubles:
    """Return regime probabilities float64 [n, 3] for rows of the law's table, int64 [n]."""
    regime = np.repeat(np.arange(3), law.stages)
    first = np.concatenate([[0], np.cumsum(law.stages)])
    chain = np.zeros((len(regime), len(regime)))
    for k in range(3):
        leave = law.stages[k] / law.dwell[k]
        for s in range(law.stages[k]):
            at = int(first[k]) + s
            chain[at, at] = 1.0 - leave
            if s + 1 < law.stages[k]:
                chain[at, at + 1] = leave
            else:
                for then in range(3):
                    chain[at, first[then]] += leave * law.after[k][then]
    out = np.zeros((len(seen), 3))
    _filter(seen, np.array(law.table), regime, chain, out)
    return out


@kernel
def _confirmed(belief: Doubles, confirm: float, out: Ints) -> None:
    state = -1
    for i in range(len(belief)):
        top = 0
        for k in range(1, 3):
            if belief[i, k] > belief[i, top]:
                top = k
        if state < 0 or belief[i, top] >= confirm:
            state = top
        out[i] = state


def confirmed(belief: Doubles, confirm: float) -> Ints:
    """Return the regime reported at each row, int64 [n]: another one only at `confirm` or more."""
    out = np.zeros(len(belief), dtype=np.int64)
    _confirmed(belief, confirm, out)
    return out
