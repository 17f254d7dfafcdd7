"""What is known of each recording before anybody trains on it, and the check that it is still the same.

`recordings.json` beside this file pins every file's hash, and says its licence class, where it came from
and what it may be used for; and what was counted in it: rows, times, the balance of classes and regimes,
and how many grid points nearly repeat the one before. Outcomes are counted on training recordings only,
for counting them elsewhere would open a part that is to stay shut. Knows nothing of models.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

import msgspec

from finllm.domain.errors import InputError
from finllm_lab.cards import write_record

FILE: Final = Path(__file__).with_name("recordings.json")
_CHUNK: Final = 1 << 20


class Counts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was counted of one instrument of a recording."""

    rows: int
    """Feature rows."""
    grid: int
    """Grid points: good rows at least the grid's step apart."""
    repeated: float
    """Share of grid points whose features are those of the one before, to a hundredth of a deviation."""
    regimes: dict[str, float] = {}
    """Share of grid points in each regime."""
    classes: dict[str, tuple[float, float, float]] = {}
    """By horizon: shares of down, flat and up; none where outcomes are not to be looked at."""


class Recording(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file."""

    path: str
    """Below the data folder."""
    sha256: str
    licence: Literal["A", "N", "U"]
    """A open, N non-commercial or share-alike, U not stated."""
    origin: str
    use: Literal["train", "validate"]
    train_until: str = ""
    """Where one file serves both: what was received later validates. UTC."""
    starts: str = ""
    """Receive time of the first row, UTC."""
    ends: str = ""
    instruments: dict[str, Counts] = {}


def recordings(file: Path = FILE) -> dict[str, Recording]:
    """Return every recording that is entered, by its path below the data folder.

    Raises:
        InputError: If the manifest cannot be read.
    """
    try:
        rows = msgspec.json.decode(file.read_bytes(), type=list[Recording])
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(
            str(error), place=str(file), mend="Restore it from version control."
        ) from error
    return {row.path: row for row in rows}


def write(rows: Mapping[str, Recording], file: Path = FILE) -> None:
    """Write a manifest, in the order of the paths."""
    ordered = [rows[path] for path in sorted(rows)]
    write_record(file, ordered, indent=1)


def checked(root: Path, path: str, *, use: str = "", file: Path = FILE) -> Path:
    """Return a recording's file, having seen that it is the one that was entered.

    Args:
        root: The data folder.
        path: Below it.
        use: What it is wanted for; empty asks nothing.
        file: The manifest.

    Raises:
        InputError: If it is not entered, not there, for another use, or was changed.
    """
    entry = recordings(file).get(path)
    if entry is None:
        raise InputError(
            f"{path} is not entered",
            place=str(file),
            mend="Enter it: hash, licence class, origin and use.",
        )
    is_split = use == "validate" and entry.train_until
    if use and entry.use != use and not is_split:
        raise InputError(
            f"{path} is entered to {entry.use}, not to {use}",
            place=str(file),
            mend="A part that was trained on proves nothing: take another recording.",
        )
    found = hash_of(root / path)
    if found != entry.sha256:
        raise InputError(
            f"sha256 is {found[:12]}..., the manifest says {entry.sha256[:12]}...",
            place=str(root / path),
            mend="The file was changed since it was entered: fetch it anew, or enter it as another.",
        )
    return root / path


def hash_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal.

    Raises:
        InputError: If it cannot be read.
    """
    digest = sha256()
    try:
        with path.open("rb") as body:
            while chunk := body.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}",
            place=str(path),
            mend="Point --data at the folder that holds orderbook/ and text_price/.",
        ) from error
    return digest.hexdigest()
