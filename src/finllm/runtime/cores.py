"""Which core is whose: the first is the edge's, all others are for what must not slow it down."""

import os
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager


def first(allowed: AbstractSet[int]) -> set[int]:
    """Return the edge's core: the first of those allowed."""
    return {min(allowed)}


def others(allowed: AbstractSet[int]) -> set[int]:
    """Return the cores for everything else: all that are allowed but the first, if there are any."""
    return set(allowed) - first(allowed) or set(allowed)


@contextmanager
def on_first_core() -> Iterator[None]:
    """Keep this thread on the edge's core for a while, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, first(before))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def leave_first_core() -> None:
    """Keep this process off the edge's core from now on, where the system can and there is another."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, others(os.sched_getaffinity(0)))
