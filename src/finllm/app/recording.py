"""A run's folder: its ledger, its journal of inputs and choices, and its summary.

RUN/
  run.json           what was read, used, dropped; the digest; where the inputs were
  ledger/            every record that was emitted
  gate.state         what its gates had learnt before it, if anything
  memory.sqlite      what was known when: documents, claims and what became of them
  journal/           the order of inputs, and every scheduling choice
    frames-0-*.txt   raw frames of source 0, when they came live and not from a tape
    documents-*.jsonl  documents in order of receipt, likewise
    messages-*.jnl     what text sources sent, as it came, each before it was read
"""

import re
import shutil
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.app.gate_state import BEGINNING
from finllm.app.tiers import TierSettings
from finllm.domain.completion import Completion
from finllm.domain.errors import InputError, TamperedError
from finllm.domain.evidence import Document, Refusal
from finllm.domain.identity import canonical
from finllm.domain.market import Bar, Frame
from finllm.narrative.memory.schema import NAME as MEMORY
from finllm.narrative.sources.reading import Message
from finllm.reasoning.ensemble.settings import EnsembleSettings, MemberSettings
from finllm.reasoning.ensemble.track import Scored
from finllm.reasoning.llm.settings import LlmSettings
from finllm.runtime.files import Bounds, SegmentedFile, segments
from finllm.runtime.journal import Journal, LineJournal, read_journal


class Input(IntEnum):
    """Kinds of journal entry: inputs in the order they were used, and choices."""

    FRAMES = 1
    """uint16 source indices of one chunk of frames."""
    BAR = 2
    DOCUMENT = 3
    ROWS = 4
    """`SERVED` entries of one chunk."""
    CHOICE = 5
    """The gate's answer."""
    REPLY = 6
    """Question id, when it was asked, when its answer came, and how it ended."""
    HEAD = 7
    """The ledger's count and hash."""
    START = 8
    """First entry: a `Start`."""
    REFUSAL = 9
    """A document that could not be read."""
    COMPLETION = 10
    """An exchange with a language model, before it is used: a `Completion`."""
    TRACE = 11
    """The id of a verdict whose trace was written or dropped."""


SERVED = np.dtype(
    [
        ("lane", np.int32),
        ("seq", np.int64),
        ("ts_emit", np.int64),
        ("calibration_version", np.int32),
        ("outlook_version", np.int32),
        ("parameters", np.int64),  # version of all that the edge was told with the row
    ]
)
"""What was in force when a row was served."""
SUMMARY: Final = "run.json"


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What a run began with."""

    venues: tuple[str, ...]
    """The venue of each source of frames, by source index; none stands for Binance."""
    served_by: str
    """Version of the book model whose workers served the rows; empty if they were served at once.
    The entries of a run that had workers are, in their order, the schedule that its replay follows."""
    llm: LlmSettings | None = None
    """The language model that was asked; its key is not in it."""
    members: tuple[MemberSettings, ...] = ()
    """The members of the ensemble that was asked."""
    ensemble: EnsembleSettings = EnsembleSettings()
    scored: tuple[Scored, ...] = ()
    """What the members' track record began with."""
    tiers: tuple[TierSettings, ...] = ()
    """Who was asked in turn; empty in a run of before there were tiers: the dearest of them alone."""
    gates: str = ""
    """Hash of what its gates had learnt before, which stands in its folder; empty = nothing."""

    @property
    def asked(self) -> bool:
        """Return whether any language model was asked."""
        return self.llm is not None or bool(self.members)


_FRAMES: Final = re.compile(r"frames-(\d+)-\d{6,}\.txt(\.gz)?")


class LedgerHead(msgspec.Struct, frozen=True, kw_only=True):
    """How many records the ledger acknowledged, and the hash of the last."""

    count: int
    hash: str


_MESSAGES: Final = "messages"
_MESSAGE: Final = 1
"""Kind of the entries of the journal of messages."""


class Traces(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the traces."""

    written: int = 0
    dropped: int = 0
    """Not written, because the slow path was behind."""
    refused: int = 0
    """Of those written: too little of it holds."""
    struck: int = 0
    """Statements of those written that do not hold."""
    unfaithful: int = 0
    """Of those written: their terms do not tell what the verdict would be without them."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a run's summary that says how it ended."""

    ledger: LedgerHead
    digest: str = ""
    recording: str
    """`ok`, or why recording stopped."""
    explained: bool = True
    """Whether traces were to be written."""
    traces: Traces = Traces()
    """What became of them."""


def read_ending(run: Path) -> Ending | None:
    """Return how a run ended; None if it wrote no summary, as a killed one.

    Raises:
        TamperedError: If there is a summary that cannot be read.
    """
    path = run / SUMMARY
    try:
        return msgspec.json.decode(path.read_bytes(), type=Ending)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as why:
        raise TamperedError(f"{path}: {why}") from why


def read_start(run: Path) -> Start | None:
    """Return what a run began with; None if its journal does not say.

    Raises:
        InputError: If another version of this program began it with settings that this one does not know.
    """
    if not (run / "journal").is_dir():
        return None
    for _, kind, body in read_journal(run / "journal", "run"):
        if kind != Input.START:
            return None
        try:
            return msgspec.msgpack.decode(body, type=Start)
        except msgspec.ValidationError as error:
            raise InputError(
                f"was begun with settings that this version does not know ({error})",
                place=str(run),
                mend="Replay it with the version that recorded it.",
            ) from error
    return None


def read_completions(run: Path) -> dict[str, Completion]:
    """Return a run's exchanges with a language model, by question id.

    Raises:
        TamperedError: If the journal is damaged otherwise than by breaking off.
    """
    found = {}
    for _, kind, body in read_journal(run / "journal", "run"):
        if kind == Input.COMPLETION:
            completion = msgspec.msgpack.decode(body, type=Completion)
            found[completion.question_id] = completion
    return found


def read_messages(run: Path) -> Iterator[Message]:
    """Yield what a run's text sources sent, in the order in which it was read.

    Raises:
        TamperedError: If the journal is damaged otherwise than by breaking off.
    """
    if segments(run / "journal", _MESSAGES, ".jnl"):
        for _, kind, body in read_journal(run / "journal", _MESSAGES):
            if kind == _MESSAGE:
                yield msgspec.msgpack.decode(body, type=Message)


def new_run_folder(root: Path, prefix: str) -> Path:
    """Create and return the next free folder `root/prefix-0001`, `-0002`, and so on."""
    root.mkdir(parents=True, exist_ok=True)
    taken = [int(p.name.rsplit("-", 1)[1]) for p in root.glob(f"{prefix}-[0-9][0-9][0-9][0-9]")]
    folder = root / f"{prefix}-{max(taken, default=0) + 1:04d}"
    folder.mkdir()
    return folder


def check_run_folder(folder: Path) -> Path:
    """Return a run's folder, having seen that it is one.

    Raises:
        InputError: If there is no run in the folder.
    """
    if not (folder / "ledger").is_dir():
        raise InputError(
            "holds no run", place=str(folder), mend="Name a folder that replay or demo wrote."
        )
    return folder


def newest_run(root: Path) -> Path:
    """Return the run under `root` that ended last; one that was cut off is not meant.

    Raises:
        InputError: If there is none.
    """
    found = [p.parent for p in root.glob(f"*/{SUMMARY}") if (p.parent / "ledger").is_dir()]
    if not found:
        raise InputError("holds no run yet", place=str(root), mend="Run 'finllm demo' first.")
    return max(found, key=lambda p: (p.stat().st_mtime_ns, p.name))


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """The files of what a run recorded, each list in order."""

    frames: list[list[Path]]
    """A list for each source that sent anything."""
    venues: list[str]
    """Of each of these sources; empty if the run does not say."""
    documents: list[Path]


def recorded(run: Path) -> Recorded:
    """Return the files of a run's recorded frames and documents.

    Raises:
        InputError: If the run recorded no frames.
    """
    folder = run / "journal"
    names = (_FRAMES.fullmatch(path.name) for path in folder.glob("frames-*"))
    sources = sorted({int(name[1]) for name in names if name})
    if not sources:
        raise InputError(
            "holds no recorded frames",
            place=str(run),
            mend="Name a tape, or the folder of a run that recorded its frames, as a live one does.",
        )
    start = read_start(run)
    return Recorded(
        frames=[segments(folder, f"frames-{source}", ".txt") for source in sources],
        venues=[start.venues[s] for s in sources] if start and start.venues else [],
        documents=segments(folder, "documents", ".jsonl"),
    )


def discard(run: Path) -> None:
    """Remove what a run wrote that came to nothing, so that its folder can be used again."""
    for part in ("ledger", "journal"):
        shutil.rmtree(run / part, ignore_errors=True)
    for file in (*run.glob(f"{MEMORY}*"), *run.glob(BEGINNING)):
        file.unlink()


class Recorder:
    """Writes one run's journal; nothing here decides anything.

    Args:
        folder: The run's folder.
        keep_frames: Whether to keep raw frames and documents: needed when they come from no file.
        on_failure: Called with the reason if recording has to stop, such as on a full disk.
        bounds: How each file is cut up, and how much of it is kept.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_frames: bool,
        on_failure: Callable[[str], None] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self._folder = folder / "journal"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._on_failure = on_failure
        self._bounds = bounds or Bounds()
        self._journal = Journal.create(
            self._folder,
            name="run",
            rotate_bytes=self._bounds.rotate_bytes,
            retain_bytes=self._bounds.retain_bytes,
            batch_bytes=self._bounds.batch_bytes,
            on_failure=on_failure,
        )
        self._keep = keep_frames
        self._lines: dict[int, LineJournal] = {}
        self._messages: Journal | None = None
        self._documents = (
            SegmentedFile(self._folder, "documents", ".jsonl", bounds=bounds, on_failure=on_failure)
            if keep_frames
            else None
        )

    @property
    def failed(self) -> str | None:
        """Return why recording stopped, or None while it goes on."""
        return next((file.failed for file in self._files if file.failed is not None), None)

    @property
    def lost(self) -> int:
        """Return how many inputs and choices were taken and not recorded."""
        return sum(file.lost for file in self._files)

    @property
    def deleted_segments(self) -> int:
        """Return how many old segments the retention bound has deleted."""
        return sum(file.deleted_segments for file in self._files)

    @property
    def compress_failures(self) -> int:
        """Return how many closed segments stayed uncompressed."""
        return sum(file.compress_failures for file in self._files)

    @property
    def _files(self) -> list[Journal | LineJournal | SegmentedFile]:
        further = [file for file in (self._documents, self._messages) if file is not None]
        return [self._journal, *self._lines.values(), *further]

    def flush(self) -> None:
        """Hand everything recorded so far to the operating system."""
        for file in self._files:
            file.flush()

    def frames(self, chunk: list[Frame]) -> None:
        """Record the order of a chunk of frames, and the frames themselves if they are kept.

        Kept frames have been handed to the operating system on return: no tape could bring them back.
        """
        if self._keep:
            for frame in chunk:
                self._line(frame.source).append(frame.ts_recv, frame.payload)
            for line in self._lines.values():  # first, so that no entry is without its frames
                line.flush()
        self._journal.append(
            Input.FRAMES, np.array([frame.source for frame in chunk], dtype=np.uint16).tobytes()
        )
        if self._keep:
            self._journal.flush()

    def _line(self, source: int) -> LineJournal:
        if source not in self._lines:
            self._lines[source] = LineJournal.create(
                self._folder,
                source=f"frames-{source}",
                bounds=self._bounds,
                on_failure=self._on_failure,
            )
        return self._lines[source]

    def bars(self, chunk: list[Bar]) -> None:
        """Record a chunk of bars before it is used."""
        for bar in chunk:
            self._journal.append(Input.BAR, canonical(bar))
        if self._keep:
            self.flush()

    def message(self, message: Message) -> None:
        """Record what a text source sent, as it came, before it is read."""
        if self._messages is None:
            self._messages = Journal.create(
                self._folder,
                name=_MESSAGES,
                rotate_bytes=self._bounds.rotate_bytes,
                retain_bytes=self._bounds.retain_bytes,
                batch_bytes=self._bounds.batch_bytes,
                on_failure=self._on_failure,
            )
        self._messages.append(_MESSAGE, canonical(message))
        self._messages.flush()

    def document(self, document: Document) -> None:
        """Record a document before it is used."""
        if self._documents is not None:
            self._documents.add(_line_of(document))
            self._documents.flush()
        self._journal.append(Input.DOCUMENT, canonical(document))
        if self._documents is not None:
            self._journal.flush()

    def start(self, start: Start) -> None:
        """Record what the run begins with, before anything else."""
        self._journal.append(Input.START, canonical(start))

    def refusal(self, refusal: Refusal) -> None:
        """Record that a document could not be read."""
        self._journal.append(Input.REFUSAL, canonical(refusal))

    def choice(self, record: object) -> None:
        """Record the gate's answer."""
        self._journal.append(Input.CHOICE, canonical(record))

    def completion(self, completion: Completion) -> None:
        """Record an exchange with a language model, before it is used."""
        self._journal.append(Input.COMPLETION, canonical(completion))
        if self._keep:
            self._journal.flush()

    def reply(self, question_id: str, asked: int, came: int, end: str) -> None:
        """Record how a request to the reasoner ended: `answer`, or `cancelled` by the run's end."""
        self._journal.append(Input.REPLY, canonical((question_id, asked, came, end)))

    def trace(self, verdict_id: str) -> None:
        """Record that a verdict's turn to be explained has come."""
        self._journal.append(Input.TRACE, canonical(verdict_id))

    def rows(self, served: NDArray[np.void]) -> None:
        """Record what was in force for each served row (dtype `SERVED`)."""
        self._journal.append(Input.ROWS, served.tobytes())

    def head(self, count: int, digest: str) -> None:
        """Record the ledger's head, so that an older copy of the ledger is noticed."""
        self._journal.append(Input.HEAD, canonical((count, digest)))

    def close(self) -> None:
        """Hand everything to the operating system and close."""
        for line in self._lines.values():
            line.close()
        if self._documents is not None:
            self._documents.close()
        if self._messages is not None:
            self._messages.sync()
            self._messages.close()
        self._journal.sync()
        self._journal.close()


def _line_of(document: Document) -> bytes:
    """Return a document as one JSON line, in the form that `read_documents` takes."""
    line = {
        "source": document.source,
        "ts_published_ns": document.ts_published,
        "ts_recv_ns": document.ts_recv,
        "lang": document.lang,
        "text": document.text,
        "symbols": document.symbols,
        "author": document.author,
        "followers": document.followers,
        "retweet": int(document.is_repost),
        "verified": int(document.is_verified),
        "flags": document.flags,
    }
    return msgspec.json.encode(line) + b"\n"
