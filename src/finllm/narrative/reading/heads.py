"""Heads: what a text says of what it names, by task, as calibrated probabilities.

A pack is a folder: a card, and one file of weights. It holds an adapter that fine-tunes the encoder and,
for each task, a linear head on the encoder's reading and a linear head on hashed words (or pieces of
words, for languages that the encoder does not know). Their log probabilities are added with fitted
weights, which is the calibration; where no encoder can be had, the words alone answer by a calibration
of their own, and the name that goes with the answer says so.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.domain.errors import ArtifactError, InputError
from finllm.narrative.reading.features import (
    PIECE_BITS,
    WORD_BITS,
    Buckets,
    piece_buckets,
    word_buckets,
)
from finllm.narrative.reading.minilm import DIM, Adapter
from finllm.narrative.reading.transformer import Reading, Transformer
from finllm.narrative.text.emoji import emoji_names

CARD: Final = "heads.json"
WEIGHTS: Final = "heads.safetensors"
FEATURES: Final = 3 * DIM
"""First token, mean, span."""
N_BUCKETS: Final = {"words": 1 << WORD_BITS, "pieces": 1 << PIECE_BITS}
"""By what a task's linear head reads."""

WORDS: Final = "hashing/1"
"""Stands for the encoder where hashed words answer alone."""

Span = tuple[int, int]
Probabilities = NDArray[np.float64]
"""[C], in the order of the task's classes."""


class Blend(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How two heads' log probabilities become one calibrated answer."""

    encoder: float
    words: float
    bias: tuple[float, ...]
    """One per class."""


class TaskCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One task: what it asks, how it is answered and how well."""

    classes: tuple[str, ...]
    asks: Literal["name", "text"]
    """Whether the answer is about a name in the text or about the text as a whole."""
    reads: Literal["words", "pieces"]
    language: str = "en"
    words_scale: float
    """Logits per unit of the 8-bit weights of the words."""
    words_bias: tuple[float, ...]
    alone: Blend
    """Without the encoder."""
    together: Blend | None = None
    """With it; None = the task is answered by its words alone."""
    n_rows: int
    scores: dict[str, float] = {}
    """On rows not trained on: macro F1 and calibration error, with and without the encoder."""


class Card(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a pack is, what it was trained on and how."""

    version: str
    """Hash of everything else on the card, and so of the weights."""
    sha256: str
    """Of the weights' file."""
    data: tuple[str, ...]
    licence: str
    """Classes of the rows it was trained on; weights from N or U rows are not to be passed on."""
    command: str
    tasks: dict[str, TaskCard]
    notes: tuple[str, ...] = ()


def version_of(card: Card) -> str:
    """Return the version that a card with this content has."""
    bare = msgspec.structs.replace(card, version="")
    return sha256(msgspec.json.encode(bare)).hexdigest()[:12]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a head makes of a text."""

    task: str
    classes: tuple[str, ...]
    p: tuple[float, ...]
    """Calibrated, by class."""
    by: str
    """Name and version of the encoder and the pack that answered."""

    @property
    def label(self) -> str:
        """Return the likeliest class; the first of equals."""
        return self.classes[self.p.index(max(self.p))]


class Pack:
    """Weights and card of a pack, checked.

    Args:
        folder: Holds both files.

    Raises:
        ArtifactError: If a file is missing, or the weights are not the ones that the card names.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            self.card = msgspec.json.decode((folder / CARD).read_bytes(), type=Card)
            packed = (folder / WEIGHTS).read_bytes()
            weights: Mapping[str, NDArray[Any]] = load(packed)
        except (OSError, UnicodeDecodeError, msgspec.DecodeError, SafetensorError) as error:
            raise ArtifactError(f"{folder}: no usable heads: {error}") from error
        if sha256(packed).hexdigest() != self.card.sha256:
            raise ArtifactError(
                f"{folder / WEIGHTS}: not the weights that {CARD} names; rebuild them"
            )
        self.weights = weights
        for name, task in self.card.tasks.items():
            self._check(folder, name, task)

    def _check(self, folder: Path, name: str, task: TaskCard) -> None:
        n = len(task.classes)
        shapes: dict[str, tuple[int, ...]] = {f"{name}.words": (N_BUCKETS[task.reads], n)}
        if task.together is not None:
            shapes |= {f"{name}.weight": (n, FEATURES), f"{name}.bias": (n,)}
        for key, shape in shapes.items():
            found = self.weights[key].shape if key in self.weights else None
            if found != shape:
                raise ArtifactError(
                    f"{folder / WEIGHTS}: {key} is {found} where the card needs {shape}"
                )
        blends = [task.alone, *([task.together] if task.together else [])]
        if any(len(bias) != n for bias in (task.words_bias, *(blend.bias for blend in blends))):
            raise ArtifactError(f"{folder / CARD}: {name} has {n} classes and other biases")

    @property
    def adapter(self) -> Adapter:
        """Return what fine-tuning changed in the encoder; empty if nothing."""
        downs = [name for name in self.weights if name.endswith(".down")]
        return {
            name.removesuffix(".down"): (
                self._unpacked(name),
                self._unpacked(name.removesuffix("down") + "up"),
            )
            for name in sorted(downs)
        }

    def _unpacked(self, name: str) -> NDArray[np.float32]:
        """Return a matrix of 8-bit rows with a scale each as float32."""
        scale = self.weights[f"{name}.scale"][:, None]
        matrix: NDArray[np.float32] = self.weights[name].astype(np.float32) * scale
        return matrix


class Heads:
    """A pack in service. For one caller at a time.

    Args:
        pack: The weights.
        encoder: Built with the pack's adapter; None where no encoder can be had.
    """

    def __init__(self, pack: Pack, encoder: Transformer | None) -> None:
        self.card = pack.card
        self._encoder = encoder
        self._words: dict[str, NDArray[np.int8]] = {}
        self._linear: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        for name, task in pack.card.tasks.items():
            self._words[name] = pack.weights[f"{name}.words"]
            if task.together is not None:
                weight = pack.weights[f"{name}.weight"].astype(np.float32)
                self._linear[name] = (weight, pack.weights[f"{name}.bias"].astype(np.float32))

    @property
    def name(self) -> str:
        """Return what answers, with versions, where the encoder has a part in it."""
        by = self._encoder.name if self._encoder is not None else WORDS
        return f"{by}+heads/{self.card.version}"

    @property
    def knows_until(self) -> str:
        """Return the last month whose texts the encoder may have been trained on; empty without one."""
        return self._encoder.knows_until if self._encoder is not None else ""

    def name_of(self, task: str) -> str:
        """Return what answers a task, for the evidence."""
        return self.name if task in self._linear else f"{WORDS}+heads/{self.card.version}"

    def judge(self, task: str, text: str, span: Span | None = None) -> Answer:
        """Return a task's answer about a canonical text, or about a name in it.

        Args:
            task: One of the card's.
            text: Canonical text.
            span: Where the name stands, for tasks that ask about one.

        Raises:
            InputError: If the pack has no such task.
        """
        return self.judge_all((task,), text, span if self._task(task).asks == "name" else None)[0]

    def judge_all(
        self, tasks: Sequence[str], text: str, span: Span | None = None
    ) -> tuple[Answer, ...]:
        """Return several tasks' answers from one reading of a text, which is what a reading costs.

        Args:
            tasks: Of the card's.
            text: Canonical text.
            span: Where a name stands. Tasks that ask about the whole text answer from the reading in
                which it is marked.

        Raises:
            InputError: If the pack lacks one of the tasks.
        """
        cards = [self._task(task) for task in tasks]
        reading = None
        if self._encoder is not None and any(task in self._linear for task in tasks):
            reading = self._encoder.read(*with_emoji_names(text, span))
        return tuple(
            self._judged(task, card, text, span if card.asks == "name" else None, reading)
            for task, card in zip(tasks, cards, strict=True)
        )

    def _judged(
        self, task: str, card: TaskCard, text: str, span: Span | None, reading: Reading | None
    ) -> Answer:
        words = _log_softmax(self._of_words(task, card, text, span))
        if reading is None or card.together is None:
            p = _blended(card.alone, words, None)
        else:
            weight, bias = self._linear[task]
            z = weight @ (reading.features if span is not None else reading.of_text) + bias
            p = _blended(card.together, words, _log_softmax(z.astype(np.float64)))
        return Answer(task=task, classes=card.classes, p=tuple(p.tolist()), by=self.name_of(task))

    def _task(self, task: str) -> TaskCard:
        if task not in self.card.tasks:
            raise InputError(
                f"the pack has no head for {task} (it has {', '.join(sorted(self.card.tasks))})",
                place="task",
                mend="Build one with `finllm_lab narrative`, and name its folder with --heads.",
            )
        return self.card.tasks[task]

    def _of_words(self, name: str, card: TaskCard, text: str, span: Span | None) -> Probabilities:
        found = buckets_of(card.reads, text, span)
        total: Probabilities = self._words[name][found].sum(axis=0, dtype=np.int64) * 1.0
        step = card.words_scale / max(1.0, float(len(found))) ** 0.5
        out: Probabilities = total * step + np.array(card.words_bias)
        return out


def buckets_of(reads: str, text: str, span: Span | None) -> Buckets:
    """Return the buckets that a task's linear head adds up."""
    return word_buckets(text, span) if reads == "words" else piece_buckets(text)


def with_emoji_names(text: str, span: Span | None) -> tuple[str, Span | None]:
    """Return a text as the encoder reads it, and where a span then stands."""
    if span is None:
        return emoji_names(text), None
    before, name, after = (text[: span[0]], text[span[0] : span[1]], text[span[1] :])
    before, after = (
        part if part == named else f" {named} "
        for part, named in ((part, emoji_names(part)) for part in (before, after))
    )
    return before + name + after, (len(before), len(before) + len(name))


def _log_softmax(z: Probabilities) -> Probabilities:
    top = z - z.max()
    out: Probabilities = top - np.log(np.exp(top).sum())
    return out


def _blended(blend: Blend, words: Probabilities, encoder: Probabilities | None) -> Probabilities:
    z = blend.words * words + np.array(blend.bias)
    if encoder is not None:
        z = z + blend.encoder * encoder
    return np.exp(_log_softmax(z))
