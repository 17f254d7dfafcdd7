"""A book in the hand for the tests of feature rows."""

import numpy as np

from finllm.domain.market import ROW_HEAD, VIEW_SIZE, BookView, Flag, RowKind
from finllm.features.book import BookFeatures
from finllm.features.book_spec import BOOK_SPEC

T0 = 1_700_000_000 * 10**9
MS, S = 10**6, 10**9


class Stream:
    """A book in the hand: set a side, push, look at the row by name."""

    def __init__(self, features=None):
        self.features = features or BookFeatures()
        self.view = np.zeros(VIEW_SIZE, np.int64)
        self.row = np.full(len(BOOK_SPEC), np.nan)
        self.head = np.zeros((), ROW_HEAD)
        self.ts = T0
        self.seq = 0

    def side(self, name, *levels):
        view = self.view
        at_px, at_sz = (BookView.BID_PX, BookView.BID_SZ)
        if name == "ask":
            at_px, at_sz = (BookView.ASK_PX, BookView.ASK_SZ)
        view[at_px : at_px + 10] = view[at_sz : at_sz + 10] = 0
        for i, (price, size) in enumerate(levels):
            view[at_px + i], view[at_sz + i] = price, size
        view[BookView.N_BIDS if name == "bid" else BookView.N_ASKS] = len(levels)

    def push(self, bid=None, ask=None, *, after=10 * MS, flags=Flag.VALID, trade=0):
        if bid is not None:
            self.side("bid", *bid)
        if ask is not None:
            self.side("ask", *ask)
        self.ts += after
        self.seq += 1
        view = self.view
        view[BookView.KIND] = RowKind.TRADE if trade else RowKind.DEPTH
        view[BookView.FLAGS], view[BookView.SEQ] = flags, self.seq
        view[BookView.TS_RECV], view[BookView.TS_EVENT] = self.ts, self.ts - 7
        view[BookView.TRADE_SIDE], view[BookView.TRADE_SZ] = np.sign(trade), abs(trade)
        self.features.push(view, self.row, self.head)
        return self

    def __getitem__(self, name):
        return self.row[BOOK_SPEC.columns[name]]
