"""A spill file between a ring and a reader who must lose nothing: bounded, first in, first out.

A thread follows the ring as fast as it turns and keeps what the reader has not taken: in memory up to
a bound, beyond it in a file, beyond the file's bound not at all, counted. The file holds whole entries
of int64 words and is cut to nothing each time the reader has caught up; it is no record of anything
and is deleted at the end. Knows nothing of what the words mean.
"""

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.int64]

MEMORY_ENTRIES: Final = 8_192
_READ_ENTRIES: Final = 1_024
_WAIT_MS: Final = 100


class Spill:
    """Follows a source until closed.

    Args:
        look: Returns new entries, int64 [n, width], waiting so many milliseconds at most, or None.
        width: Words of an entry.
        path: The file; made anew.
        most_bytes: Its bound.
        memory_entries: Entries kept in memory before the file is used.
    """

    def __init__(
        self,
        look: Callable[[int], Words | None],
        width: int,
        path: Path,
        most_bytes: int,
        memory_entries: int = MEMORY_ENTRIES,
    ) -> None:
        self.lost = 0
        """Entries for which there was no room."""
        self.spilled = 0
        """Entries that went through the file."""
        self._look, self._width = look, width
        self._path, self._file = path, path.open("w+b")
        self._most = most_bytes // (8 * width)
        self._most_held = memory_entries
        self._held: deque[Words] = deque()
        self._n_held = 0
        self._written = 0
        self._taken = 0
        self._news = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._follow, name="spill", daemon=True)
        self._thread.start()

    def take(self, timeout_ms: int = 0) -> Words | None:
        """Return the oldest entries not taken, int64 [n, width], waiting so long; None if none came."""
        with self._news:
            if not self._has_some() and timeout_ms > 0:
                self._news.wait_for(lambda: self._has_some() or self._closing, timeout_ms / 1e3)
            if self._held:
                words = self._held.popleft()
                self._n_held -= len(words)
                return words
            return self._from_file() if self._taken < self._written else None

    def close(self) -> None:
        """Stop following, and delete the file."""
        with self._news:
            self._closing = True
            self._news.notify_all()
        self._thread.join()
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _has_some(self) -> bool:
        return bool(self._held) or self._taken < self._written

    def _from_file(self) -> Words:
        n = min(_READ_ENTRIES, self._written - self._taken)
        self._file.seek(8 * self._width * self._taken)
        words = np.frombuffer(self._file.read(8 * self._width * n), dtype=np.int64)
        self._taken += n
        if self._taken == self._written:
            self._taken = self._written = 0
            self._file.truncate(0)
        return words.reshape(n, self._width)

    def _follow(self) -> None:
        while not self._closing:
            words = self._look(_WAIT_MS)
            if words is not None:
                with self._news:
                    self._keep(words)
                    self._news.notify()

    def _keep(self, words: Words) -> None:
        if self._taken == self._written and self._n_held + len(words) <= self._most_held:
            self._held.append(words)
            self._n_held += len(words)
            return
        room = max(0, min(len(words), self._most - self._written))
        self._file.seek(8 * self._width * self._written)
        self._file.write(words[:room].tobytes())
        self._written += room
        self.spilled += room
        self.lost += len(words) - room
