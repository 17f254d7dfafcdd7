"""Seeded chance: uniform draws whose bits are the same on every machine."""

import math
import zlib
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import numpy as np

Draw = Callable[[], float]
"""Returns the next uniform number in [0, 1)."""
T = TypeVar("T")

_BLOCK: Final = 2048


def _blocks(generator: np.random.Generator) -> Iterator[float]:
    # A block of numpy draws turned into a list costs 40 ns a number; one call each costs 400 ns.
    while True:
        yield from generator.random(_BLOCK).tolist()


def draws(seed: int, purpose: str, index: int = 0) -> Draw:
    """Return an endless stream of uniform draws that depends on nothing but its three arguments.

    Args:
        seed: The market's seed.
        purpose: What the stream is for; streams with other purposes are independent.
        index: Which of several streams for one purpose, such as a cycle's number.
    """
    entropy = [seed, zlib.crc32(purpose.encode()), index]
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
    return _blocks(generator).__next__


def normal(draw: Draw) -> float:
    """Return a nearly normal number of mean 0 and variance 1, never beyond 3.5.

    Source:
        Irwin-Hall sum of four uniforms, scaled by sqrt(12 / 4).
    """
    return (draw() + draw() + draw() + draw() - 2.0) * 1.7320508075688772


def waiting(draw: Draw, mean: float) -> float:
    """Return an exponential waiting time of the given mean, in the mean's unit."""
    return -mean * math.log(1.0 - draw())


def between(draw: Draw, low: float, high: float) -> float:
    """Return a number uniform between two."""
    return low + (high - low) * draw()


def pick(draw: Draw, choices: tuple[T, ...] | list[T]) -> T:
    """Return one of several, each as likely."""
    return choices[int(draw() * len(choices))]


def shuffled(draw: Draw, things: list[T]) -> list[T]:
    """Return the things in random order (Fisher-Yates)."""
    out = list(things)
    for i in range(len(out) - 1, 0, -1):
        j = int(draw() * (i + 1))
        out[i], out[j] = out[j], out[i]
    return out
