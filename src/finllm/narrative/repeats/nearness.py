"""Nearness: which of the kept texts share most of their rare words with a new one.

Candidates come from postings: for each word, each pair of neighbouring words and each run of word lengths,
the last few kept texts that had it. Each candidate is then scored exactly, by the weighted Jaccard
similarity of the words that stand in the same order: what an edit leaves keeps its order, what two texts of
one subject share does not. A text is found while any of its rarer words or pairs survives an edit, which is
where bands of a MinHash signature lose it. Near copies have postings of their own, so that no
number of them pushes out what was posted of first appearances. All tables are of fixed size.

Source:
    Ioffe (2010), "Improved consistent sampling, weighted minhash and L1 sketching", for the similarity;
    Wagner & Fischer (1974), "The string-to-string correction problem", for the order;
    Manning, Raghavan & Schuetze, "Introduction to Information Retrieval", chapters 1 and 7, for postings.
"""

from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from finllm.narrative.repeats.words import MOST_WORDS, Codes, Frequencies, weight_of
from finllm.runtime.kernels import kernel

DEPTH: Final = 16
"""Kept texts remembered per word or pair."""
MOST_FOUND: Final = 16
"""Candidates that are scored, of first appearances and of near copies each."""
RUN: Final = 5
"""Word lengths in a run: a disguised letter changes no word's length."""
OUT_OF_ORDER: Final = 0.75
"""What shared words are worth where their order is another."""
MOST_TERMS: Final = 256
"""Words, pairs and runs of a text that are looked up, at most."""
_MOST_WORDS_LOOKED: Final = (MOST_TERMS - 1) // 3

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


@kernel
def _mix(a: np.uint64, b: np.uint64) -> np.uint64:
    mixed = (a ^ b) * np.uint64(0x9E3779B97F4A7C15)
    return mixed ^ (mixed >> np.uint64(29))


@kernel
def _terms(  # noqa: PLR0917 - arrays go to a kernel by position
    codes: Codes,
    lengths: Codes,
    with_runs: bool,  # noqa: FBT001 - a kernel takes no keywords
    out: Hashes,
    weights: Ints,
    counts: npt.NDArray[np.int32],
    n_texts: int,
) -> int:
    """Write the hash and the weight of each term of a text; return how many there are."""
    n, found = len(codes), 0
    for i in range(n):
        out[found] = _mix(np.uint64(codes[i]), np.uint64(1))
        weights[found] = weight_of(counts, n_texts, codes[i])
        found += 1
    for i in range(n - 1):
        out[found] = _mix(_mix(np.uint64(codes[i]), np.uint64(2)), np.uint64(codes[i + 1]))
        weights[found] = 4
        found += 1
    if with_runs:
        for i in range(n - RUN + 1):
            run = np.uint64(3)
            for k in range(i, i + RUN):
                run = _mix(run, np.uint64(lengths[k]))
            out[found] = run
            weights[found] = 4
            found += 1
        whole = np.uint64(5)
        for k in range(n):
            whole = _mix(whole, np.uint64(lengths[k]))
        out[found] = whole
        weights[found] = 4 * n
        found += 1
    return found


@kernel
def _shared(
    a: Codes, n_a: int, b: Codes, n_b: int, counts: npt.NDArray[np.int32], n_texts: int
) -> tuple[int, int, int]:
    """Return the weight of what two rising lists share, of what only the first has, and the second."""
    i = j = both = only_a = only_b = 0
    while i < n_a and j < n_b:
        if a[i] == b[j]:
            both += weight_of(counts, n_texts, a[i])
            i += 1
            j += 1
        elif a[i] < b[j]:
            only_a += weight_of(counts, n_texts, a[i])
            i += 1
        else:
            only_b += weight_of(counts, n_texts, b[j])
            j += 1
    if n_a == MOST_WORDS and n_b == MOST_WORDS:
        return both, only_a, only_b  # beyond here one of the two samples knows nothing
    while i < n_a:
        only_a += weight_of(counts, n_texts, a[i])
        i += 1
    while j < n_b:
        only_b += weight_of(counts, n_texts, b[j])
        j += 1
    return both, only_a, only_b


@kernel
def _overlaps(  # noqa: PLR0917 - arrays go to a kernel by position
    sample: Codes,
    slots: Ints,
    kept: npt.NDArray[np.uint32],
    n_kept: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    n_texts: int,
    out: Ints,
) -> None:
    for i in range(len(slots)):
        slot = slots[i]
        both, only_a, only_b = _shared(
            sample, len(sample), kept[slot], n_kept[slot], counts, n_texts
        )
        out[i, 0], out[i, 1], out[i, 2] = both, only_a, only_b


@kernel
def _in_order(
    a: Codes,
    b: Codes,
    last: np.uint32,
    row: Ints,
    counts: npt.NDArray[np.int32],
    n_texts: int,
) -> int:
    """Return the greatest weight of words, none beyond a last code, that two texts have in one order."""
    row[: len(b) + 1] = 0
    for code in a:
        if code <= last:
            weight, diagonal = weight_of(counts, n_texts, code), np.int64(0)
            for j in range(len(b)):
                above = row[j + 1]
                if b[j] == code:
                    row[j + 1] = diagonal + weight
                elif row[j] > above:
                    row[j + 1] = row[j]
                diagonal = above
    return int(row[len(b)])


@kernel
def _similarities(  # noqa: PLR0917 - arrays go to a kernel by position
    sample: Codes,
    order: Codes,
    least: float,
    slots: Ints,
    kept: npt.NDArray[np.uint32],
    kept_order: npt.NDArray[np.uint32],
    n_kept: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    n_texts: int,
    out: npt.NDArray[np.float64],
) -> None:
    row = np.empty(MOST_WORDS + 1, dtype=np.int64)
    for i in range(len(slots)):
        slot = slots[i]
        n = n_kept[slot]
        both, only_a, only_b = _shared(sample, len(sample), kept[slot], n, counts, n_texts)
        jaccard = both / max(1, both + only_a + only_b)
        out[i] = OUT_OF_ORDER * jaccard
        if jaccard >= least:  # an order shares no more than all words do
            last = np.uint32(0xFFFFFFFF)
            if len(sample) == MOST_WORDS and n == MOST_WORDS:
                last = min(sample[-1], kept[slot, n - 1])
            same = _in_order(order, kept_order[slot, :n], last, row, counts, n_texts)
            out[i] = max(out[i], same / max(1, 2 * both + only_a + only_b - same))


@kernel
def _gather(
    terms: Hashes,
    weights: Ints,
    n_terms: int,
    table: npt.NDArray[np.int32],
    tally: npt.NDArray[np.int32],
    touched: Ints,
) -> int:
    """Add up, per slot, the weight of the terms that were posted for it; return how many slots."""
    n = 0
    for t in range(n_terms):
        bucket = np.int64(terms[t] % np.uint64(len(table)))
        for k in range(DEPTH):
            slot = table[bucket, k]
            if slot >= 0:
                if tally[slot] == 0:
                    touched[n] = slot
                    n += 1
                tally[slot] += np.int32(weights[t])
    return n


@kernel
def _heaviest(tally: npt.NDArray[np.int32], touched: Ints, n: int, found: Ints) -> int:
    """Write the slots of the most weight, best first, the older slot first of equals; empty the tally."""
    n_found = 0
    while n_found < min(n, MOST_FOUND):
        best, best_slot = 0, -1
        for i in range(n):
            slot = touched[i]
            if tally[slot] > best or (tally[slot] == best and slot < best_slot):
                best, best_slot = tally[slot], slot
        if best_slot < 0:
            break
        found[n_found] = best_slot
        n_found += 1
        tally[best_slot] = 0
    for i in range(n):
        tally[touched[i]] = 0
    return n_found


@kernel
def _post(
    terms: Hashes, n_terms: int, slot: int, table: npt.NDArray[np.int32], at: npt.NDArray[np.uint8]
) -> None:
    for t in range(n_terms):
        bucket = np.int64(terms[t] % np.uint64(len(table)))
        last = (at[bucket] - 1) % DEPTH
        if table[bucket, last] != slot:
            table[bucket, at[bucket]] = slot
            at[bucket] = (at[bucket] + 1) % DEPTH


class Overlaps(msgspec.Struct, frozen=True, kw_only=True):
    """What a text shares of its weighted words with each of m kept ones."""

    jaccard: npt.NDArray[np.float64]
    """[m], of what either has, 0 to 1."""
    of_kept: npt.NDArray[np.float64]
    """[m], of what the kept one has, 0 to 1."""


def overlaps(
    sample: Codes,
    rows: Ints,
    kept: npt.NDArray[np.uint32],
    n_kept: npt.NDArray[np.int32],
    frequencies: Frequencies,
) -> Overlaps:
    """Return what a sample of words shares with each of some kept samples.

    Args:
        sample: uint32 [n], rising.
        rows: int64 [m], which kept ones.
        kept: uint32 [size, MOST_WORDS], each rising up to its length.
        n_kept: int32 [size], those lengths.
        frequencies: How common each word is.
    """
    out = np.empty((len(rows), 3), dtype=np.int64)
    _overlaps(sample, rows, kept, n_kept, frequencies.counts, frequencies.n_texts, out)
    both, new, old = out.T
    return Overlaps(
        jaccard=both / np.maximum(1, both + new + old), of_kept=both / np.maximum(1, both + old)
    )


class _Postings:
    """For each term's bucket, the last `DEPTH` slots whose texts had it.

    Args:
        n_texts: Texts that are posted at one time.
    """

    def __init__(self, n_texts: int) -> None:
        n_buckets = 1 << max(10, (8 * n_texts - 1).bit_length())
        self.table = np.full((n_buckets, DEPTH), -1, dtype=np.int32)
        self.at = np.zeros(n_buckets, dtype=np.uint8)
        """By bucket, the place that is written next."""


class Nearness:
    """Kept texts by their words.

    Args:
        n_first: Slots of first appearances; a slot's new text takes the place of its old one.
        n_near: Slots of near copies, which come after them.
    """

    def __init__(self, n_first: int, n_near: int) -> None:
        n_slots = n_first + n_near
        self.frequencies = Frequencies()
        self._n_first = n_first
        self._first, self._near = _Postings(n_first), _Postings(n_near)
        self._kept = np.zeros((n_slots, MOST_WORDS), dtype=np.uint32)
        self._order = np.zeros((n_slots, MOST_WORDS), dtype=np.uint32)
        self._n_kept = np.zeros(n_slots, dtype=np.int32)
        self._tally = np.zeros(n_slots, dtype=np.int32)
        self._touched = np.empty(MOST_TERMS * DEPTH, dtype=np.int64)
        self._terms = np.empty(MOST_TERMS, dtype=np.uint64)
        self._weights = np.empty(MOST_TERMS, dtype=np.int64)
        self._found = np.empty(MOST_FOUND, dtype=np.int64)

    def candidates(self, codes: Codes, lengths: Codes, *, is_disguised: bool) -> list[int]:
        """Return the slots that share the most words and neighbours with a text.

        First appearances best first, then near copies best first.

        Args:
            codes: uint32 [n], its words in order.
            lengths: uint32 [n], their lengths in characters.
            is_disguised: Look by runs of word lengths as well.
        """
        n_terms = self._look(codes, lengths, with_runs=is_disguised)
        found: list[int] = []
        for posted in (self._first, self._near):
            n = _gather(
                self._terms, self._weights, n_terms, posted.table, self._tally, self._touched
            )
            n = _heaviest(self._tally, self._touched, n, self._found)
            found += self._found[:n].tolist()
        return found

    def similarities(
        self, sample: Codes, order: Codes, slots: Ints, least: float
    ) -> npt.NDArray[np.float64]:
        """Return the weighted Jaccard similarities of a text's words to some slots', 0 to 1.

        Words in the same order count in full, all that are shared for `OUT_OF_ORDER`.

        Args:
            sample: uint32 [n], its distinct words, rising.
            order: uint32 [n], the same in order of the text.
            slots: int64 [m], which kept texts.
            least: Where all words share less, their order is not looked at.
        """
        f, out = self.frequencies, np.empty(len(slots))
        _similarities(
            sample, order, least, slots, self._kept, self._order, self._n_kept, f.counts, f.n_texts, out
        )  # fmt: skip
        return out

    def keep(self, slot: int, codes: Codes, lengths: Codes, sample: Codes, order: Codes) -> None:
        """Keep a text in a slot."""
        n = self._look(codes, lengths, with_runs=True)
        posted = self._first if slot < self._n_first else self._near
        _post(self._terms, n, slot, posted.table, posted.at)
        self._kept[slot, : len(sample)] = sample
        self._order[slot, : len(order)] = order
        self._n_kept[slot] = len(sample)

    def _look(self, codes: Codes, lengths: Codes, *, with_runs: bool) -> int:
        f = self.frequencies
        return int(
            _terms(
                codes[:_MOST_WORDS_LOOKED], lengths[:_MOST_WORDS_LOOKED], with_runs,
                self._terms, self._weights, f.counts, f.n_texts,
            )
        )  # fmt: skip
