"""What becomes of documents: each read, dated and admitted as a run would, and told. Forecasts nothing.

Takes files, the messages that a run journalled, or sources of the settings asked live.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from finllm.app.plugins import source_maker
from finllm.app.polling import PollCounts
from finllm.app.reader import open_room
from finllm.app.recording import Recorder, Start, read_messages
from finllm.app.settings import Settings, SourceSettings
from finllm.app.sources import Sources, reader_of
from finllm.domain.errors import InputError
from finllm.domain.evidence import Document, Refusal
from finllm.domain.units import NS_PER_MS, NS_PER_S, iso
from finllm.narrative.sources.body import MOST_BYTES
from finllm.narrative.sources.documents import read_documents
from finllm.narrative.sources.reading import Message, SourceReader
from finllm.runtime.clock import Clock, WallClock
from finllm.runtime.tally import Tally

_NAP_NS: Final = 20 * NS_PER_MS
MOST_LISTED: Final = 10_000
"""Fates that a report lists; the counts cover all."""


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one document."""

    fate: str
    """`admitted`, `copy` or `refused`."""
    place: str
    """Document id, or where it stood."""
    ts_recv: str = ""
    """ISO 8601, UTC."""
    reason: str = ""
    """Why it was refused, or of which document it is a copy."""
    source: str = ""
    lang: str = ""
    flags: tuple[str, ...] = ()
    changed: dict[str, int] = {}
    """What canonical form took away, where it did."""
    instruments: tuple[str, ...] = ()
    """About which it says something new."""
    text: str = ""
    """Its beginning, in canonical form or as it came."""


class Ingested(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all of them."""

    read: int
    admitted: int
    copies: int
    refused: dict[str, int]
    noted: dict[str, int]
    changed: dict[str, int]
    """Changes of canonical form, over all documents."""
    sources: dict[str, PollCounts] = {}
    offsets_s: dict[str, float] = {}
    """By source, the least recent delay from stamp to receipt, s."""
    fates: tuple[Fate, ...] = ()
    run: str = ""


class Ingest(msgspec.Struct, frozen=True, kw_only=True):
    """What to take in, and how."""

    files: tuple[Path, ...] = ()
    """Documents, messages of a `kind`, or folders of runs."""
    kind: str = ""
    """What takes each file apart as one message; empty = documents in our own form."""
    sources: tuple[str, ...] = ()
    """Names in the settings, asked live; without files, empty means all."""
    instruments: tuple[str, ...] = ()
    """What documents are linked to."""
    run: Path | None = None
    """Folder whose journal everything goes to."""
    stop: Callable[[], bool] | None = None
    """Told to end live sources; None ends once each has answered or failed once."""
    told: Callable[[Fate], None] = lambda _: None


class _Desk:
    """Admits one document after another, and counts."""

    def __init__(self, settings: Settings, asked: Ingest, recorder: Recorder | None) -> None:
        self.tally = Tally()
        self._asked, self._recorder = asked, recorder
        self._room = open_room(settings.narrative)
        for instrument in asked.instruments:
            self._room.watch(instrument)
        self._latest = 0
        self._n_copies = 0
        self._changed: dict[str, int] = {}
        self._fates: list[Fate] = []

    def journal(self, message: Message) -> None:
        if self._recorder is not None:
            self._recorder.message(message)

    def take(self, made: Document | Refusal) -> None:
        """Admit one document, or count why it could not be read."""
        fate = self._refused(made) if isinstance(made, Refusal) else self._admit(made)
        if len(self._fates) < MOST_LISTED:
            self._fates.append(fate)
        self._asked.told(fate)

    def _refused(self, refusal: Refusal) -> Fate:
        if self._recorder is not None:
            self._recorder.refusal(refusal)
        return Fate(
            fate="refused",
            place=refusal.place,
            reason=f"{refusal.reason}: {refusal.detail}" if refusal.detail else refusal.reason,
            ts_recv=iso(refusal.ts_recv) if refusal.ts_recv else "",
        )

    def _admit(self, document: Document) -> Fate:
        if document.ts_recv < self._latest:
            self.tally.note("clamped", document.document_id)
            document = msgspec.structs.replace(document, ts_recv=self._latest)
        self._latest = document.ts_recv
        if self._recorder is not None:
            self._recorder.document(document)
        admission = self._room.admit(document, document.ts_recv)
        if admission.refusal is not None:
            self.tally.drop(admission.refusal.reason, admission.refusal.place)
            return self._refused(admission.refusal)
        self.tally.used += 1
        self._n_copies += bool(admission.copy_of)
        changed = {k: n for k, n in msgspec.structs.asdict(admission.changed).items() if n}
        for name, n in changed.items():
            self._changed[name] = self._changed.get(name, 0) + n
        return Fate(
            fate="copy" if admission.copy_of else "admitted",
            place=document.document_id,
            reason=admission.copy_of,
            ts_recv=iso(document.ts_recv),
            source=document.source,
            lang=document.lang,
            flags=document.flags,
            changed=changed,
            instruments=tuple(notice.instrument for notice in admission.notices),
            text=" ".join(document.text[:300].split())[:120],
        )

    def report(self, sources: Sources | None) -> Ingested:
        tally = self.tally
        return Ingested(
            read=tally.read,
            admitted=tally.used - self._n_copies,
            copies=self._n_copies,
            refused=dict(sorted(tally.dropped.items())),
            noted=dict(sorted(tally.noted.items())),
            changed=dict(sorted(self._changed.items())),
            sources={} if sources is None else sources.counts,
            offsets_s={} if sources is None else sources.offsets_s,
            fates=tuple(self._fates),
            run="" if self._asked.run is None else str(self._asked.run),
        )


def ingest(settings: Settings, asked: Ingest, *, clock: Clock | None = None) -> Ingested:
    """Take documents in, and say what became of each.

    Raises:
        InputError: If nothing is named, or a file cannot be read.
        SettingsError: If a source or its kind is not known.
    """
    chosen = _chosen(settings, asked)
    if not asked.files and not chosen:
        raise InputError(
            "nothing to take in",
            place="ingest",
            mend="Name files, or write [[source]] in the settings and name them with --config.",
        )
    clock = clock or WallClock()
    with ExitStack() as undo:
        recorder = None
        if asked.run is not None:
            recorder = Recorder(asked.run, keep_frames=True)
            undo.callback(recorder.close)
            recorder.start(Start(venues=(), served_by=""))
        desk = _Desk(settings, asked, recorder)
        for made in _from_files(settings, asked, desk, clock):
            desk.take(made)
        sources = None
        if chosen:
            sources = undo.enter_context(
                Sources(chosen, tally=desk.tally, clock=clock, journal=desk.journal)
            )
            _live(sources, chosen, asked, desk, clock)
        return desk.report(sources)


def _chosen(settings: Settings, asked: Ingest) -> tuple[SourceSettings, ...]:
    if asked.files and not asked.sources:
        return ()
    known = {one.name: one for one in settings.source}
    for name in asked.sources:
        if name not in known:
            raise InputError(
                f"no source is named {name!r}",
                place="--source",
                mend=f"The settings know: {', '.join(known) or 'none'}.",
            )
    return tuple(known[name] for name in asked.sources) if asked.sources else settings.source


def _live(
    sources: Sources,
    chosen: Sequence[SourceSettings],
    asked: Ingest,
    desk: _Desk,
    clock: Clock,
) -> None:
    """Read what comes until told to stop, or until each polled source has been asked once."""
    polled = [one for one in chosen if one.url.startswith("http")]
    is_over = False
    while not is_over:
        # Asked first, so that what came until then is still read.
        is_over = (
            asked.stop()
            if asked.stop is not None
            else all(_has_answered(sources.counts[one.name]) for one in polled)
        )
        if is_over:
            sources.close()
        found = list(sources.read())
        while found:
            for made in found:
                desk.take(made)
            found = list(sources.read())
        if not is_over:
            clock.sleep(_NAP_NS)


def _has_answered(counts: PollCounts) -> bool:
    return counts.bodies + counts.not_modified + counts.refused_bodies + counts.failures > 0


def _from_files(
    settings: Settings, asked: Ingest, desk: _Desk, clock: Clock
) -> Iterator[Document | Refusal]:
    for path in asked.files:
        if path.is_dir():
            yield from _from_run(settings, path, desk)
        elif asked.kind:
            message = _message_of(path, asked.kind, clock.now())
            desk.journal(message)
            reader = SourceReader(asked.kind, source_maker(asked.kind, "--kind")(), desk.tally)
            yield from reader.read(message)
        else:
            delay_ns = int(settings.documents.delay_s * NS_PER_S)
            yield from read_documents(path, tally=desk.tally, delay_ns=delay_ns)


def _message_of(path: Path, kind: str, now: int) -> Message:
    try:
        with path.open("rb") as file:
            payload = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror or error}",
            place=str(path),
            mend="Name a readable file.",
        ) from error
    refused = "too_long" if len(payload) > MOST_BYTES else ""
    return Message(source=kind, ts_recv=now, payload=b"" if refused else payload, refused=refused)


def _from_run(settings: Settings, run: Path, desk: _Desk) -> Iterator[Document | Refusal]:
    """Read a run's messages again, each by the source of its name in the settings."""
    known = {one.name: one for one in settings.source}
    readers: dict[str, SourceReader] = {}
    for message in read_messages(run):
        if message.source not in readers:
            if message.source not in known:
                raise InputError(
                    f"holds messages of {message.source!r}, which the settings do not name",
                    place=str(run),
                    mend="Name the settings of the run with --config.",
                )
            readers[message.source] = reader_of(known[message.source], desk.tally)
        desk.journal(message)
        yield from readers[message.source].read(message)
    if not readers:
        raise InputError(
            "holds no messages of text sources", place=str(run), mend="Name a run that had any."
        )
