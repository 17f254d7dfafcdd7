"""Runs attacks by family and collects how each fared."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Final

import msgspec

from finllm.app.attack import streams, texts
from finllm.app.attack.field import Family, Field
from finllm.domain.errors import InputError

Runner = Callable[[Field, Callable[[], None]], list[Family]]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How every family fared; they are never pooled."""

    seed: int
    n_documents: int
    n_texts: int
    """Distinct texts that attacks and controls were drawn from."""
    families: tuple[Family, ...]

    @property
    def ok(self) -> bool:
        """Return whether every family meets its goals."""
        return all(family.ok for family in self.families)


def _plain(run: Callable[[Field], list[Family]]) -> Runner:
    def runner(field: Field, tick: Callable[[], None]) -> list[Family]:
        tick()
        return run(field)

    return runner


def _campaigns(field: Field, tick: Callable[[], None]) -> list[Family]:
    found = []
    for share, least in ((0.0, 0.95), (0.15, 0.95), (0.3, 0.0)):
        found += streams.campaigns(field, share, least_recall=least, tick=tick)
    return found


def _poisoned(field: Field, tick: Callable[[], None]) -> list[Family]:
    return streams.poisoned(field, 20 * field.size, tick=tick)


def _flood(field: Field, tick: Callable[[], None]) -> list[Family]:
    return streams.flood(field, 20 * field.size, tick=tick)


FAMILIES: Final[dict[str, Runner]] = {
    "homoglyph": _plain(texts.homoglyph),
    "zero-width": _plain(texts.zero_width),
    "edits-15": _plain(lambda field: texts.edits(field, 0.15, least_recall=0.95)),
    "edits-30": _plain(lambda field: texts.edits(field, 0.3, least_recall=0.8)),
    "syndication": _plain(texts.syndication),
    "stale": _plain(texts.stale),
    "injection": _plain(texts.injection),
    "contradiction": _plain(streams.contradiction),
    "liar": _plain(streams.liar),
    "way-back": _plain(streams.way_back),
    "flood": _flood,
    "campaign": _campaigns,
    "poisoned-times": _poisoned,
}


def chosen(names: str) -> list[str]:
    """Return the families that a comma-separated list names; all of them for `all`.

    Raises:
        InputError: If there is no such family.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if wanted == ["all"]:
        return list(FAMILIES)
    for name in wanted:
        if name not in FAMILIES:
            near = get_close_matches(name, FAMILIES, 1) or list(FAMILIES)
            raise InputError(
                f"there is no family {name!r}",
                place="--family",
                mend=f"Write all, or some of: {', '.join(near)}.",
            )
    return wanted


def attack(
    field: Field,
    families: list[str],
    *,
    on_family: Callable[[str], None] | None = None,
    on_step: Callable[[], None] | None = None,
) -> Report:
    """Attack a room with each family in turn.

    Args:
        field: What the attacks are planted in.
        families: Names from `FAMILIES`.
        on_family: Told each family's name as it begins.
        on_step: Called now and then.

    Raises:
        InputError: If the field holds too few distinct texts.
    """
    if len(field.texts) < 20:
        raise InputError(
            f"{len(field.texts)} distinct texts of five words and more",
            place="the documents",
            mend="Attacks need 20 at least: give more with --documents.",
        )
    found: list[Family] = []
    for name in families:
        if on_family is not None:
            on_family(name)
        found += FAMILIES[name](field, on_step or (lambda: None))
    return Report(
        seed=field.seed,
        n_documents=len(field.documents),
        n_texts=len(field.texts),
        families=tuple(found),
    )
