"""What reads text: the encoder made ready from installed weights, and the heads that go with it."""

from functools import cache
from pathlib import Path
from typing import Final

from finllm.narrative.memory.writer import MemoryWriter
from finllm.narrative.reading.heads import CARD, Heads, Pack
from finllm.narrative.reading.minilm import built, find_weights, graph_name
from finllm.narrative.reading.reader import SHIPPED, Reader
from finllm.narrative.reading.transformer import Transformer
from finllm.narrative.room import Narrative, NarrativeSettings

HASHING: Final = "hashing"
AUTO: Final = "auto"


def encoder_cache() -> Path:
    """Return the folder in which built encoders stand."""
    return Path.home() / ".cache" / "finllm" / "encoders"


def data_folder() -> Path:
    """Return the folder in which what the user has trained stands."""
    return Path.home() / ".local" / "share" / "finllm"


def own_heads() -> Path:
    """Return the pack that the lab's command has written, else the one that ships."""
    own = data_folder() / "heads"
    return own if (own / CARD).is_file() else SHIPPED


def load_encoder(which: str = AUTO, pack: Pack | None = None) -> Transformer | None:
    """Return the small transformer, built if it is not yet; None if there are no weights for it.

    Args:
        which: `auto`: the installed package or the hub's cache; `hashing`: none; else a folder.
        pack: Heads whose adapter goes into it.

    Raises:
        InputError: If the folder named holds no weights.
        ArtifactError: If the weights are not the pinned ones.
    """
    if which == HASHING:
        return None
    source = find_weights(None if which == AUTO else Path(which))
    if source is None:
        return None
    adapter = pack.adapter if pack is not None else {}
    version = pack.card.version if pack is not None and adapter else ""
    folder = built(source, encoder_cache(), adapter, version)
    return Transformer(folder, graph_name(version))


def load_heads(folder: Path, which: str = AUTO) -> Heads:
    """Return a pack of heads with the encoder it was trained with, or without if there is none.

    Raises:
        InputError: If a folder of weights is named that holds none.
        ArtifactError: If the pack or the weights are damaged.
    """
    pack = Pack(folder)
    return Heads(pack, load_encoder(which, pack))


@cache
def load_reader(which: str = AUTO, heads: str = "") -> Reader:
    """Return what reads documents; loaded once per process, because its weights are large.

    Args:
        which: The encoder, as `load_encoder` takes it.
        heads: Folder of a pack; empty = the heads that ship.

    Raises:
        InputError: If a folder of weights is named that holds none.
        ArtifactError: If the pack or the weights are damaged.
    """
    return Reader(load_heads(Path(heads) if heads else SHIPPED, which))


def open_room(settings: NarrativeSettings, memory: MemoryWriter | None = None) -> Narrative:
    """Return an empty room with the reader that its settings name.

    Args:
        settings: The room's.
        memory: Where all that is admitted is kept beyond this process, if anywhere.

    Raises:
        InputError: If a folder of weights is named that holds none.
        ArtifactError: If the pack or the weights are damaged.
    """
    reader = load_reader(settings.encoder, settings.heads)
    return Narrative(settings=settings, reader=reader, memory=memory)
