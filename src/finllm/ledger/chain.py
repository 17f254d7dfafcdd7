"""The hash chain: each entry's hash covers everything before it. Pure."""

import struct
from hashlib import sha256
from typing import Final

FORMAT: Final = 1
"""Version of the ledger's layout, chain included."""
GENESIS: Final = sha256(b"finllm ledger, format 1").digest()
"""The hash before the first entry."""
_FIXED: Final = struct.Struct("<32sqqII")


def link(previous: bytes, seq: int, kind: str, entry_id: str, ts: int, body: bytes) -> bytes:
    """Return an entry's hash: SHA-256 over the hash before it and every column of the entry.

    Numbers have fixed width and the two texts their length, so no two entries read the same.
    """
    kind_bytes, id_bytes = kind.encode(), entry_id.encode()
    fixed = _FIXED.pack(previous, seq, ts, len(kind_bytes), len(id_bytes))
    return sha256(b"".join((fixed, kind_bytes, id_bytes, body))).digest()
