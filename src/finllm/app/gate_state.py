"""What gates have learnt, from one run to the next: one file, and in a run's folder what it began with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from finllm.domain.errors import InputError
from finllm.domain.identity import canonical, content_id
from finllm.escalation.gate import Gate
from finllm.runtime.files import replace_file

BEGINNING: Final = "gate.state"
"""Of a run: what its gates began with."""
_FORMAT: Final = 1


class _State(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    format: int
    gates: dict[str, bytes]
    """`Appraiser.state`, by gate."""


def name_of(state: bytes) -> str:
    """Return the hash by which a journal names a state; empty for none."""
    return content_id(state) if state else ""


def read_state(path: Path) -> bytes:
    """Return a state as it was kept; nothing if there is no such file.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise _unusable(path, str(error.strerror or error)) from error


def read_beginning(run: Path, name: str) -> bytes:
    """Return what a run's gates began with.

    Args:
        run: The run's folder.
        name: As its journal names it; empty = they began with nothing.

    Raises:
        InputError: If its folder does not hold that.
    """
    if not name:
        return b""
    state = read_state(run / BEGINNING)
    if name_of(state) != name:
        raise InputError(
            "is not what the journal says that the run began with",
            place=str(run / BEGINNING),
            mend="Put back the file that the run wrote there.",
        )
    return state


def restore(gates: Mapping[str, Gate], state: bytes, path: Path) -> dict[str, bytes]:
    """Let gates go on from what was learnt; those that do not learn are left alone.

    Returns:
        All that was kept, by gate, also of gates that are not among these.

    Args:
        gates: By name.
        state: What was kept.
        path: Where it was, for whoever must mend it.

    Raises:
        InputError: If it is no such state, or one of another format.
    """
    try:
        held = msgspec.msgpack.decode(state, type=_State)
    except msgspec.DecodeError as error:
        raise _unusable(path, f"holds no state of a gate: {error}") from error
    if held.format != _FORMAT:
        raise _unusable(path, f"has format {held.format}, and this version reads {_FORMAT}")
    for name, gate in gates.items():
        if gate.appraiser is not None and name in held.gates:
            try:
                gate.appraiser.restore(held.gates[name])
            except InputError as error:
                raise _unusable(path, f"gate {name}: {error.what}") from error
    return held.gates


def _unusable(path: Path, what: str) -> InputError:
    return InputError(
        what,
        place=f"escalation.state {path}",
        mend="Move it away to learn afresh, or name another.",
    )


class Keeper:
    """Keeps what gates learn, at the run's end and now and then.

    Args:
        path: The file; None keeps nothing.
        gates: By name.
        held: What the file held, by gate; what is of no gate of these is kept as it is.
    """

    def __init__(
        self, path: Path | None, gates: Mapping[str, Gate], held: Mapping[str, bytes]
    ) -> None:
        self._path, self._gates, self._held = path, gates, held
        self.failed = ""
        """Why it could not be kept the last time."""

    def keep(self) -> None:
        """Write the file anew, whole or not at all."""
        if self._path is None:
            return
        learnt = dict(self._held) | {
            name: gate.appraiser.state
            for name, gate in self._gates.items()
            if gate.appraiser is not None
        }
        try:
            replace_file(self._path, canonical(_State(format=_FORMAT, gates=learnt)))
            self.failed = ""
        except OSError as error:
            self.failed = f"{self._path}: {error.strerror or error}"
