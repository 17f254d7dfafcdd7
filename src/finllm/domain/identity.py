"""Ids and digests: pure functions of content, so that a replay gives the same ids."""

from hashlib import blake2b

import msgspec

_ENCODER = msgspec.msgpack.Encoder(order="deterministic")


def canonical(record: object) -> bytes:
    """Return a record's canonical bytes: MessagePack, fields in declared order, maps sorted."""
    return _ENCODER.encode(record)


def content_id(*parts: object) -> str:
    """Return 32 hex digits that name exactly these parts (BLAKE2b, 128 bits)."""
    return blake2b(canonical(parts), digest_size=16).hexdigest()
