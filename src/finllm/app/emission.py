"""What a run emits, in order: counted, digested, and shown to whoever watches."""

from collections.abc import Callable
from hashlib import blake2b

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.identity import canonical
from finllm.domain.trace import Trace


class Emission:
    """Everything emitted, in order: counted, digested, and shown to whoever watches.

    The digest is BLAKE2b over two others: that of the canonical bytes of all rows and records but the
    traces, which explaining does not change, and that of the traces.
    """

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=32)
        self._traces = blake2b(digest_size=32)
        self.n_rows = 0
        self.watchers: list[Callable[[int, object], None]] = []

    def row(self, ts: int, out: NDArray[np.void]) -> None:
        """Take one forecast row."""
        body = out.tobytes()
        self._hash.update(body)
        self.n_rows += 1
        for watch in self.watchers:
            watch(ts, body)

    def record(self, ts: int, record: msgspec.Struct) -> None:
        """Take one record."""
        digest = self._traces if isinstance(record, Trace) else self._hash
        digest.update(type(record).__name__.encode())
        digest.update(canonical(record))
        for watch in self.watchers:
            watch(ts, record)

    @property
    def digest(self) -> str:
        """Return 64 hex digits over everything emitted so far."""
        return blake2b(self._hash.digest() + self._traces.digest(), digest_size=32).hexdigest()

    @property
    def untraced_digest(self) -> str:
        """Return 64 hex digits over everything but the traces: the same with explaining on or off."""
        return self._hash.hexdigest()
