"""The best bid and offer over several exchanges, and who was the aggressor: two rules as kernels.

Knows quotes and trades as whole numbers, nothing of files or messages. Shared by the reader of tick
files (`ticks`) and by the workshop, which runs over days of them.

Source: Lee & Ready (1991), "Inferring trade direction from intraday data", for the tick rule.
"""

import numpy as np
from numpy.typing import NDArray

from finllm.runtime.kernels import kernel

Array = NDArray[np.int64]


def new_quotes(n_exchanges: int) -> Array:
    """Return quotes of exchanges none of which has quoted, int64 [1 + n_exchanges, 4].

    Columns are bid price, bid size, ask price, ask size; size 0 = no quote. Row 0 is the best over all.
    """
    return np.zeros((1 + n_exchanges, 4), dtype=np.int64)


@kernel
def take_quote(quotes: Array, n: int, exchange: int, quote: Array) -> bool:
    """Take in one exchange's quote; return whether the best bid or offer, or a size at it, changed.

    The stream has no withdrawals, so a quote that a newer one of the other side has met or passed is
    gone: one that was only passed left the market locked in 82 to 97 % of all rows, which Rule 610 of
    Regulation NMS forbids and no exchange showed. While that leaves a side without any quote (exchanges
    show only their best, and the next one comes in milliseconds) the best known before stands.

    Args:
        quotes: As `new_quotes` made it; changed in place.
        n: Exchanges known.
        exchange: Whose quote it is, from 1.
        quote: int64 [>= 4], bid price, bid size, ask price, ask size; a side counts where both are
            positive.
    """
    for side in range(2):
        price, size, sign = quote[2 * side], quote[2 * side + 1], 1 - 2 * side
        if price > 0 and size > 0:
            quotes[exchange, 2 * side] = price
            quotes[exchange, 2 * side + 1] = size
            other = 2 - 2 * side
            for i in range(1, n + 1):
                if sign * (price - quotes[i, other]) >= 0:
                    quotes[i, other + 1] = 0
    bid, bid_size = _best_of(quotes, n, 0)
    ask, ask_size = _best_of(quotes, n, 1)
    if bid_size == 0 or ask_size == 0:
        return False
    best = quotes[0]
    if best[0] == bid and best[1] == bid_size and best[2] == ask and best[3] == ask_size:
        return False
    best[0], best[1], best[2], best[3] = bid, bid_size, ask, ask_size
    return True


@kernel
def _best_of(quotes: Array, n: int, side: int) -> tuple[int, int]:
    """Return one side's best price and the sum of sizes at it; size 0 = nobody quotes it."""
    column, sign = 2 * side, 1 - 2 * side
    price, size = 0, 0
    for i in range(1, n + 1):
        if quotes[i, column + 1] <= 0:
            continue
        ahead = sign * (quotes[i, column] - price)
        if size == 0 or ahead > 0:
            price, size = quotes[i, column], quotes[i, column + 1]
        elif ahead == 0:
            size += quotes[i, column + 1]
    return price, size


@kernel
def aggressor(last: int, price: int, side: int) -> int:
    """Return who was the aggressor by the tick rule: +1 buyer, -1 seller, 0 while no price has moved.

    Args:
        last: The price of the trade before; 0 = none.
        price: This trade's.
        side: What was returned for the trade before, 0 at first.
    """
    if last in (0, price):
        return side
    return 1 if price > last else -1
