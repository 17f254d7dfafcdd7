"""Campaigns: many accounts, little behind them, one text and its variants within a short time.

A cluster is a first appearance with all its copies and near texts. For each are counted the different
accounts that wrote it as their own (not as a repost), and those among them that have next to no record:
few followers or few documents so far. Popular texts spread by accounts of every kind and mostly as
reposts; planted ones by accounts of no record. All counts are of fixed size.

Source:
    Whang, Vander-Zanden & Taylor (1990), "A linear-time probabilistic counting algorithm", for the counts;
    Pacheco et al. (2021), "Uncovering coordinated networks on social media", for the signs.
"""

import math
import zlib
from typing import Final

import msgspec
import numpy as np

BITS: Final = 256
"""Of a count of distinct accounts: exact to a few per cent up to some hundreds."""
_WORDS: Final = BITS // 64


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """Who wrote a cluster's texts within the window."""

    accounts: float = 0.0
    """Different accounts that wrote it as their own, about."""
    unknown: float = 0.0
    """Those of next to no record among them."""


class Campaigns:
    """The crowds behind the last clusters.

    Args:
        capacity: Clusters kept.
        window_ns: Accounts are counted over one to two of these.
    """

    def __init__(self, *, capacity: int, window_ns: int) -> None:
        self._capacity = capacity
        self._window_ns = window_ns
        self._cluster = np.full(capacity, -1, dtype=np.int64)
        self._since = np.zeros(capacity, dtype=np.int64)
        # By cluster, this window or the last one, all accounts or the unknown ones.
        self._seen = np.zeros((capacity, 2, 2, _WORDS), dtype=np.uint64)

    def count(self, cluster: int, account: str, now: int, *, is_unknown: bool) -> Crowd:
        """Count an account that wrote a cluster's text as its own, and return the crowd so far.

        Args:
            cluster: Number of the cluster's first appearance.
            account: Who wrote.
            now: Receive time in ns.
            is_unknown: The account has next to no record.
        """
        row = cluster % self._capacity
        self._turn(row, cluster, now)
        word, bit = divmod(zlib.crc32(account.encode()) % BITS, 64)
        mark = np.uint64(1) << np.uint64(bit)
        self._seen[row, 0, 0, word] |= mark
        if is_unknown:
            self._seen[row, 0, 1, word] |= mark
        return self._crowd(row)

    def _turn(self, row: int, cluster: int, now: int) -> None:
        """Empty a row that is another cluster's, or begin its next window."""
        past = now - int(self._since[row])
        if self._cluster[row] != cluster or past >= 2 * self._window_ns:
            self._cluster[row], self._since[row] = cluster, now
            self._seen[row] = 0
        elif past >= self._window_ns:
            self._since[row] += self._window_ns
            self._seen[row, 1] = self._seen[row, 0]
            self._seen[row, 0] = 0

    def _crowd(self, row: int) -> Crowd:
        everyone, unknown = np.bitwise_or(self._seen[row, 0], self._seen[row, 1])
        return Crowd(accounts=_distinct(everyone.tobytes()), unknown=_distinct(unknown.tobytes()))


def _distinct(bits: bytes) -> float:
    """Return about how many accounts set these bits."""
    empty = BITS - int.from_bytes(bits, "little").bit_count()
    return BITS * math.log(BITS / max(1, empty))
