"""What a fuzzed decoder is fed: a few frames, one a line, and the ways in which they are mutated.

A line is `<milliseconds since the one before> <source> <payload>`, so that a kept input can be read. A
payload is mutated as a tree where it is JSON and as bytes where it is not; afterwards its numbers and
checksums may be mended (see `seeds.mend`), or no mutated level would ever get past a checksum.
"""

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import numpy as np

MAX_FRAMES = 48
MAX_AFTER_MS = 20_000

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Told(NamedTuple):
    """One frame to push."""

    after_ms: int
    source: int
    payload: bytes


def read(text: bytes) -> list[Told]:
    """Return the frames of an input; a line without its two numbers is a payload all the same."""
    frames = []
    for line in text.split(b"\n")[:MAX_FRAMES]:
        parts = line.split(b" ", 2)
        if len(parts) == 3 and parts[0].isdigit() and parts[1].isdigit():
            after_ms = min(int(parts[0][:6]), MAX_AFTER_MS)
            frames.append(Told(after_ms, int(parts[1][:1]) % 2, parts[2]))
        elif line:
            frames.append(Told(1, 0, line))
    return frames


def written(frames: Sequence[Told]) -> bytes:
    """Return frames as an input."""
    return b"\n".join(b"%d %d %s" % (f.after_ms, f.source, f.payload) for f in frames)


def parsed(payload: bytes) -> Any:
    """Return a payload's JSON with decimals as they are written.

    Raises:
        ValueError: If it is none.
    """
    return json.loads(payload, parse_float=Decimal, parse_int=_whole)


def _whole(digits: str) -> int | Decimal:
    return int(digits) if len(digits) < 400 else Decimal(digits)


def encoded(message: Any) -> bytes:
    """Return a message as compact JSON, decimals as they were written."""
    return _encode(message)


VALUES: tuple[Any, ...] = (
    None, True, False, "", "0", 0, -1, 1, 2, "1", "-1", "nan", "inf", "1e300", "1e-9", 2**53, 2**62,
    2**63, 10**25, "9" * 20, 0.1, 1e300, "1.5", "100", "100.005", "\u0000", "\u00e9\U0001f600", [], {},
    [[]], "BTCUSDT", "snapshot", "update", "delta", "1970-01-01T00:00:00Z", "x" * 60,
)  # fmt: skip
PIECES = (
    b'"', b"[", b"]", b"{", b"}", b",", b":", b"-", b"0", b"9" * 20, b"null", b"true", b"NaN", b"e9",
    b"\\u0000", b"\xff", b"\xc3\xa9", b" ", b'"1"', b"[" * 1200, b'{"a":' * 600,
)  # fmt: skip


class Mutator:
    """Changes an input in one to four places.

    Args:
        donors: Frames that may be put in, such as those of the seeds.
        mend: Puts numbers and checksums of a list of messages right, in place.
        mangle: Changes bytes in a way of its own (libFuzzer's).
    """

    def __init__(
        self,
        donors: Sequence[Told],
        mend: Callable[[list[Any]], None],
        mangle: Callable[[bytes, int], bytes],
    ) -> None:
        self._donors = donors
        self._mend = mend
        self._mangle = mangle
        self._ways = (
            self._leave_out, self._repeat, self._swap, self._wait, self._resource, self._put_in,
            self._cut, self._splice, self._scramble, self._graft, self._graft, self._graft,
            self._nudge, self._nudge, self._nudge, self._nudge,
        )  # fmt: skip

    def mutate(self, text: bytes, max_size: int, seed: int) -> bytes:
        """Return a changed input of at most `max_size` bytes."""
        rng = np.random.default_rng(seed)
        frames = read(text) or [self._donors[0]]
        for _ in range(int(rng.integers(1, 5))):
            way = self._ways[int(rng.integers(len(self._ways)))]
            way(frames, int(rng.integers(len(frames))), rng)
            frames = frames or [self._donors[0]]
        if rng.integers(2):
            frames = self.mended(frames)
        while len(frames) > 1 and (len(frames) > MAX_FRAMES or len(written(frames)) > max_size):
            frames.pop(int(rng.integers(len(frames))))
        return written(frames)[:max_size]

    def cross(self, one: bytes, other: bytes, max_size: int, seed: int) -> bytes:
        """Return the beginning of one input and the end of another."""
        rng = np.random.default_rng(seed)
        head, tail = read(one), read(other)
        frames = head[: int(rng.integers(len(head) + 1))] + tail[int(rng.integers(len(tail) + 1)) :]
        frames = self.mended(frames) if rng.integers(2) else frames
        return written(frames)[:max_size] or one

    def mended(self, frames: list[Told]) -> list[Told]:
        """Return frames whose numbers and checksums are right wherever they can be read."""
        messages: list[Any] = []
        for frame in frames:
            try:
                messages.append(parsed(frame.payload))
            except (ValueError, RecursionError):
                messages.append(None)
        self._mend(messages)
        return [
            frame if message is None else frame._replace(payload=_line(message, frame.payload))
            for frame, message in zip(frames, messages, strict=True)
        ]

    # -- frames ----------------------------------------------------------------------------------

    @staticmethod
    def _leave_out(frames: list[Told], at: int, _: np.random.Generator) -> None:
        frames.pop(at)

    @staticmethod
    def _repeat(frames: list[Told], at: int, rng: np.random.Generator) -> None:
        frames.insert(int(rng.integers(len(frames) + 1)), frames[at])

    @staticmethod
    def _swap(frames: list[Told], at: int, rng: np.random.Generator) -> None:
        other = int(rng.integers(len(frames)))
        frames[at], frames[other] = frames[other], frames[at]

    @staticmethod
    def _wait(frames: list[Told], at: int, rng: np.random.Generator) -> None:
        frames[at] = frames[at]._replace(after_ms=int(rng.choice([0, 1, 500, 6_000, 20_000])))

    @staticmethod
    def _resource(frames: list[Told], at: int, _: np.random.Generator) -> None:
        frames[at] = frames[at]._replace(source=1 - frames[at].source)

    def _put_in(self, frames: list[Told], at: int, rng: np.random.Generator) -> None:
        frames.insert(at, self._donors[int(rng.integers(len(self._donors)))])

    # -- bytes -----------------------------------------------------------------------------------

    @staticmethod
    def _cut(frames: list[Told], at: int, rng: np.random.Generator) -> None:
        payload = frames[at].payload
        frames[at] = frames[at]._replace(payload=payload[: int(rng.integers(len(payload) + 1))])

    @staticmethod
    def _splice(frames: list[Told], at: int, rng: np.random.Generator) -> None:
        payload = frames[at].payload
        start = int(rng.integers(len(payload) + 1))
        piece = PIECES[int(rng.integers(len(PIECES)))]
        rest = payload[start + int(rng.integers(6)) :]
        frames[at] = frames[at]._replace(payload=payload[:start] + piece + rest)

    def _scramble(self, frames: list[Told], at: int, _: np.random.Generator) -> None:
        payload = self._mangle(frames[at].payload, len(frames[at].payload) + 64)
        frames[at] = frames[at]._replace(payload=payload.replace(b"\n", b" "))

    # -- trees -----------------------------------------------------------------------------------

    def _graft(self, frames: list[Told], at: int, rng: np.random.Generator) -> None:
        """Change one node: another value, gone, doubled, or swapped with another node."""
        self._at_node(frames, at, rng, _grafted)

    def _nudge(self, frames: list[Told], at: int, rng: np.random.Generator) -> None:
        """Change one number a little, kept a string where it was one."""
        self._at_node(frames, at, rng, _nudged)

    @staticmethod
    def _at_node(
        frames: list[Told], at: int, rng: np.random.Generator, change: Callable[..., None]
    ) -> None:
        try:
            message = parsed(frames[at].payload)
        except (ValueError, RecursionError):
            return
        nodes = _nodes(message)
        if nodes:
            change(nodes, rng)
            frames[at] = frames[at]._replace(payload=_line(message, frames[at].payload))


def _line(message: Any, before: bytes) -> bytes:
    try:
        return encoded(message).replace(b"\n", b" ")
    except (msgspec.EncodeError, UnicodeEncodeError, RecursionError, OverflowError):
        return before


def _nodes(tree: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of every node below a tree's root."""
    found: list[tuple[Any, Any]] = []
    left = [tree]
    while left:
        node = left.pop()
        keys = (
            range(len(node)) if isinstance(node, list) else node if isinstance(node, dict) else ()
        )
        for key in keys:
            found.append((node, key))
            left.append(node[key])
    return found


def _grafted(nodes: list[tuple[Any, Any]], rng: np.random.Generator) -> None:
    container, key = nodes[int(rng.integers(len(nodes)))]
    match int(rng.integers(5)):
        case 0:
            del container[key]
        case 1 if isinstance(container, list):
            container.insert(key, container[key])
        case 2:
            other, at = nodes[int(rng.integers(len(nodes)))]
            if not isinstance(container[key], list | dict) and not isinstance(
                other[at], list | dict
            ):
                container[key], other[at] = other[at], container[key]
        case _:
            container[key] = VALUES[int(rng.integers(len(VALUES)))]


def _nudged(nodes: list[tuple[Any, Any]], rng: np.random.Generator) -> None:
    numbers = [(c, k) for c, k in nodes if _is_number(c[k])]
    if not numbers:
        return
    container, key = numbers[int(rng.integers(len(numbers)))]
    value = container[key]
    number = Decimal(str(value))
    unit = Decimal(1).scaleb(number.as_tuple().exponent) if number.is_finite() else Decimal(1)
    steps = (-10, -2, -1, 1, 2, 10, 1000)
    number = number * 0 if rng.integers(6) == 0 else number + unit * int(rng.choice(steps))
    if isinstance(value, str):
        container[key] = format(number, "f")
    else:
        container[key] = int(number) if isinstance(value, int) else number


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        digits = value.lstrip("-").replace(".", "", 1)
        return len(value) < 40 and digits.isascii() and digits.isdecimal()
    is_plain = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return is_plain and Decimal(value).is_finite() and Decimal(value).adjusted() < 30
