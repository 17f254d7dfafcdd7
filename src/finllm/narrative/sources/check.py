"""Is a source fit to serve? Each promise of the doorway tried, with what to mend where one is broken.

What is tried: its own samples; undated, future, huge, empty, broken and hostile messages; the same message
twice, and again from another reader; the order of receive times; time and memory.
"""

import random
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from finllm.domain.checks import Check
from finllm.domain.evidence import Document, Refusal
from finllm.domain.units import NS_PER_DAY, NS_PER_S, NS_PER_US
from finllm.narrative.sources.reading import Message, SourceReader
from finllm.narrative.sources.rows import Unusable
from finllm.narrative.sources.source import Item, Source
from finllm.runtime.clock import stopwatch_ns
from finllm.runtime.tally import Tally

MOST_S: Final = 2.0
"""Seconds that a message of a tenth of a megabyte may take."""
MOST_MB: Final = 64.0
"""Megabytes that it may take."""
_HUGE: Final = 100_000
_N_MUTATED: Final = 100
_PLACE: Final = "/narrative/sources/"


class SourceReport(msgspec.Struct, frozen=True, kw_only=True):
    """All promises of a source."""

    source: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Return whether all hold."""
        return all(check.ok for check in self.checks)


class _BrokenError(Exception):
    """A promise that does not hold: what was seen, and what to mend."""

    def __init__(self, figure: str, mend: str) -> None:
        super().__init__(figure)
        self.figure, self.mend = figure, mend


def check_source(name: str, make: Callable[[], Source]) -> SourceReport:
    """Try every promise of a source.

    Args:
        name: What it is called in the report.
        make: Makes it; called again for each reader.
    """
    trial = _Trial(name, make)
    checks = [_tried(what, one) for what, one in trial.promises()]
    return SourceReport(source=name, checks=tuple(checks))


def _tried(name: str, promise: Callable[[], str]) -> Check:
    try:
        return Check(name=name, ok=True, figure=promise())
    except _BrokenError as broken:
        return Check(name=name, ok=False, figure=broken.figure, mend=broken.mend)
    except Exception as error:  # noqa: BLE001 - a source on trial may fail in any way
        seen = f"raised {type(error).__name__}: {error}"[:300]
        return Check(name=name, ok=False, figure=seen, mend=f"Mend {line_of(error)}.")


def line_of(error: BaseException) -> str:
    """Return file and line of the last frame that is the source's own, not ours."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if "/finllm/" not in frame.filename.replace("\\", "/")]
    ours = [frame for frame in frames if _PLACE in frame.filename.replace("\\", "/")]
    last = (theirs or ours or frames)[-1]
    return f"{last.filename}:{last.lineno}"


class _Trial:
    """One source on trial."""

    def __init__(self, name: str, make: Callable[[], Source]) -> None:
        self._name, self._make = name, make

    def promises(self) -> Iterator[tuple[str, Callable[[], str]]]:
        yield "it can be made, and names a zone", self._made
        yield "its samples give dated documents", self._samples
        yield "undated is refused", self._undated
        yield "the future is refused", self._future
        yield "garbage gives refusals", self._garbage
        yield "a huge message is bounded", self._huge
        yield "ids are stable", self._stable
        yield "the same message again gives nothing new", self._again
        yield "receive times stay in order", self._order

    def _made(self) -> str:
        source = self._make()
        zone: object = source.zone
        if not isinstance(zone, str):
            raise _BrokenError("zone is no text", 'Write zone = "" or an IANA name in the class.')
        samples: object = source.samples()
        if not isinstance(samples, tuple) or not all(isinstance(one, bytes) for one in samples):
            raise _BrokenError(
                "samples() gives no tuple of bytes", 'Write return (b"...",) in samples().'
            )
        if not samples:
            raise _BrokenError("no samples", "Return one message or more from samples().")
        return f"{len(samples)} samples, zone {source.zone or 'UTC'}"

    def _read(self, payload: bytes, ts_recv: int, reader: SourceReader | None = None) -> "_Read":
        reader = reader or SourceReader(self._name, self._make(), Tally())
        return list(reader.read(Message(source=self._name, ts_recv=ts_recv, payload=payload)))

    def _items(self, payload: bytes) -> list[Item]:
        """Return the items of a sample; here the source's own mistakes come through."""
        found: list[object] = list(self._make().parse(payload))
        wrong = next((one for one in found if not isinstance(one, Item | Unusable)), None)
        if wrong is not None:
            raise _BrokenError(
                f"parse() yields {type(wrong).__name__}", "Yield Item or Unusable from parse()."
            )
        return [one for one in found if isinstance(one, Item)]

    def _samples(self) -> str:
        n = 0
        for number, payload in enumerate(self._make().samples(), start=1):
            self._items(payload)
            made = self._read(payload, _LATE_NS)
            refused = next((one for one in made if isinstance(one, Refusal)), None)
            if refused is not None:
                why = f"{refused.reason} {refused.detail}".strip()
                raise _BrokenError(
                    f"sample {number}: {why}",
                    "Mend parse(), or the sample, so that none is refused.",
                )
            if not made:
                raise _BrokenError(
                    f"sample {number}: nothing", "Yield an Item for each text in it."
                )
            n += len(made)
        return f"{n} documents"

    def _undated(self) -> str:
        """A text without a time must not get one, such as that of its receipt."""
        n = 0
        for payload in self._make().samples():
            dated = {item.published or str(item.published_ns) for item in self._items(payload)}
            for stamp in sorted(dated):
                bare = payload.replace(stamp.encode(), b"") if stamp else payload
                early, late = (self._read(bare, ts) for ts in (_LATE_NS, _LATE_NS + NS_PER_DAY))
                moved = _stamps(early) ^ _stamps(late)
                if moved:
                    raise _BrokenError(
                        "a stamp that depends on when it came",
                        "Leave published empty where the message has no time: it is refused then.",
                    )
                n += 1
        return f"{n} times taken out"

    def _future(self) -> str:
        """Received before its stamp: refused, unless the stamp was said to be the latest possible."""
        n = 0
        for payload in self._make().samples():
            stamps = _stamps(self._read(payload, _LATE_NS))
            before = min(stamps, default=_LATE_NS) - 10 * NS_PER_DAY
            admitted = [one for one in self._read(payload, before) if isinstance(one, Document)]
            if admitted:
                raise _BrokenError(
                    "a document from before it was published",
                    "Give published as the message has it, not the present time.",
                )
            n += len(stamps)
        return f"{n} stamps"

    def _garbage(self) -> str:
        chance = random.Random(7)  # noqa: S311 - seeded: the same mutations each time
        n_refused = 0
        for payload in (*_HOSTILE, *self._mutated(chance)):
            for made in self._read(payload, _LATE_NS):
                if isinstance(made, Refusal) and made.reason == "source_failed":
                    raise self._failure(payload, made)
                n_refused += isinstance(made, Refusal)
        return f"{len(_HOSTILE) + _N_MUTATED} messages, {n_refused} refusals"

    def _failure(self, payload: bytes, refusal: Refusal) -> _BrokenError:
        try:
            list(self._make().parse(payload))
        except Exception as error:  # noqa: BLE001 - a source on trial may fail in any way
            where = line_of(error)
        else:
            where = "parse()"
        return _BrokenError(
            f"{refusal.detail} on {payload[:60]!r}", f"Mend {where}: raise or yield Unusable there."
        )

    def _mutated(self, chance: random.Random) -> Iterator[bytes]:
        samples = self._make().samples()
        for _ in range(_N_MUTATED):
            message = bytearray(chance.choice(samples))
            for _ in range(chance.randint(1, 8)):
                at = chance.randrange(len(message) + 1)
                message[at : at + chance.choice((0, 1, 1, 20))] = chance.randbytes(
                    chance.choice((0, 1, 3))
                )
            yield bytes(message)

    def _huge(self) -> str:
        slowest, most = 0.0, 0.0
        for payload in self._large():
            tracemalloc.start()
            began = stopwatch_ns()
            try:
                self._read(payload, _LATE_NS)
            finally:
                took = (stopwatch_ns() - began) / NS_PER_S
                peak = tracemalloc.get_traced_memory()[1] / 1e6
                tracemalloc.stop()
            slowest, most = max(slowest, took), max(most, peak)
        figure = f"{slowest:.2f} s, {most:.0f} MB"
        # Traced memory makes everything some five times slower; the limit is on untraced time.
        if slowest > 5 * MOST_S or most > MOST_MB:
            raise _BrokenError(
                figure,
                f"Bound parse(): at most {MOST_S:.0f} s and {MOST_MB:.0f} MB for a tenth of a megabyte.",
            )
        return figure

    def _large(self) -> Iterator[bytes]:
        for payload in self._make().samples():
            times = _HUGE // max(1, 2 * len(payload))
            yield payload * times
            yield b"[" + b",".join([payload] * times) + b"]"
            middle = len(payload) // 2
            yield payload[:middle] + b"a " * (_HUGE // 2) + payload[middle:]
        yield b"<" * _HUGE
        yield b"[" * _HUGE
        yield b'{"text":"' + b"\\u0430" * (_HUGE // 6)

    def _stable(self) -> str:
        n = 0
        for payload in self._make().samples():
            once, twice = (_ids(self._read(payload, _LATE_NS)) for _ in range(2))
            if once != twice:
                raise _BrokenError(
                    "another id for the same message", "Let parse() depend on the message alone."
                )
            if len(set(once)) < len(once):
                raise _BrokenError(
                    "two documents with one id", "Give each Item its own text or key."
                )
            n += len(once)
        return f"{n} ids"

    def _again(self) -> str:
        reader = SourceReader(self._name, self._make(), Tally())
        for payload in self._make().samples():
            self._read(payload, _LATE_NS, reader)
            new = self._read(payload, _LATE_NS + NS_PER_S, reader)
            if new:
                raise _BrokenError(
                    f"{len(new)} new on the second time",
                    "Give each Item the key of the message's own.",
                )
        return "nothing"

    def _order(self) -> str:
        reader = SourceReader(self._name, self._make(), Tally())
        received = [
            made.ts_recv
            for number, payload in enumerate(self._make().samples())
            for made in self._read(payload, _LATE_NS + number * NS_PER_US, reader)
        ]
        if received != sorted(received):
            raise _BrokenError("out of order", "Yield items of one message only from parse().")
        return f"{len(received)} in order"


_Read = list[Document | Refusal]
_LATE_NS: Final = 4_000_000_000 * NS_PER_S
"""A receipt after every sample: the year 2096."""
_HOSTILE: Final = (
    b"",
    b" \n\n",
    b"\x00" * 1000,
    b"\xff\xfe\xfd" * 100,
    b"null",
    b"true",
    b"123456789012345678901234567890",
    b'"text"',
    b"[[[[[[[[]]]]]]]]",
    b"{}",
    b'{"data":null,"hits":[],"filings":[],"messages":7}',
    b'{"data":[null,1,"x",{"text":{"text":[]}},[{"text":1}]]}',
    b'{"filings":{"recent":{"accessionNumber":[1,null,{}],"form":"8-K","acceptanceDateTime":[[]]}}}',
    b'{"hits":{"hits":[1,null,{"_source":[]},{"_source":{"display_names":[1],"items":{}}}]}}',
    b"[" * 25_000,
    b'{"a":' * 25_000,
    b"<rss><channel><item><title>x</title>",
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><rss><item>&c;</item></rss>',
    b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss><item><title>&x;</title></item></rss>',
    b"<a>" * 25_000,
    b"<div><script><style><!--" * 5_000,
    b"PK\x03\x04rest of an archive",
    b"\x1f\x8b\x08\x00broken gzip",
    b"&" * 25_000,
    "\u202e\u200b\u0430\u0440\u0440\u04cf\u0435 \ud7ff".encode() * 1000,
)


def _stamps(made: _Read) -> set[int]:
    return {one.ts_published for one in made if isinstance(one, Document)}


def _ids(made: _Read) -> list[str]:
    return [one.document_id for one in made if isinstance(one, Document)]
