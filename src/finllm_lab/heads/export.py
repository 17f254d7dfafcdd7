"""From fitted heads to a pack: rounded, blended, hashed, with its card."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.narrative.reading.heads import CARD, WEIGHTS, Blend, Card, TaskCard, version_of
from finllm.narrative.reading.labelled import TASKS
from finllm.narrative.reading.minilm import Adapter
from finllm_lab.cards import write_record
from finllm_lab.heads.fit import Fitted

_FULL: Final = 127.0


def rounded_rows(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a matrix in 8 bits with one scale per row."""
    scale = (np.maximum(np.abs(matrix).max(axis=1), 1e-12) / _FULL).astype(np.float32)
    return np.rint(matrix / scale[:, None]).clip(-127, 127).astype(np.int8), scale


def packed_adapter(adapter: Adapter) -> dict[str, NDArray[Any]]:
    """Return an adapter's matrices as a pack holds them."""
    out: dict[str, NDArray[Any]] = {}
    for name, (down, up) in adapter.items():
        for kind, matrix in (("down", down), ("up", up)):
            key = f"{name}.{kind}"
            out[key], out[f"{key}.scale"] = rounded_rows(matrix)
    return out


def write_pack(
    out: Path,
    fitted: Fitted,
    blends: Mapping[str, tuple[Blend, Blend | None]],
    *,
    scores: Mapping[str, dict[str, float]],
    n_rows: Mapping[str, int],
    licence: str,
    command: str,
    notes: Sequence[str] = (),
) -> Card:
    """Write a pack's two files and return its card.

    Args:
        out: Folder; made if it is missing.
        fitted: What it is made of.
        blends: By task: words alone, and together with the encoder.
        scores: By task, on rows not trained on.
        n_rows: By task, trained on.
        licence: Classes of the rows.
        command: What was run.
        notes: What a user should know besides.
    """
    from safetensors.numpy import save

    tensors = packed_adapter(fitted.adapter) if fitted.heads else {}
    for task, words in fitted.words.items():
        tensors[f"{task}.words"] = words.weights
    for task, (weight, bias) in fitted.heads.items():
        tensors[f"{task}.weight"] = weight.astype(np.float16)
        tensors[f"{task}.bias"] = bias.astype(np.float32)
    content = save({name: np.ascontiguousarray(t) for name, t in sorted(tensors.items())})
    card = Card(
        version="",
        sha256=sha256(content).hexdigest(),
        data=tuple(f"{TASKS[task].file} (class {TASKS[task].licence})" for task in fitted.words),
        licence=licence,
        command=command,
        tasks={
            task: TaskCard(
                classes=TASKS[task].classes,
                asks=TASKS[task].asks,
                reads=TASKS[task].reads,
                language=TASKS[task].language,
                words_scale=words.scale,
                words_bias=words.bias,
                alone=blends[task][0],
                together=blends[task][1],
                n_rows=n_rows[task],
                scores=scores.get(task, {}),
            )
            for task, words in fitted.words.items()
        },
        notes=tuple(notes),
    )
    card = msgspec.structs.replace(card, version=version_of(card))
    out.mkdir(parents=True, exist_ok=True)
    (out / WEIGHTS).write_bytes(content)
    write_record(out / CARD, card)
    return card
