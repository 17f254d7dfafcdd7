"""Many seeds, over several processes, summed up."""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from hashlib import blake2b

import msgspec

from finllm_lab.consistency.simulate import Result, simulate

_CHUNK = 8
Told = Callable[[Result], None]


class Campaign(msgspec.Struct, frozen=True, kw_only=True):
    """What many seeds gave."""

    first: int
    seeds: int
    minutes: float
    fire: float
    violations: int
    failed: tuple[Result, ...]
    """The first ten seeds that violate an invariant."""
    trace_hash: str
    """Over the trace hashes of all seeds, in order."""
    differing: tuple[int, ...]
    """Seeds whose second run gave another trace hash."""
    checked: int
    """Entries checked."""
    happened: dict[str, int]
    """Faults by kind, and what became of verdicts, over all seeds."""


def campaign(
    first: int,
    seeds: int,
    minutes: float,
    jobs: int,
    *,
    fire: float = 1.0,
    twice: bool = False,
    told: Told,
) -> Campaign:
    """Run seeds one after the other, or in several processes at once.

    Args:
        first: The first seed.
        seeds: How many.
        minutes: Virtual time of each.
        jobs: Processes; 1 = this one.
        fire: Times the usual rates of faults.
        twice: Whether to run each seed again and compare the trace hashes.
        told: Told each result, in order.
    """
    happened: Counter[str] = Counter()
    digest, failed, differing = blake2b(digest_size=16), [], []
    violations = checked = 0
    run = partial(_twice if twice else _once, minutes=minutes, fire=fire)
    for result, same in _each(run, range(first, first + seeds), jobs):
        happened.update(result.happened)
        digest.update(result.trace_hash.encode())
        checked += result.checked
        if result.violation:
            violations += 1
            failed.append(result)
        if not same:
            differing.append(result.seed)
        told(result)
    return Campaign(
        first=first,
        seeds=seeds,
        minutes=minutes,
        fire=fire,
        violations=violations,
        failed=tuple(failed[:10]),
        trace_hash=digest.hexdigest(),
        differing=tuple(differing),
        checked=checked,
        happened=dict(sorted(happened.items())),
    )


def _each(
    run: Callable[[int], tuple[Result, bool]], seeds: Iterable[int], jobs: int
) -> Iterator[tuple[Result, bool]]:
    if jobs == 1:
        yield from map(run, seeds)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from pool.map(run, seeds, chunksize=_CHUNK)


def _once(seed: int, minutes: float, fire: float) -> tuple[Result, bool]:
    return simulate(seed, minutes, fire=fire), True


def _twice(seed: int, minutes: float, fire: float) -> tuple[Result, bool]:
    result = simulate(seed, minutes, fire=fire)
    return result, simulate(seed, minutes, fire=fire).trace_hash == result.trace_hash
