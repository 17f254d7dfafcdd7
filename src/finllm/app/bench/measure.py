"""What every measurement here shares: distributions, pacing, and taking turns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import InputError
from finllm.domain.market import Frame
from finllm.runtime.clock import WallClock, stopwatch_ns

Say = Callable[[str], None]
Nanoseconds = NDArray[np.int64]
CLOCK: Final = WallClock()

SLACK_NS: Final = 200_000
"""A wait longer than this is slept through but for its end."""
TURN_FRAMES: Final = 500
"""Frames that one contender takes before the next has its turn."""
TURN_NS: Final = 2_000_000_000
"""Wall time of one turn at a pace: short of what would make a quiet book count as stale."""


QUIET_NS: Final = 1_000_000_000
"""How long a look at the machine takes."""
GAP_NS: Final = 20_000
"""A loop that reads the clock and stands still for longer was not running."""


class Quiet(msgspec.Struct, frozen=True, kw_only=True):
    """How quiet the machine is: what a loop that only reads the clock lost, for a second."""

    lost_share: float
    """Share of the time in which it did not run, in gaps above 20 us."""
    longest_us: float

    @classmethod
    def look(cls) -> "Quiet":
        """Read the clock for `QUIET_NS`."""
        now = stopwatch_ns
        last = start = now()
        lost = longest = 0
        while last - start < QUIET_NS:
            at = now()
            gap, last = at - last, at
            if gap > GAP_NS:
                lost, longest = lost + gap, max(longest, gap)
        return cls(lost_share=round(lost / (last - start), 4), longest_us=round(longest / 1e3, 1))


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution of latencies, microseconds."""

    p50: float
    p99: float
    p999: float
    max: float
    n: int

    @classmethod
    def of(cls, latencies: Nanoseconds) -> "Spread":
        """Return the distribution of latencies in nanoseconds.

        Raises:
            InputError: If there are none.
        """
        if not len(latencies):
            raise InputError(
                "no frame of it makes a row",
                place="bench edge",
                mend="Name a tape that holds a snapshot and at least 20 s.",
            )
        p50, p99, p999 = np.quantile(latencies, (0.5, 0.99, 0.999)) / 1e3
        return cls(
            p50=round(float(p50), 2),
            p99=round(float(p99), 2),
            p999=round(float(p999), 2),
            max=round(float(latencies.max()) / 1e3, 1),
            n=len(latencies),
        )


def arrivals(
    frames: Sequence[Frame], span: range, pace: float, start: int
) -> Iterator[tuple[int, int]]:
    """Yield (index, intended arrival) at the intended arrival, or as soon after as we are free.

    Args:
        frames: The tape.
        span: Indices of the frames that arrive.
        pace: Times real time.
        start: Intended arrival of the first, on the stopwatch, ns.
    """
    now, zero = stopwatch_ns, frames[span.start].ts_recv if span else 0
    for i in span:
        due = start + int((frames[i].ts_recv - zero) / pace)
        left = due - now()
        if left > SLACK_NS:
            CLOCK.sleep(left - SLACK_NS)
        while now() < due:
            pass
        yield i, due


def service_times(
    contenders: Mapping[str, Callable[[Frame], object]], frames: Sequence[Frame], first: int
) -> dict[str, Nanoseconds]:
    """Push every frame from `first` on through every contender, in turns of `TURN_FRAMES`.

    The turns are short and rotate, so that what else the machine does hits all alike.

    Returns:
        By name: how long each frame took that made something, int64 [n], ns.
    """
    names = list(contenders)
    took = {name: np.zeros(len(frames) - first, dtype=np.int64) for name in names}
    for number, start in enumerate(range(first, len(frames), TURN_FRAMES)):
        turn = range(start, min(start + TURN_FRAMES, len(frames)))
        k = number % len(names)
        for name in names[k:] + names[:k]:
            push, mine = contenders[name], took[name]
            for i in turn:
                before = stopwatch_ns()
                if push(frames[i]) is not None:
                    mine[i - first] = stopwatch_ns() - before
    return {name: mine[mine > 0] for name, mine in took.items()}


class Line(Protocol):
    """A way from a frame to a reader in another process, warm."""

    def run(self, frames: Sequence[Frame], span: range, pace: float) -> None:
        """Send frames at their intended arrivals, and wait until they are through."""
        ...

    def finish(self) -> Nanoseconds:
        """Close; return from intended arrival to readable, of each row that came, int64 [n], ns."""
        ...


def take_turns(lines: Sequence[Line], frames: Sequence[Frame], first: int, pace: float) -> None:
    """Send every frame from `first` on through every line, in turns of `TURN_NS`."""
    span_ns = int(TURN_NS * pace)
    times = np.array([frame.ts_recv for frame in frames[first:]])
    cuts = np.flatnonzero(np.diff((times - times[0]) // span_ns)) + 1 + first
    edges = [first, *cuts.tolist(), len(frames)]
    for number, (start, end) in enumerate(pairwise(edges)):
        for line in lines if number % 2 == 0 else reversed(lines):
            line.run(frames, range(start, end), pace)
