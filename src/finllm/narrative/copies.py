"""Copies: which text has been seen before, and how like the recent ones a new one is.

An exact copy is found by the hash of the normalised text, a near copy by MinHash over character
5-grams with locality-sensitive hashing. Only first appearances are kept, in a ring, so that a million
copies cost nothing; the hash table is direct-mapped (the newest wins), so memory is fixed.

Source:
    Broder (1997), "On the resemblance and containment of documents"; Leskovec, Rajaraman & Ullman,
    "Mining of Massive Datasets", chapter 3.
"""

import re
from hashlib import blake2b
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from finllm.narrative.claims import denies
from finllm.runtime.kernels import kernel

Signature = npt.NDArray[np.uint32]
"""[N_HASHES], the least hash of the text's 5-grams under each permutation."""

N_HASHES: Final = 128
N_BANDS: Final = 32
N_ROWS: Final = N_HASHES // N_BANDS
GRAM: Final = 5
SEED: Final = 0x5EED_0F_C0F1E5
_MASK: Final = (1 << 64) - 1

# How people frame what they pass on.
_REPOST = re.compile(
    r"^\s*(?:(?:rt|breaking(?: news)?|just in|developing|update|alert|exclusive|flash|headline)\b[\s:|-]*"
    r"|@\w+:?\s*)+",
    re.IGNORECASE,
)
_VIA = re.compile(
    r"(?:\s*(?:[-(|]\s*(?:via|per|source:?|h/t|from)\s[^()\n]{1,60}\)?|- more to follow|#\w{1,40}))+\s*$",
    re.IGNORECASE,
)
_CUT = re.compile(r"\S*(?:\u2026|\.\.\.)\s*$")
_NOT_WORD = re.compile(r"[\W_]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
# One of these more or less turns a near copy into another claim.
_TURNING: Final = frozenset(
    {
        "inflow", "inflows", "outflow", "outflows", "hike", "strong", "weak", "stronger", "weaker",
        "good", "bad", "softens", "recovers",
        "not", "no", "never", "without", "deny", "denies", "denied", "denial", "false",
        "fake", "hoax", "untrue", "beat", "beats", "miss", "misses", "rise", "rises",
        "rose", "fall", "falls", "fell", "up", "down", "above", "below", "raise",
        "raises", "raised", "cut", "cuts", "lower", "lowers", "lowered", "buy", "sell",
        "long", "short", "gain", "gains", "loss", "losses", "approve", "approves",
        "approved", "reject", "rejects", "rejected", "win", "wins", "won", "lose",
        "loses", "lost", "profit", "increase", "increases", "increased", "decrease",
        "decreases", "decreased", "upgrade", "upgrades", "upgraded", "downgrade",
        "downgrades", "downgraded", "hawkish", "dovish", "higher", "surge", "surges",
        "plunge", "plunges", "jump", "jumps", "drop", "drops", "bullish", "bearish",
        "resume", "resumes", "halt", "halts",
    }
)  # fmt: skip


_DENIAL: Final = "<denial>"


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What copy recognition needs of one text."""

    key: str
    """Normalised text: case, punctuation, handles and a cut-off end taken away."""
    numbers: frozenset[str]
    turning: frozenset[str]
    """Words that turn a claim round."""
    is_cut: bool
    """The text ends in an ellipsis: what is missing may be in the original."""


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """The earlier text that is most like a new one."""

    slot: int
    """-1 = none was like it."""
    similarity: float = 0.0
    """Estimated Jaccard similarity of the 5-grams; 1 for an exact copy."""
    is_copy: bool = False


def read_for_copies(text: str) -> Reading:
    """Return what copy recognition needs of a canonical text."""
    body = _REPOST.sub("", text.casefold(), count=1)
    body = _framed(body)
    cut = _CUT.search(body)
    if cut is not None and cut.start() > 0:
        body = body[: cut.start()]
    key = _NOT_WORD.sub(" ", body).strip() or body.strip() or text
    return Reading(
        key=key,
        numbers=frozenset(_NUMBER.findall(body)[:64]),
        turning=_TURNING.intersection(key.split()) | ({_DENIAL} if denies(text) else set()),
        is_cut=cut is not None,
    )


def _framed(body: str) -> str:
    """Return what stands inside a frame such as `... - via somebody`; all of it if nothing would."""
    via = _VIA.search(body, max(0, len(body) - 200))
    return body[: via.start()] if via is not None and via.start() > 0 else body


def exact_hash(reading: Reading) -> bytes:
    """Return 16 bytes that name the normalised text."""
    return blake2b(reading.key.encode(), digest_size=16).digest()


def _splitmix(state: int) -> tuple[int, int]:
    """Return the next state and 64 bits. Source: Steele, Lea & Flood (2014), SplitMix64."""
    state = (state + 0x9E37_79B9_7F4A_7C15) & _MASK
    z = ((state ^ (state >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK
    return state, z ^ (z >> 31)


def _permutations() -> npt.NDArray[np.uint64]:
    """Return [2, N_HASHES] odd multipliers and offsets."""
    state, drawn = SEED, []
    for _ in range(2 * N_HASHES):
        state, bits = _splitmix(state)
        drawn.append(bits)
    table = np.array(drawn, dtype=np.uint64).reshape(2, N_HASHES)
    table[0] |= np.uint64(1)
    return table


@kernel
def _sign(codes: npt.NDArray[np.uint32], by: npt.NDArray[np.uint64], out: Signature) -> None:
    """Write the MinHash signature of a text given as code points."""
    out[:] = np.uint32(0xFFFFFFFF)
    n = len(codes)
    for start in range(max(1, n - GRAM + 1)):
        gram = np.uint64(0xCBF29CE484222325)
        for i in range(start, min(n, start + GRAM)):
            gram = (gram ^ np.uint64(codes[i])) * np.uint64(0x100000001B3)
        gram ^= gram >> np.uint64(29)
        for k in range(N_HASHES):
            value = np.uint32((by[0, k] * gram + by[1, k]) >> np.uint64(32))
            if value < out[k]:  # noqa: PLR1730 - numba compiles the branch faster than min()
                out[k] = value


@kernel
def _buckets(signature: Signature, n_buckets: int, out: npt.NDArray[np.int64]) -> None:
    """Write the bucket of each band."""
    for band in range(N_BANDS):
        mixed = np.uint64(0xCBF29CE484222325) + np.uint64(band)
        for row in range(N_ROWS):
            mixed = (mixed ^ np.uint64(signature[band * N_ROWS + row])) * np.uint64(0x100000001B3)
            mixed ^= mixed >> np.uint64(31)
        out[band] = np.int64(mixed % np.uint64(n_buckets))


@kernel
def _equal(a: Signature, b: Signature) -> int:
    """Return in how many places two signatures agree."""
    n = 0
    for k in range(N_HASHES):
        n += a[k] == b[k]
    return n


@kernel
def _nearest(
    signature: Signature,
    buckets: npt.NDArray[np.int64],
    table: npt.NDArray[np.int32],
    kept: npt.NDArray[np.uint32],
) -> tuple[int, int]:
    """Return the slot most like a signature among those that share a band, and the agreement."""
    best, best_slot = 0, -1
    for band in range(N_BANDS):
        slot = table[band, buckets[band]]
        if slot >= 0 and slot != best_slot:
            n = _equal(signature, kept[slot])
            if n > best or (n == best and slot < best_slot):
                best, best_slot = n, slot
    return best_slot, best


@kernel
def _closest(signature: Signature, ring: npt.NDArray[np.uint32], n: int) -> int:
    """Return the best agreement with the first n rows of a ring."""
    best = 0
    for i in range(n):
        best = max(best, _equal(signature, ring[i]))
    return best


class Recent:
    """The signatures of an instrument's last documents, for novelty."""

    def __init__(self, size: int) -> None:
        self._ring = np.zeros((size, N_HASHES), dtype=np.uint32)
        self._n = 0

    def similarity(self, signature: Signature) -> float:
        """Return the best similarity to any of them, 0 to 1."""
        return float(_closest(signature, self._ring, min(self._n, len(self._ring))) / N_HASHES)

    def add(self, signature: Signature) -> None:
        """Take one more; the oldest goes."""
        self._ring[self._n % len(self._ring)] = signature
        self._n += 1


class Copies:
    """First appearances of the last texts, and what each new text is a copy of.

    Args:
        capacity: First appearances kept.
        near: Least similarity of a near copy.
        window_ns: An older text is history, not an original: what repeats it later is new again.
    """

    def __init__(self, *, capacity: int, near: float, window_ns: int) -> None:
        self._capacity = capacity
        self._near = near
        self._window_ns = window_ns
        self._by = _permutations()
        self._kept = np.zeros((capacity, N_HASHES), dtype=np.uint32)
        self._n_buckets = 2 * capacity
        self._table = np.full((N_BANDS, self._n_buckets), -1, dtype=np.int32)
        self._slot_of: dict[bytes, int] = {}
        self._hash_in: list[bytes] = [b""] * capacity
        self._reading_in: list[Reading | None] = [None] * capacity
        self._ts_in = [0] * capacity
        self._n = 0

    def sign(self, reading: Reading) -> Signature:
        """Return a text's signature."""
        codes = np.frombuffer(reading.key.encode("utf-32-le"), dtype=np.uint32)
        out: Signature = np.empty(N_HASHES, dtype=np.uint32)
        _sign(codes, self._by, out)
        return out

    def exact(self, name: bytes, now: int) -> Match:
        """Return the first appearance of exactly this normalised text, if it is recent."""
        slot = self._slot_of.get(name, -1)
        if slot < 0 or self._ts_in[slot] < now - self._window_ns:
            return Match(slot=-1)
        return Match(slot=slot, similarity=1.0, is_copy=True)

    def near(self, reading: Reading, signature: Signature, now: int) -> Match:
        """Return the recent first appearance that is most like a text.

        It is a copy if it is similar enough, states no number that the original does not, and turns
        the same way; a text that is cut off may lack what the original has.
        """
        buckets = np.empty(N_BANDS, dtype=np.int64)
        _buckets(signature, self._n_buckets, buckets)
        slot, agreed = _nearest(signature, buckets, self._table, self._kept)
        original = self._reading_in[slot] if slot >= 0 else None
        if original is None or self._ts_in[slot] < now - self._window_ns:
            return Match(slot=-1)
        similarity = agreed / N_HASHES
        is_near = similarity >= self._near
        return Match(
            slot=int(slot) if is_near else -1,
            similarity=similarity,
            is_copy=is_near and _says_nothing_new(reading, original),
        )

    def add(self, name: bytes, reading: Reading, signature: Signature, now: int) -> int:
        """Keep a first appearance and return its slot; the oldest one gives way."""
        slot = self._n % self._capacity
        self._n += 1
        if self._slot_of.get(self._hash_in[slot]) == slot:
            del self._slot_of[self._hash_in[slot]]
        self._slot_of[name] = slot
        self._hash_in[slot], self._reading_in[slot] = name, msgspec.structs.replace(reading, key="")
        self._ts_in[slot] = now
        self._kept[slot] = signature
        buckets = np.empty(N_BANDS, dtype=np.int64)
        _buckets(signature, self._n_buckets, buckets)
        self._table[np.arange(N_BANDS), buckets] = slot
        return slot

    def signature_in(self, slot: int) -> Signature:
        """Return the signature kept in a slot."""
        kept: Signature = self._kept[slot]
        return kept


def _says_nothing_new(new: Reading, original: Reading) -> bool:
    turns = new.turning <= original.turning if new.is_cut else new.turning == original.turning
    return turns and new.numbers <= original.numbers
