"""Copies: which text has been seen before, and how like the recent ones a new one is.

An exact copy is found by the hash of the normalised text; misspelt, framed or cut ones by MinHash over
character 5-grams with locality-sensitive hashing; edited ones by the rare words that they share
(`nearness`); reworded ones, where an encoder is at hand, by their embedding (`meanings`). A candidate is
then compared with care. First appearances are kept in a ring, and the tables are direct-mapped (the
newest wins), so that a million copies cost nothing and memory is fixed. Near copies have a ring and tables
of their own: whatever their number, they push out nothing that finds a first appearance.

Source:
    Broder (1997), "On the resemblance and containment of documents"; Leskovec, Rajaraman & Ullman,
    "Mining of Massive Datasets", chapter 3.
"""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from hashlib import blake2b
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from finllm.narrative.reading.claims import denials
from finllm.narrative.repeats.meanings import Meaning, Meanings
from finllm.narrative.repeats.nearness import Nearness
from finllm.narrative.repeats.words import (
    UNKNOWN,
    Codes,
    Frequencies,
    codes_of,
    foreign_letters_hidden,
    sample_of,
    split_words,
)
from finllm.narrative.text.confusables import skeleton
from finllm.runtime.kernels import kernel
from finllm.runtime.lru import LastUsed

Signature = npt.NDArray[np.uint32]
"""[N_HASHES], the least hash of the text's 5-grams under each permutation."""

N_HASHES: Final = 128
N_BANDS: Final = 32
N_ROWS: Final = N_HASHES // N_BANDS
_BANDS: Final = np.arange(N_BANDS)
GRAM: Final = 5
SEED: Final = 0x5EED_0F_C0F1E5
_MASK: Final = (1 << 64) - 1

_POSING: Final = {"i": "i1l", "l": "l1i", "o": "o0"}


def _posing(words: str) -> str:
    """Return a pattern of words each letter of which may be hidden or one that looks like it."""
    return "".join(
        f"[{_POSING.get(c, c)}{UNKNOWN}]" if c.isalpha() else re.escape(c) for c in words
    )


def _any_of(*phrases: str) -> str:
    return "(?:" + "|".join(map(_posing, phrases)) + ")"


# How people frame what they pass on.
_REPOST = re.compile(
    r"^\s*(?:"
    + _any_of(
        "rt", "breaking news", "breaking", "just in", "developing", "update", "alert", "exclusive",
        "flash", "headline",
    )
    + rf"(?![\w{UNKNOWN}])[\s:|-]*|@\w+:?\s*)+",
    re.IGNORECASE,
)  # fmt: skip
_VIA = re.compile(
    r"(?:\s*(?:[-(|]\s*(?:"
    + _any_of("via", "per", "source", "source:", "h/t", "from")
    + r")\s[^()\n]{1,60}\)?|-\ "
    + _posing("more to follow")
    + r"|#\w{1,40}))+\s*$",
    re.IGNORECASE,
)
_CUT = re.compile(r"\S*(?:\u2026|\.\.\.)\s*$")
_NOT_WORD = re.compile(rf"(?:[^\w{UNKNOWN}]|_)+")
_WORD = re.compile(rf"(?P<before>[.:;!?]\s+|^|\$)?(?P<word>(?:[^\W_]|{UNKNOWN})+)")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
# One of these more or less turns a near copy into another claim.
_TURNING: Final = frozenset(
    skeleton(word)
    for word in (
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
        # What dates or counts a claim.
        "january", "february", "march", "april", "june", "july", "august", "september", "october",
        "november", "december", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday",
        "sunday", "yesterday", "today", "tomorrow", "two", "three", "four", "five", "six", "seven",
        "eight", "nine", "ten", "eleven", "twelve", "dozen", "hundred", "thousand",
    )
)  # fmt: skip


_DENIAL: Final = "<denial>"


_NONE: Final = np.zeros(0, dtype=np.uint32)
OTHER_NAMES: Final = 3
"""Words of names, of one text and the other, that are exchanged in one place where another claim is made: a
firm's name is two words or more."""
OF_ORIGINAL: Final = 0.3
"""Least similarity to the original itself of what copies its near copy: copies of copies drift."""
OTHER_RUN: Final = 4
"""Words in a row that differ where another claim stands in the same frame."""
LEAST_WITHOUT: Final = 0.6
"""Least similarity of a copy that leaves out a figure: texts of one subject differ in figures most often."""
MOST_NUMBERS: Final = 64
LONGEST_NUMBER: Final = 40
"""Characters of a number that are kept: no figure has as many, and a text of digits is one number."""
LONGEST_KEPT: Final = 400
"""Characters of an original's normalised text that are kept, to read disguised letters by."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What copy recognition needs of one text."""

    key: str
    """Normalised text: case, punctuation, handles and a cut-off end taken away."""
    numbers: frozenset[str]
    turning: frozenset[str]
    """Words that turn a claim round."""
    shown: str = ""
    """The text as it is written, at most `LONGEST_KEPT` characters: capitals tell names."""
    is_cut: bool
    """The text ends in an ellipsis: what is missing may be in the original."""
    codes: Codes = _NONE
    """[n], the codes in order of the words, as what they look like."""
    lengths: Codes = _NONE
    """[n], their lengths in characters."""
    sample: Codes = _NONE
    """[k], the distinct codes, or a sample of them, in rising order."""
    order: Codes = _NONE
    """[k], the same in order of the text."""

    @property
    def is_disguised(self) -> bool:
        """Return whether letters of other scripts stand among its own."""
        return UNKNOWN in self.key

    @property
    def names(self) -> frozenset[str]:
        """Return the words of the key that are written as names are."""
        return _names(self.shown).intersection(self.key.split())


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """The earlier text that is most like a new one."""

    slot: int
    """-1 = none was like it."""
    similarity: float = 0.0
    """Estimated Jaccard similarity of the 5-grams; 1 for an exact copy."""
    is_copy: bool = False


def read_for_copies(text: str) -> Reading:
    """Return what copy recognition needs of a canonical text."""
    body = foreign_letters_hidden(text.casefold().replace(UNKNOWN, " "))
    body = _framed(_REPOST.sub("", body, count=1))
    cut = _CUT.search(body)
    if cut is not None and cut.start() > 0:
        body = body[: cut.start()]
    key = _NOT_WORD.sub(" ", body).strip() or body.strip() or text
    words = split_words(skeleton(key))
    codes = codes_of(words)
    sample, order = sample_of(codes)
    return Reading(
        key=key,
        numbers=frozenset(
            number[:LONGEST_NUMBER] for number in _NUMBER.findall(body)[:MOST_NUMBERS]
        ),
        turning=_TURNING.intersection(words) | _takes_back(text),
        shown=text[:LONGEST_KEPT],
        is_cut=cut is not None,
        codes=codes,
        lengths=np.array([len(word) for word in words], dtype=np.uint32),
        sample=sample,
        order=order,
    )


def turns(word: str) -> bool:
    """Return whether a word, with its punctuation, is one that turns a claim round, dates or counts it."""
    plain = skeleton(_NOT_WORD.sub(" ", word))
    return not _TURNING.isdisjoint(plain.split()) or bool(denials(word))


def _takes_back(text: str) -> frozenset[str]:
    """Return the mark of a denial whose words are not turning ones themselves."""
    plain = (skeleton(_NOT_WORD.sub(" ", phrase)).split() for phrase in denials(text))
    return frozenset([_DENIAL]) if any(map(_TURNING.isdisjoint, plain)) else frozenset()


def _names(text: str) -> frozenset[str]:
    """Return the cashtags and capitalised words of a text, in lower case; of one in capitals the cashtags.

    A text is in capitals if nearly all of its words are; those of three letters and fewer say nothing. A
    letter that is not known may be one.
    """
    found = list(_WORD.finditer(foreign_letters_hidden(text)))
    high = {m["word"] for m in found if m["word"][0].isupper() or m["word"][0] == UNKNOWN}
    low = {match["word"] for match in found if len(match["word"]) > 3}.difference(high)
    tags = {m["word"] for m in found if m["before"] == "$" and m["word"].isalpha()}
    return frozenset(map(str.casefold, tags if len(high) > 3 * len(low) else high | tags))


def _framed(body: str) -> str:
    """Return what stands inside a frame such as `... - via somebody`; all of it if nothing would."""
    via = _VIA.search(body, max(0, len(body) - 200))
    return body[: via.start()] if via is not None and via.start() > 0 else body


def exact_hash(reading: Reading) -> bytes:
    """Return 16 bytes that name the normalised text, and all that look like it."""
    return blake2b(skeleton(reading.key).encode(), digest_size=16).digest()


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
def _hash_bands(signature: Signature, out: npt.NDArray[np.uint64]) -> None:
    """Write the hash of each band."""
    for band in range(N_BANDS):
        mixed = np.uint64(0xCBF29CE484222325) + np.uint64(band)
        for row in range(N_ROWS):
            mixed = (mixed ^ np.uint64(signature[band * N_ROWS + row])) * np.uint64(0x100000001B3)
            mixed ^= mixed >> np.uint64(31)
        out[band] = mixed


@kernel
def _equal(a: Signature, b: Signature) -> int:
    """Return in how many places two signatures agree."""
    n = 0
    for k in range(N_HASHES):
        n += a[k] == b[k]
    return n


@kernel
def _agreements(
    signature: Signature,
    slots: npt.NDArray[np.int64],
    kept: npt.NDArray[np.uint32],
    out: npt.NDArray[np.float64],
) -> None:
    """Write the share of places in which a signature agrees with some slots'."""
    for i in range(len(slots)):
        out[i] = _equal(signature, kept[slots[i]]) / N_HASHES


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


class _Bands:
    """For each bucket of each band, the last slot whose text's signature fell into it.

    Args:
        n_texts: Texts that are kept at one time.
    """

    def __init__(self, n_texts: int) -> None:
        self._n_buckets = np.uint64(2 * n_texts)
        self._table = np.full((N_BANDS, 2 * n_texts), -1, dtype=np.int32)

    def slots(self, hashes: npt.NDArray[np.uint64]) -> list[int]:
        """Return the slot in each band's bucket, -1 where none is.

        Args:
            hashes: [N_BANDS], of the bands of a signature.
        """
        found: list[int] = self._table[_BANDS, hashes % self._n_buckets].tolist()
        return found

    def put(self, hashes: npt.NDArray[np.uint64], slot: int) -> None:
        """Let a slot stand in each band's bucket."""
        self._table[_BANDS, hashes % self._n_buckets] = slot


class Copies:
    """First appearances of the last texts, and what each new text is a copy of.

    Args:
        capacity: First appearances kept; and a quarter as many near copies, so that an edited copy is known
            by the wording that was edited.
        near: Least similarity of the characters of a near copy.
        near_words: Least similarity of its words in order, each weighted by its rarity.
        near_meaning: Least cosine of its embedding.
        window_ns: An older text is history, not an original: what repeats it later is new again.
        dim: Length of the embeddings; 0 = there are none.
    """

    def __init__(
        self,
        *,
        capacity: int,
        near: float,
        window_ns: int,
        near_words: float = 0.45,
        near_meaning: float = 0.9,
        dim: int = 0,
    ) -> None:
        self._capacity = capacity
        self._near, self._near_words, self._near_meaning = near, near_words, near_meaning
        self._window_ns = window_ns
        self._by = _permutations()
        self.most_near = max(1, capacity // 4)
        self._n_slots = capacity + self.most_near
        """First appearances stand in the first `capacity` slots, near copies in the rest."""
        self._kept = np.zeros((self._n_slots, N_HASHES), dtype=np.uint32)
        self._first_bands, self._near_bands = _Bands(capacity), _Bands(self.most_near)
        self._hashes = np.empty(N_BANDS, dtype=np.uint64)
        self._words = Nearness(capacity, self.most_near)
        self._meanings = Meanings(capacity, dim) if dim else None
        self.names: LastUsed[bytes, int] = LastUsed(capacity)
        """By exact hash, the number of the first appearance that it is."""
        self.near_names: LastUsed[bytes, int] = LastUsed(capacity)
        """By exact hash, the number of the first appearance that it is a near copy of."""
        self._reading_in: list[Reading | None] = [None] * self._n_slots
        self._ts_in = [0] * self._n_slots
        self._number_in = [0] * self._n_slots
        """The number of the first appearance that a slot's text is, or is a near copy of."""
        self._n = 0
        self.n_near = 0
        """Near copies put into slots since the start."""

    @property
    def frequencies(self) -> Frequencies:
        """How common each word is so far, over first appearances."""
        return self._words.frequencies

    def __len__(self) -> int:
        """Return how many first appearances are kept."""
        return self._n - self.n_let_go

    @property
    def n_let_go(self) -> int:
        """How many first appearances have given way to later ones."""
        return max(0, self._n - self._capacity)

    def sign(self, reading: Reading) -> Signature:
        """Return a text's signature."""
        codes = np.frombuffer(skeleton(reading.key).encode("utf-32-le"), dtype=np.uint32)
        out: Signature = np.empty(N_HASHES, dtype=np.uint32)
        _sign(codes, self._by, out)
        return out

    def exact(self, name: bytes, now: int) -> Match:
        """Return the recent first appearance that a normalised text is exactly, or exactly a near copy of."""
        for number in (self.names.get(name), self.near_names.get(name)):
            if number is not None and self._is_recent(number, now):
                return Match(slot=number % self._capacity, similarity=1.0, is_copy=True)
        return Match(slot=-1)

    def _is_recent(self, number: int, now: int) -> bool:
        since = now - self._window_ns
        return number >= self.n_let_go and self._ts_in[number % self._capacity] >= since

    def near(
        self, reading: Reading, signature: Signature, now: int, meaning: Meaning | None = None
    ) -> Match:
        """Return the recent first appearance that is most like a text, a copy before a near text.

        It is a copy if it is similar enough, states no number that the original does not, and turns
        the same way; a text that is cut off may lack what the original has.
        """
        best = self._by_text(reading, signature, now)
        if best.slot >= 0 or self._meanings is None or meaning is None:
            return best
        return self._by_meaning(self._meanings, reading, meaning, now) or best

    def _by_text(self, reading: Reading, signature: Signature, now: int) -> Match:
        slots = self._candidates(reading, signature, now)
        characters = np.empty(len(slots))
        _agreements(signature, slots, self._kept, characters)
        words = (
            np.array([self._undisguised_similarity(reading, slot) for slot in slots.tolist()])
            if reading.is_disguised
            else self._words.similarities(reading.sample, reading.order, slots, self._near_words)
        )
        is_near = (characters >= self._near) | (words >= self._near_words)
        similarity_of = dict(
            zip(slots.tolist(), np.maximum(characters, words).tolist(), strict=True)
        )
        best = Match(slot=-1, similarity=max(similarity_of.values(), default=0.0))
        for slot in slots[is_near].tolist():
            original = self._original_of(slot)
            repeats = self._repeats(reading, slot, similarity_of[slot]) and (
                slot == original
                or (
                    similarity_of[original] >= OF_ORIGINAL
                    and self._repeats(reading, original, similarity_of[original])
                )
            )
            one = Match(slot=original, similarity=similarity_of[slot], is_copy=repeats)
            best = max(best, one, key=_closeness)
        return best

    def _original_of(self, slot: int) -> int:
        return self._number_in[slot] % self._capacity

    def _candidates(
        self, reading: Reading, signature: Signature, now: int
    ) -> npt.NDArray[np.int64]:
        """Return the recent slots that share a band, and those that share the most words.

        A near copy's comes with its original's.
        """
        _hash_bands(signature, self._hashes)
        slots = self._first_bands.slots(self._hashes) + self._near_bands.slots(self._hashes)
        slots += self._words.candidates(
            reading.codes, reading.lengths, is_disguised=reading.is_disguised
        )
        recent: dict[int, None] = {}
        for slot in dict.fromkeys(slots):
            if slot >= 0 and self._is_recent(self._number_in[slot], now):
                recent[slot] = recent[self._original_of(slot)] = None
        return np.array(list(recent), dtype=np.int64)

    def _undisguised_similarity(self, reading: Reading, slot: int) -> float:
        original = self._reading_in[slot]
        if original is None:
            return 0.0
        plain, slots = _undisguised(reading, original), np.array([slot])
        return float(
            self._words.similarities(plain.sample, plain.order, slots, self._near_words)[0]
        )

    def _repeats(self, reading: Reading, slot: int, similarity: float) -> bool:
        original = self._reading_in[slot]
        if original is None or (
            similarity < LEAST_WITHOUT and _leaves_numbers_out(reading, original)
        ):
            return False
        if reading.is_disguised:
            reading = _undisguised(reading, original)
        return _says_nothing_new(reading, original)

    def _by_meaning(
        self, meanings: Meanings, reading: Reading, meaning: Meaning, now: int
    ) -> Match | None:
        slot, cosine = meanings.closest(meaning.vector())
        original = self._reading_in[slot] if slot >= 0 else None
        if (
            original is None
            or cosine < self._near_meaning
            or self._ts_in[slot] < now - self._window_ns
        ):
            return None
        return Match(
            slot=slot, similarity=min(1.0, cosine), is_copy=self._repeats(reading, slot, cosine)
        )

    def add(
        self,
        name: bytes,
        reading: Reading,
        signature: Signature,
        now: int,
        meaning: Meaning | None = None,
    ) -> int:
        """Keep a first appearance and return its slot; the oldest one gives way."""
        slot = self._n % self._capacity
        self.names.put(name, self._n)
        self._number_in[slot] = self._n
        self._n += 1
        self._keep(slot, reading, signature, now)
        self.frequencies.add(reading.sample)
        if self._meanings is not None and meaning is not None:
            self._meanings.add(slot, meaning.vector())
        return slot

    def _keep(self, slot: int, reading: Reading, signature: Signature, now: int) -> None:
        self._reading_in[slot] = msgspec.structs.replace(
            reading,
            key=reading.key[:LONGEST_KEPT],
            codes=_NONE,
            lengths=_NONE,
            sample=_NONE,
            order=_NONE,
        )
        self._ts_in[slot] = now
        self._kept[slot] = signature
        _hash_bands(signature, self._hashes)
        bands = self._first_bands if slot < self._capacity else self._near_bands
        bands.put(self._hashes, slot)
        self._words.keep(slot, reading.codes, reading.lengths, reading.sample, reading.order)

    def also(
        self, name: bytes, reading: Reading, signature: Signature, now: int, original: int
    ) -> None:
        """Let a near copy's text stand for its original, in a slot, from now on; the oldest gives way."""
        number = self._number_in[original]
        self.near_names.put(name, number)
        if reading.is_disguised:
            return
        slot = self._capacity + self.n_near % self.most_near
        self.n_near += 1
        self._number_in[slot] = number
        self._keep(slot, reading, signature, now)

    def signature_in(self, slot: int) -> Signature:
        """Return the signature kept in a slot."""
        kept: Signature = self._kept[slot]
        return kept


def _says_nothing_new(new: Reading, original: Reading) -> bool:
    turns = new.turning <= original.turning if new.is_cut else new.turning == original.turning
    return turns and not _adds_numbers(new, original) and not _is_another_claim(new, original)


def _is_another_claim(new: Reading, original: Reading) -> bool:
    """Return whether a text is another's with other names, or with another claim in the same frame.

    Names: three words at least, of one side and the other, where one is put in the place of the other, and
    most of what differs. A claim: `OTHER_RUN` words in a row put in the place of nearly as many, and two
    thirds of what differs; edits of single words lie apart. Words are told by their beginnings: an ending
    makes no other word.
    """
    if max(len(original.shown), len(new.shown)) >= LONGEST_KEPT:
        return False
    mine, others = _beginnings(new.key.split()), _beginnings(original.key.split())
    changes = [
        (others[i:h], mine[j:k])
        for how, i, h, j, k in SequenceMatcher(None, others, mine, autojunk=False).get_opcodes()
        if how != "equal"
    ]
    n_changed = sum(len(a) + len(b) for a, b in changes)
    if any(_is_other_run(a, b) and 3 * (len(a) + len(b)) >= 2 * n_changed for a, b in changes):
        return True
    added, lost = set(mine).difference(others), set(others).difference(mine)
    named = (
        added.intersection(_beginnings(new.names)),
        lost.intersection(_beginnings(original.names)),
    )
    if 2 * (len(named[0]) + len(named[1])) < len(added) + len(lost):
        return False
    return any(_exchanged(named[0].intersection(b), named[1].intersection(a)) for a, b in changes)


def _is_other_run(a: list[str], b: list[str]) -> bool:
    return len(a) + len(b) >= 2 * OTHER_RUN - 1 and min(len(a), len(b)) >= OTHER_RUN - 1


def _exchanged(added: set[str], lost: set[str]) -> bool:
    return bool(added and lost) and len(added) + len(lost) >= OTHER_NAMES


def _beginnings(words: Iterable[str]) -> list[str]:
    return [skeleton(word)[:4] for word in words]


def _adds_numbers(new: Reading, original: Reading) -> bool:
    """Return whether a text states numbers that another does not.

    Digits that pose as letters in a word of the other one, as in `0utfl0w`, state nothing.
    """
    added = new.numbers - original.numbers
    if not added:
        return False
    words, known = new.key.split(), set(skeleton(original.key).split())
    posing = {
        number
        for word in words
        if not word.isdigit() and skeleton(word) in known
        for number in _NUMBER.findall(word)
    }
    return not added <= posing.difference(words)


def _leaves_numbers_out(new: Reading, original: Reading) -> bool:
    return not (new.is_cut or original.numbers <= new.numbers)


def _closeness(match: Match) -> tuple[bool, bool, float]:
    """Order matches: a copy before a near text before none, then the more similar."""
    return match.is_copy, match.slot >= 0, match.similarity


def _undisguised(new: Reading, original: Reading) -> Reading:
    """Return a reading with each word that has unknown letters taken for the original's that fits it."""
    by_length: dict[int, list[str]] = {}
    for word in original.key.split():
        by_length.setdefault(len(word), []).append(word)

    def plain_of(word: str) -> str:
        return _fitting(word, by_length.get(len(word), [])) if UNKNOWN in word else word

    def as_written(match: re.Match[str]) -> str:
        word = plain_of(match["word"].casefold())
        word = word.capitalize() if match["word"][0].isupper() else word
        return (match["before"] or "") + word

    words = list(map(plain_of, split_words(new.key)))
    denial = new.turning & {_DENIAL}
    if _takes_back(" ".join(words)):
        denial = original.turning & {_DENIAL}
    plain = [skeleton(word) for word in words]
    sample, order = sample_of(codes_of(plain))
    return msgspec.structs.replace(
        new,
        key=" ".join(words),
        turning=_TURNING.intersection(plain) | denial,
        shown=_WORD.sub(as_written, foreign_letters_hidden(new.shown)),
        sample=sample,
        order=order,
    )


def _fitting(word: str, others: list[str]) -> str:
    """Return the first of some words that has every known letter of a word, in place; itself if none."""
    for other in others:
        if all(a in (b, UNKNOWN) for a, b in zip(word, other, strict=True)):
            return other
    return word
