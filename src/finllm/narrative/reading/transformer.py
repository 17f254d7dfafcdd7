"""The small transformer in service: a text, and the names in it, as vectors.

One text at a time on one thread, so that the same text gives the same bits whatever it came with. The
spans asked about are marked by token type, and what is read of a span is the mean over its tokens in
that reading.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from finllm.domain.errors import ArtifactError
from finllm.narrative.reading.encoder import Embedding
from finllm.narrative.reading.minilm import DIM, GRAPH, KNOWS_UNTIL, MOST_TOKENS, TOKENIZER

Span = tuple[int, int]


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What the encoder makes of a text."""

    first: Embedding
    """[DIM], the state of the token before the text."""
    mean: Embedding
    """[DIM], over all tokens."""
    span: Embedding
    """[DIM], over the tokens of the span; the mean over all without one."""

    @property
    def features(self) -> Embedding:
        """Return all three in a row, float32 [3 * DIM]: what heads read."""
        return np.concatenate([self.first, self.mean, self.span])

    @property
    def of_text(self) -> Embedding:
        """Return what heads read that ask about the text as a whole, float32 [3 * DIM]."""
        return np.concatenate([self.first, self.mean, self.mean])


class Transformer:
    """A built encoder. For one caller at a time.

    Args:
        folder: Holds its graph and its tokenizer.
        name: Name with version, for the evidence.

    Raises:
        ArtifactError: If a file is missing, or cannot be loaded when the first text comes.
    """

    dim: Final = DIM
    knows_until: Final = KNOWS_UNTIL

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._folder = folder
        for file in (TOKENIZER, GRAPH):
            if not (folder / file).is_file():
                raise ArtifactError(f"{folder}: no usable encoder: {file} is missing")

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """Tokenizer and graph, loaded when the first text comes: most runs on tapes read none."""
        import onnxruntime as ort
        from tokenizers import Tokenizer

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            tokenizer: Any = Tokenizer.from_file(str(self._folder / TOKENIZER))
            session: Any = ort.InferenceSession(
                str(self._folder / GRAPH), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the two libraries share no base class of their own
            raise ArtifactError(f"{self._folder}: no usable encoder: {error}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer, session

    def embed(self, text: str) -> Embedding:
        """Return a text's vector: the mean over its tokens, of unit length."""
        mean = self.read(text).mean
        return mean / np.float32(np.sqrt(np.square(mean, dtype=np.float64).sum()))

    def read(self, text: str, span: Span | None = None) -> Reading:
        """Return what the encoder makes of a canonical text.

        Args:
            text: Emoji as their names; its first 256 tokens are read, or those around the span.
            span: What is asked about, in characters; None = the text as a whole.
        """
        ids, types = self.tokens(text, span)
        states = self._parts[1].run(None, {"ids": ids[None], "types": types[None]})[0][0]
        mean = states.mean(axis=0)
        marked = types.astype(bool)
        asked = states[marked].mean(axis=0) if marked.any() else mean
        return Reading(first=states[0], mean=mean, span=asked)

    def tokens(
        self, text: str, span: Span | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return token ids and their types (1 within the span), int64 [T] each, T <= 256."""
        return tokenised(self._parts[0], text, span)


def tokenised(
    tokenizer: Any, text: str, span: Span | None = None, most: int = MOST_TOKENS
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return token ids and their types, int64 [T] each.

    Args:
        tokenizer: One that neither pads nor cuts.
        text: As the encoder reads it.
        span: What is asked about, in characters.
        most: Tokens kept of a longer text: its first ones, or those around the span.
    """
    # A token is at least a character: what lies further on cannot be among those read.
    start = max(0, span[0] - 16 * most) if span is not None else 0
    found = tokenizer.encode(text[start : start + 64 * most])
    ids = np.array(found.ids, dtype=np.int64)
    types = np.zeros(len(ids), dtype=np.int64)
    if span is not None:
        at = np.array(found.offsets, dtype=np.int64).reshape(-1, 2) + start
        types[(at[:, 1] > at[:, 0]) & (at[:, 0] < span[1]) & (at[:, 1] > span[0])] = 1
    if len(ids) <= most:
        return ids, types
    first = int(types.argmax()) if types.any() else 0
    room = most - 2
    low = 1 if first < room else min(first - room // 2, len(ids) - 1 - room)
    kept = np.concatenate([[0], np.arange(low, low + room), [len(ids) - 1]])
    return ids[kept], types[kept]
