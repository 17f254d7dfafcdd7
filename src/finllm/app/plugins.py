"""Sources by name: those that ship, those that installed packages offer, and classes named outright."""

import importlib
import importlib.util
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Final

from finllm.domain.errors import SettingsError
from finllm.narrative.sources.kinds import KINDS
from finllm.narrative.sources.source import Source

GROUP: Final = "finllm.sources"
"""Entry points by which an installed package offers its sources."""


def source_maker(kind: str, place: str = "source") -> Callable[[], Source]:
    """Return what makes a source.

    Args:
        kind: A kind that ships, an entry point's name, `package.module:Class` or `path/file.py:Class`.
        place: Where the name stands, for the error.

    Raises:
        SettingsError: If there is no such source, or its module cannot be imported.
    """
    if kind in KINDS:
        return KINDS[kind]
    offered = {point.name: point for point in entry_points(group=GROUP)}
    if kind in offered:
        kind = offered[kind].value
    module_name, _, class_name = kind.rpartition(":")
    if not module_name or not class_name:
        known = ", ".join(sorted([*KINDS, *offered]))
        raise SettingsError(
            f"no source is named {kind!r}",
            place=place,
            mend=f"Known here: {known}; or write package.module:Class or path/file.py:Class.",
        )
    found = getattr(_module(module_name, place), class_name, None)
    if not callable(found):
        raise SettingsError(
            f"{module_name} has no class {class_name}", place=place, mend="Name the class in it."
        )
    maker: Callable[[], Source] = found
    return maker


def _module(name: str, place: str) -> ModuleType:
    try:
        return _file_module(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except Exception as error:  # a module of others may fail in any way
        raise SettingsError(
            f"{name} cannot be imported: {type(error).__name__}: {error}",
            place=place,
            mend="Mend it, or its name.",
        ) from error


def _file_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
