"""Laws of the line in front of an endpoint."""

import asyncio

import pytest

from finllm.reasoning.llm.line import LEAST_KNOWN, WINDOW, Line, ShedError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def served(
    line: Line, clock: Clock, waiting: dict[str, tuple[float, float]], took: float
) -> tuple[list[str], list[str]]:
    """Return who is served in turn, each for so long, and who is sent away; the slot is held at first."""
    order: list[str] = []
    shed: list[str] = []

    async def wait(name: str, value: float, deadline: float) -> None:
        try:
            await line.enter(value, deadline)
        except ShedError:
            shed.append(name)
        else:
            order.append(name)

    tasks = [asyncio.create_task(wait(name, *what)) for name, what in waiting.items()]
    await asyncio.sleep(0)
    while line.waiting:
        line.leave(took)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        clock.now += took
    await asyncio.gather(*tasks)
    return order, shed


async def known(clock: Clock, took: float, most: int = 10) -> Line:
    """Return a line of one slot, which is held, before which requests have taken so long."""
    line = Line(1, most, clock)
    for _ in range(LEAST_KNOWN):
        await line.enter(1.0, 1e9)
        line.leave(took)
    await line.enter(1.0, 1e9)
    return line


def serve(
    waiting: dict[str, tuple[float, float]], took: float = 1.0, most: int = 10
) -> tuple[list[str], list[str]]:
    async def run() -> tuple[list[str], list[str]]:
        clock = Clock()
        return await served(await known(clock, took, most), clock, waiting, took)

    return asyncio.run(run())


def test_the_more_valuable_gives_way_to_who_would_be_late_otherwise() -> None:
    assert serve({"rich": (9.0, 50.0), "poor": (1.0, 1.5)}) == (["poor", "rich"], [])


def test_where_nobody_would_be_late_the_most_valuable_goes_first() -> None:
    assert serve({"rich": (9.0, 50.0), "poor": (1.0, 2.5)}) == (["rich", "poor"], [])


def test_where_not_all_can_be_in_time_the_least_valuable_stands_aside() -> None:
    order, shed = serve({"poor": (1.0, 1.5), "rich": (9.0, 1.6), "late": (5.0, 9.0)})
    assert order == ["rich", "late"]
    assert shed == ["poor"]


@pytest.mark.parametrize("deadline", [3.5, 30.0])
def test_of_equal_urgency_the_more_valuable_goes_first(deadline: float) -> None:
    waiting = {name: (value, deadline) for name, value in (("b", 2.0), ("a", 3.0), ("c", 1.0))}
    assert serve(waiting) == (["a", "b", "c"], [])


def test_beyond_its_length_the_least_valuable_is_sent_away() -> None:
    order, shed = serve({"a": (3.0, 50.0), "b": (1.0, 9.0), "c": (2.0, 60.0)}, most=2)
    assert (order, shed) == (["a", "c"], ["b"])


def test_after_an_outage_nobody_is_sent_away_for_what_never_came() -> None:
    async def run() -> tuple[list[str], list[str]]:
        clock = Clock()
        line = await known(clock, 0.1)
        line.leave(0.1)
        for _ in range(WINDOW):
            await line.enter(1.0, 1e9)
            line.leave(None)
        await line.enter(1.0, 1e9)
        return await served(line, clock, {"a": (1.0, 3.0), "b": (2.0, 3.0)}, 0.1)

    assert asyncio.run(run()) == (["b", "a"], [])


def test_after_a_slow_spell_five_quick_answers_are_believed() -> None:
    async def run() -> tuple[list[str], list[str]]:
        clock = Clock()
        line = await known(clock, 9.0)
        line.leave(9.0)
        for took in (9.0,) * WINDOW + (0.1,) * 5:
            await line.enter(1.0, 1e9)
            line.leave(took)
        await line.enter(1.0, 1e9)
        return await served(line, clock, {"a": (1.0, 3.0)}, 0.1)

    assert asyncio.run(run()) == (["a"], [])


def test_while_nothing_is_known_of_requests_the_most_valuable_goes_first() -> None:
    async def run() -> tuple[list[str], list[str]]:
        clock = Clock()
        line = Line(1, 10, clock)
        await line.enter(1.0, 1e9)
        return await served(line, clock, {"poor": (1.0, 50.0), "rich": (9.0, 99.0)}, 1.0)

    assert asyncio.run(run()) == (["rich", "poor"], [])
