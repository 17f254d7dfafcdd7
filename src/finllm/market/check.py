"""Is a feed decoded well? Runs recordings through their venues and holds the result to the venues' word.

A feed passes when it makes rows, nothing of it is unusable, no number is missing, no trusted book is
crossed, and every checksum and every touch that can be compared agrees.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from finllm.domain.market import BookView, Flag, Frame, Gap, RowKind
from finllm.market.capture import line_at, look, read_recordings
from finllm.market.markets import Books, open_market, venue_of
from finllm.runtime.tally import Tally

HARMLESS: Final = frozenset(
    {
        "acknowledgement", "before_snapshot", "heartbeat", "no_aggressor", "no_change",
        "no_events", "old_diff", "old_message",
        "old_snapshot", "old_touch", "old_trade", "stale_snapshot", "suspicious", "unknown_stream",
    }
)  # fmt: skip
"""Reasons for which a sound feed drops messages too."""
_MENDS: Final = {
    "no_snapshot": "No whole book came to start from: give the file with the REST snapshot as well.",
    "unnamed_snapshot": "A snapshot has to name its symbol: keep the address that it was asked from.",
    "bad_json": "The line is cut or garbled: record it again.",
    "bad_utf8": "The line is cut or garbled: record it again.",
    "torn_line": "The recording was cut off: record it again, or delete its last line.",
    "broken_time": "A line begins with its receive time; write it in front.",
    "failed_checksum": "Messages before this line are missing, or the checksum is computed wrongly.",
}
_OTHER_MEND: Final = "Compare the line with what the venue's file under market/venues expects."
_VALID, _CROSSED = int(Flag.VALID), int(Flag.CROSSED)
_UNVERIFIED, _RESYNCING = int(Flag.UNVERIFIED), int(Flag.RESYNCING)
_KINDS: Final = {int(kind): kind.name.lower() for kind in RowKind}
_PLACE: Final = re.compile(r"source (\d+), ts_recv (\d+)$")


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Comparisons with what the venue itself says."""

    done: int
    equal: int


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one instrument."""

    instrument: str
    tick_size: float
    lot_size: float
    contract_multiplier: float
    source: str
    """Where tick, lot and multiplier come from."""
    rows: dict[str, int]
    """By kind."""
    is_unverified: bool
    """The stream has no continuity rule."""
    resyncing: int
    """Rows without a trustworthy depth."""
    crossed: int
    """Rows whose bid is above the ask, though the book counts as whole."""
    gaps: int
    touches: Compared
    checksums: Compared


class Complaint(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, and what to do about it."""

    what: str
    count: int
    place: str
    """File and line where it was first met, or the instrument."""
    mend: str


class Frames(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the messages."""

    read: int
    used: int
    dropped: dict[str, int]
    noted: dict[str, int]


class FeedReport(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a feed passes, and why not."""

    ok: bool
    venues: dict[str, str]
    """By file."""
    frames: Frames
    streams: list[Stream]
    complaints: list[Complaint]


class _Counts:
    """What the rows of one instrument showed."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.crossed = 0
        self.resyncing = 0
        self.unverified = 0
        self.gaps: list[Gap] = []

    def see(self, kind: int, flags: int) -> None:
        """Count a row."""
        name = _KINDS[kind]
        self.rows[name] = self.rows.get(name, 0) + 1
        self.crossed += flags & (_VALID | _CROSSED) == _VALID | _CROSSED
        self.resyncing += flags & _RESYNCING != 0
        self.unverified += flags & _UNVERIFIED != 0


def check_feed(paths: Sequence[Path], venue: str = "") -> FeedReport:
    """Decode recordings and report what agrees and what does not.

    Args:
        paths: Tapes or captures of one feed; files that belong together (sockets, REST answers) merge.
        venue: The venue's name, where the files do not tell.

    Raises:
        InputError: If a file cannot be read, or nothing tells whose messages it holds.
    """
    names = [venue_of(look(path), venue) for path in paths]
    tally = Tally()
    books = open_market(names, tally)
    counts: list[_Counts] = []
    gaps: dict[str, list[Gap]] = {}
    for frame in read_recordings(paths, tally):
        _take(books, frame, counts)
        for gap in books.gaps:
            gaps.setdefault(gap.instrument, []).append(gap)
        books.gaps.clear()
    books.finish()
    while len(counts) < len(books.instruments):
        counts.append(_Counts())
    for count, instrument in zip(counts, books.instruments, strict=True):
        count.gaps = gaps.get(instrument.key, [])
    streams = [_stream(books, index, count) for index, count in enumerate(counts)]
    complaints = [*_of_frames(tally, paths), *_of_streams(streams, counts, paths)]
    if not any(stream.rows for stream in streams):
        mend = f"Is this {', '.join(dict.fromkeys(names))}? Say whose it is with --venue NAME."
        complaints.append(Complaint(what="no rows", count=1, place=str(paths[0]), mend=mend))
    return FeedReport(
        ok=not complaints,
        venues={str(path): name for path, name in zip(paths, names, strict=True)},
        frames=Frames(
            read=tally.read,
            used=tally.used,
            dropped=dict(sorted(tally.dropped.items())),
            noted=dict(sorted(tally.noted.items())),
        ),
        streams=streams,
        complaints=complaints,
    )


def _take(books: Books, frame: Frame, counts: list[_Counts]) -> None:
    index = books.push(frame)
    while index >= 0:
        while len(counts) <= index:
            counts.append(_Counts())
        view = books.view(index)
        counts[index].see(int(view[BookView.KIND]), int(view[BookView.FLAGS]))
        index = books.more()


def _stream(books: Books, index: int, count: _Counts) -> Stream:
    instrument, checks = books.instruments[index], books.checks_of(index)
    return Stream(
        instrument=instrument.key,
        tick_size=instrument.tick_size,
        lot_size=instrument.lot_size,
        contract_multiplier=instrument.contract_multiplier,
        source=instrument.source,
        rows=dict(sorted(count.rows.items())),
        is_unverified=count.unverified > 0,
        resyncing=count.resyncing,
        crossed=count.crossed,
        gaps=len(count.gaps),
        touches=Compared(done=checks.done, equal=checks.equal),
        checksums=Compared(done=checks.checksums, equal=checks.checksums_equal),
    )


def _of_frames(tally: Tally, paths: Sequence[Path]) -> list[Complaint]:
    return [
        Complaint(
            what=reason,
            count=count,
            place=_located(tally.first_place.get(reason, ""), paths),
            mend=_MENDS.get(reason, _OTHER_MEND),
        )
        for reason, count in sorted(tally.dropped.items())
        if reason not in HARMLESS
    ]


def _of_streams(
    streams: list[Stream], counts: list[_Counts], paths: Sequence[Path]
) -> list[Complaint]:
    found = []
    for stream, count in zip(streams, counts, strict=True):
        if count.gaps:
            first = count.gaps[0]
            what = f"{first.reason}: {first.to_sequence} after {first.from_sequence}"
            mend = (
                "Messages are missing before this line, or the continuity rule is not the venue's."
            )
            at = f"{stream.instrument}, {_first_line(paths, first.ts_recv)}"
            found.append(Complaint(what=what, count=stream.gaps, place=at, mend=mend))
        for what, compared in (("touch", stream.touches), ("checksum", stream.checksums)):
            if wrong := compared.done - compared.equal:
                mend = f"The book is not the venue's: {_OTHER_MEND[0].lower()}{_OTHER_MEND[1:]}"
                found.append(
                    Complaint(
                        what=f"{what} differs", count=wrong, place=stream.instrument, mend=mend
                    )
                )
        if stream.crossed:
            mend = (
                "Deleted levels stay in the book: see how the venue deletes, and how deep it sends."
            )
            found.append(
                Complaint(what="crossed", count=stream.crossed, place=stream.instrument, mend=mend)
            )
    return found


def _located(place: str, paths: Sequence[Path]) -> str:
    """Return a place by file and line, where it was given by source and time."""
    found = _PLACE.search(place)
    if found is None:
        return place
    path = paths[int(found[1])]
    return f"{path}:{line_at(path, int(found[2]))}"


def _first_line(paths: Sequence[Path], ts_recv: int) -> str:
    if len(paths) == 1:
        return f"{paths[0]}:{line_at(paths[0], ts_recv)}"
    return f"ts_recv {ts_recv}"
