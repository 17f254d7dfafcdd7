"""Cards: what was fitted and where it is from, and the form in which the lab writes such records.

They are read by people and compared by git: indented JSON, the same record the same bytes.
"""

from pathlib import Path

import msgspec


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What was fitted on planted cases and where it is from; each fit adds what it tried."""

    artifact: str
    """The file beside the card."""
    name: str
    licence: str
    generator: str
    """Hash of what the cases were planted by."""
    sources: tuple[str, ...]
    method: str


def readable(record: object, indent: int = 2) -> str:
    """Return a record as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(record), indent=indent).decode()


def write_record(path: Path, record: object, indent: int = 2) -> None:
    """Write a record as indented JSON."""
    path.write_bytes(readable(record, indent).encode() + b"\n")
