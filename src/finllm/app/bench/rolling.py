"""The same columns with their windows in pandas: events as a time-indexed frame, a slice a window.

Slices are summed at the newest event only. `rolling(window).sum()` over the frame, which many write,
computes every older row anew and takes far longer: this is the kinder peer.
"""

from importlib import import_module

import numpy as np

from finllm.app.bench.columns import KEPT, N_SUMS, WINDOWS_NS, Doubles, NumpyColumns


class PandasColumns(NumpyColumns):
    """The columns of one book, windows in pandas. See `NumpyColumns`."""

    def __init__(self) -> None:
        super().__init__()
        self._pandas = import_module("pandas")
        self._values = np.zeros((KEPT, N_SUMS))
        self._longest = int(WINDOWS_NS.max())

    def _keep(self, now: int) -> None:
        if self._n == KEPT:
            self._n = KEPT // 2
            self._times[: self._n] = self._times[self._n :]
            self._values[: self._n] = self._values[self._n :]
        self._values[self._n] = self._event
        self._times[self._n] = now
        self._n += 1

    def _window_sums(self, now: int) -> Doubles:
        pandas = self._pandas
        first = int(self._times[: self._n].searchsorted(now - self._longest, side="right"))
        times = self._times[first : self._n].view("datetime64[ns]")
        index = pandas.DatetimeIndex(times)
        frame = pandas.DataFrame(self._values[first : self._n], index=index, copy=False)
        starts = index.searchsorted((now - WINDOWS_NS).view("datetime64[ns]"), side="right")
        return np.array([frame.iloc[start:].sum().to_numpy() for start in starts.tolist()])
