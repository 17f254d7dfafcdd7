"""A simulated node's disk that is a real one: the ledger's own storage in a folder, cut as is wished."""

from collections.abc import Sequence
from pathlib import Path

from finllm.ledger import rows
from finllm.ledger.head import HeadFile
from finllm.ledger.storage import Storage
from finllm_lab.consistency.world import PowerCutError, Stored


class FileDisk:
    """Files in a folder; every life of the node opens them anew.

    Args:
        folder: Where they are.
        stored: Told each group that is kept for good.
    """

    def __init__(self, folder: Path, stored: Stored) -> None:
        self.cut = ""
        self._folder, self._stored = folder, stored
        Storage.make(folder)
        self._storage = _Cut(self)

    def opened(self) -> Storage:
        self._storage.close()
        self._storage = _Cut(self)
        return self._storage

    def close(self) -> None:
        self._storage.close()

    def maybe_cut(self, place: str) -> None:
        if self.cut == place:
            self.cut = ""
            raise PowerCutError(place)


class _Cut(Storage):
    def __init__(self, disk: FileDisk) -> None:
        super().__init__(disk._folder, None)
        self._disk = disk
        self._head = _CutHead(self._head, disk)

    def store(self, group: Sequence[rows.Entry], count: int, last_hash: bytes) -> None:
        self._disk.maybe_cut("before")
        self._head.group = group
        super().store(group, count, last_hash)
        self._disk.maybe_cut("after")


class _CutHead:
    """The head of a ledger, written only if the power lasts so long."""

    def __init__(self, head: HeadFile, disk: FileDisk) -> None:
        self.group: Sequence[rows.Entry] = ()
        self.reset = head.reset
        self._head, self._disk = head, disk

    def write(self, count: int, last_hash: bytes) -> None:
        self._disk._stored(self.group)
        self._disk.maybe_cut("between")
        self._head.write(count, last_hash)
