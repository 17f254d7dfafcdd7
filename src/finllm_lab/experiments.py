"""The workshop's append-only record: what was tried on which data, what it scored, what it opened.

One line of JSON an experiment, each with the hash of the line before, so that a trial cannot be taken out
without a trace: when significance is claimed, the number of trials is known. The validation part may be
opened `MAX_OPENINGS` times for one family of models; each opening is a line of its own, written before
anything is read.
"""

import fcntl
import os
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from finllm.domain.errors import InputError
from finllm.domain.units import iso
from finllm.runtime.clock import Clock, WallClock

FILE: Final = Path("docs/experiments.jsonl")
MAX_OPENINGS: Final = 3
_NOTHING: Final = "0" * 64


class Experiment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the record."""

    number: int
    """From 1, one by one."""
    at: str
    """UTC."""
    kind: Literal["trial", "opening", "waiver"]
    """A trial was scored; an opening lets the validation part be read; a waiver lets an alarm pass."""
    family: str
    """What kind of model it was about, such as `book`."""
    what: str
    """What was done, in words."""
    config: dict[str, Any] = {}
    data: dict[str, str] = {}
    """SHA-256 by recording."""
    scores: dict[str, float] = {}
    before: str = _NOTHING
    """SHA-256 of the line before."""


def experiments(file: Path = FILE) -> list[Experiment]:
    """Return every experiment, oldest first; none if there is no record yet.

    Raises:
        InputError: If a line cannot be read, or does not follow the one before it.
    """
    if not file.exists():
        return []
    found, before = [], _NOTHING
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            one = msgspec.json.decode(line, type=Experiment)
        except msgspec.DecodeError as error:
            raise _broken(file, number, str(error)) from error
        if one.number != number or one.before != before:
            raise _broken(file, number, "it does not follow the line before it")
        found.append(one)
        before = sha256(line).hexdigest()
    return found


def _broken(file: Path, number: int, why: str) -> InputError:
    return InputError(
        why, place=f"{file}:{number}", mend="The record is append-only: restore it from history."
    )


def record(
    kind: Literal["trial", "opening", "waiver"],
    family: str,
    what: str,
    *,
    config: dict[str, Any] | None = None,
    data: dict[str, str] | None = None,
    scores: dict[str, float] | None = None,
    clock: Clock | None = None,
    file: Path = FILE,
) -> Experiment:
    """Append one experiment, synced to the disk before this returns.

    Raises:
        InputError: If the record is broken.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as out:
        fcntl.flock(out, fcntl.LOCK_EX)
        past = experiments(file)
        lines = file.read_bytes().splitlines()
        one = Experiment(
            number=len(past) + 1,
            at=iso((clock or WallClock()).now()),
            kind=kind,
            family=family,
            what=what,
            config=config or {},
            data=data or {},
            scores=scores or {},
            before=sha256(lines[-1]).hexdigest() if lines else _NOTHING,
        )
        out.write(msgspec.json.encode(one) + b"\n")
        out.flush()
        os.fsync(out.fileno())
    return one


def open_validation(family: str, what: str, *, file: Path = FILE) -> Experiment:
    """Record that the validation part is about to be read for a family of models.

    Raises:
        InputError: If it has been opened as often as is allowed, or there is no record.
    """
    if not file.exists():
        raise InputError(
            "there is no record of experiments, so nobody can know how often the part was opened",
            place=str(file),
            mend="Run it where the record is, name it with --record, or begin one: an empty file.",
        )
    past = [one for one in experiments(file) if (one.kind, one.family) == ("opening", family)]
    if len(past) >= MAX_OPENINGS:
        raise InputError(
            f"the validation part was opened {len(past)} times for {family}, last: {past[-1].what}",
            place=str(file),
            mend="Choose on the training part; what is chosen on validation proves nothing there.",
        )
    return record("opening", family, what, file=file)
