"""A spill file between a ring and a reader who must lose nothing: bounded, first in, first out.

A thread follows the ring as fast as it turns and keeps what the reader has not taken: in memory up to
a bound, beyond it in a file, beyond the file's bound not at all, counted. So what is lost is the newest:
what is kept comes out whole and in order. The file is a ring of whole entries of int64 words, so that a
reader who is always a little behind does not use it up; it is cut to nothing each time the reader has
caught up, is no record of anything and is deleted at the end. What the disk refuses, or does not give
back, is lost and counted like the rest, and the next entries are tried again. Knows nothing of what the
words mean.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.int64]

MEMORY_ENTRIES: Final = 8_192
_READ_ENTRIES: Final = 1_024
_WAIT_MS: Final = 100


class Spill:
    """Follows a source until closed, or to an end that it is told.

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
        """Entries for which there was no room, or that the disk refused or did not give back."""
        self.spilled = 0
        """Entries that went through the file."""
        self._look, self._width, self._entry_bytes = look, width, 8 * width
        self._path, self._file = path, path.open("w+b", buffering=0)
        self._most = most_bytes // self._entry_bytes
        self._most_held = memory_entries
        self._held: deque[Words] = deque()
        self._n_held = 0
        self._written = 0
        self._taken = 0
        self._news = threading.Condition()
        self._closing = False
        self._is_done: Callable[[], bool] | None = None
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
            while self._taken < self._written:
                words = self._from_file()
                if len(words):
                    return words
            return None

    def finish(self, is_done: Callable[[], bool]) -> None:
        """Follow until this holds, without waiting for more; what is kept can still be taken."""
        self._is_done = is_done

    @property
    def is_finished(self) -> bool:
        """Return whether it follows no longer and everything kept has been taken."""
        return not self._thread.is_alive() and not self._has_some()

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

    def _follow(self) -> None:
        while not self._closing:
            is_done = self._is_done
            words = self._look(_WAIT_MS if is_done is None else 0)
            if words is not None:
                with self._news:
                    self._keep(words)
                    self._news.notify()
            if is_done is not None and is_done():
                return

    def _keep(self, words: Words) -> None:
        if self._taken == self._written and self._n_held + len(words) <= self._most_held:
            self._held.append(words)
            self._n_held += len(words)
            return
        kept = self._to_file(words[: self._most - (self._written - self._taken)])
        self._written += kept
        self.spilled += kept
        self.lost += len(words) - kept

    def _to_file(self, words: Words) -> int:
        """Write entries after the newest; return how many the file took, in parts where it comes round."""
        kept = 0
        while kept < len(words):
            at = (self._written + kept) % self._most
            part = words[kept : kept + self._most - at]
            took = self._write(part, at)
            kept += took
            if took < len(part):
                break
        return kept

    def _write(self, words: Words, at: int) -> int:
        """Write entries from a place on; return how many whole ones the disk took."""
        body, done = memoryview(words.tobytes()), 0
        with suppress(OSError):  # counted by who asks: the disk may be full now and not later
            while done < len(body):
                place = at * self._entry_bytes + done
                done += os.pwrite(self._file.fileno(), body[done:], place)
        return done // self._entry_bytes

    def _from_file(self) -> Words:
        at = self._taken % self._most
        n = min(_READ_ENTRIES, self._written - self._taken, self._most - at)
        body = b""
        with suppress(OSError):
            body = os.pread(self._file.fileno(), n * self._entry_bytes, at * self._entry_bytes)
        got = len(body) // self._entry_bytes
        self._taken += n
        self.lost += n - got
        if self._taken == self._written:
            self._taken = self._written = 0
            with suppress(OSError):  # only tidiness: what is there is written over
                self._file.truncate(0)
        words = np.frombuffer(body, dtype=np.int64, count=got * self._width)
        return words.reshape(got, self._width)
