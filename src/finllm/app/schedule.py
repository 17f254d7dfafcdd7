"""A live run again: its journal, entry by entry, in one process and without a worker or an endpoint.

What workers serve depends on when they got round to it, so the journal of a live run is its schedule:
which frames were taken together, which rows were served with which parameters and when, when each
document came and each answer. Following it gives the live run's digest, byte for byte.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.app.pipeline import Pipeline
from finllm.app.recording import SERVED, Input, Start, read_ending
from finllm.app.wiring import Tallies
from finllm.domain.errors import InputError
from finllm.domain.evidence import Document, Refusal
from finllm.domain.forecast import forecast_row_dtype
from finllm.domain.market import Frame
from finllm.edge.bank import Bank
from finllm.edge.isolated import Served
from finllm.edge.serving import REGIME, ROW, SEQ, TS_EMIT, VERSION, entry_words, out_words, speak
from finllm.market.tape import Places
from finllm.runtime.files import read_segment, segments
from finllm.runtime.journal import read_journal

_CANCELLED: Final = "cancelled"
Progress = Callable[[int, int, int], None]


class Scheduled:
    """Serves rows when the schedule says so. Holds what may still be served.

    Args:
        bank: The models.
    """

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._entries: dict[int, dict[int, NDArray[np.int64]]] = {}
        self._parameters: dict[int, dict[int, NDArray[np.int64]]] = {}

    def put(self, key: int, entry: NDArray[np.int64]) -> None:
        """Hold an instrument's row, int64 [9 + F], until it or a later one is served."""
        self._entries.setdefault(key, {})[int(entry[SEQ])] = entry.copy()

    def set_parameters(self, key: int, parameters: NDArray[np.int64]) -> None:
        """Hold parameters that rows may be served with."""
        self._parameters.setdefault(key, {})[int(parameters[VERSION])] = parameters.copy()

    def serve(self, facts: NDArray[np.void]) -> Served:
        """Return rows (dtype `SERVED`) as they were served.

        Raises:
            InputError: If a row or its parameters do not come up in this replay.
        """
        keys, seqs, versions = (facts[name].tolist() for name in ("lane", "seq", "parameters"))
        try:
            entries = [self._entries[k].pop(s) for k, s in zip(keys, seqs, strict=True)]
            told = [self._parameters[k][v] for k, v in zip(keys, versions, strict=True)]
        except KeyError as missing:
            raise _differs(f"serves row or parameters {missing}, which do not come up") from missing
        n, horizons = len(keys), len(self._bank.horizons)
        held = np.array(entries).reshape(n, entry_words(len(self._bank.spec)))
        held_f = held.view(np.float64)
        raw = self._bank.infer(held_f[:, ROW:], held[:, REGIME])
        out = np.zeros((n, out_words(horizons)), dtype=np.int64)
        out[:, TS_EMIT] = facts["ts_emit"]
        for i, parameters in enumerate(told):
            speak(held[i], raw[i], parameters, out[i])
            self._forget(keys[i], seqs[i], versions[i])
        rows = out.view(forecast_row_dtype(horizons))[:, 0]
        for name in ("calibration_version", "outlook_version"):
            if not np.array_equal(rows[name], facts[name]):
                raise _differs(f"served another {name.replace('_', ' ')}")
        return Served(
            key=facts["lane"].astype(np.int64),
            parameters=facts["parameters"].astype(np.int64),
            rows=rows,
            entries=held,
        )

    def _forget(self, key: int, seq: int, version: int) -> None:
        for held, least in ((self._entries[key], seq), (self._parameters[key], version)):
            for old in [number for number in held if number < least]:
                del held[old]


def _differs(how: str) -> InputError:
    return InputError(
        f"it {how}",
        place="journal",
        mend="Replay it whole, with the version, the model and the settings that recorded it.",
    )


class _CutShortError(Exception):
    """A frame that the journal counts is not there."""


class Schedule:
    """The journal of a live run, to be followed.

    Args:
        run: The run's folder.
        start: What it began with.
        tallies: Counts of what is read.
    """

    def __init__(self, run: Path, start: Start, tallies: Tallies) -> None:
        self._run, self._model, self._tallies = run, start.served_by, tallies
        self.venues = start.venues
        self.places = Places()
        self._server: Scheduled | None = None
        self._frames: dict[int, Iterator[Frame]] = {}
        self._first = self._last = self._taken = 0

    def serve_by(self, bank: Bank) -> Scheduled:
        """Return what serves rows as the schedule says.

        Raises:
            InputError: If the model is not the one that served them live.
        """
        if bank.version != self._model:
            raise InputError(
                f"was served by {self._model}, and the model here is {bank.version}",
                place=str(self._run),
                mend="Set edge.book_artifact to the folder of the model that served it.",
            )
        self._server = Scheduled(bank)
        return self._server

    def drive(self, pipeline: Pipeline, progress: Progress | None) -> tuple[int, int]:
        """Drive a pipeline entry by entry; return the first and last receive times of the frames.

        Raises:
            InputError: If the journal asks for what does not come up.
        """
        doors = {
            Input.FRAMES: self._feed,
            Input.ROWS: self._serve,
            Input.DOCUMENT: self._document,
            Input.REFUSAL: self._refusal,
            Input.REPLY: self._reply,
            Input.TRACE: self._trace,
        }
        for number, kind, body in read_journal(self._run / "journal", "run"):
            if kind in doors:
                try:
                    doors[Input(kind)](pipeline, body)
                except _CutShortError as cut:
                    if read_ending(self._run) is not None:
                        raise _differs("holds fewer frames than it says") from cut
                    # It was killed, and the disk kept less of the frames than of their order.
                    self._tallies.frames.note("cut_short", f"journal, entry {number}")
                    break
            if kind == Input.FRAMES and progress is not None:
                progress(self._taken, self._first, self._last)
        return self._first, self._last

    def _feed(self, pipeline: Pipeline, body: bytes) -> None:
        sources = np.frombuffer(body, dtype=np.uint16).tolist()
        try:
            chunk = [next(self._of(source)) for source in sources]
        except StopIteration as missing:
            raise _CutShortError from missing
        pipeline.feed(chunk)
        self._taken += len(chunk)
        self._first = self._first or chunk[0].ts_recv
        self._last = chunk[-1].ts_recv

    def _of(self, source: int) -> Iterator[Frame]:
        if source not in self._frames:
            self._frames[source] = self._read(source)
        return self._frames[source]

    def _read(self, source: int) -> Iterator[Frame]:
        """Yield a source's frames exactly as they were used: nothing is put in order or left out."""
        before = 0
        for path in segments(self._run / "journal", f"frames-{source}", ".txt"):
            self.places.begin(source, before, path)
            lines = read_segment(path).split(b"\n")[:-1]
            for number, line in enumerate(lines, before + 1):
                ts, _, payload = line.partition(b" ")
                self._tallies.frames.read += 1
                yield Frame(ts_recv=int(ts), payload=payload, source=source, line=number)
            before += len(lines)

    def _serve(self, pipeline: Pipeline, body: bytes) -> None:
        if self._server is None:
            raise _differs("serves rows, and no model was named to serve them by")
        pipeline.take(self._server.serve(np.frombuffer(body, dtype=SERVED)))

    def _document(self, pipeline: Pipeline, body: bytes) -> None:
        self._tallies.documents.read += 1
        pipeline.tell(msgspec.msgpack.decode(body, type=Document))

    def _refusal(self, pipeline: Pipeline, body: bytes) -> None:
        refusal = msgspec.msgpack.decode(body, type=Refusal)
        self._tallies.documents.read += 1
        self._tallies.documents.drop(refusal.reason, refusal.place)
        pipeline.tell(refusal)

    @staticmethod
    def _reply(pipeline: Pipeline, body: bytes) -> None:
        question_id, _, came, end = msgspec.msgpack.decode(body)
        if end != _CANCELLED:
            pipeline.answer(question_id, came)

    @staticmethod
    def _trace(pipeline: Pipeline, body: bytes) -> None:
        pipeline.explain(msgspec.msgpack.decode(body, type=str))
