"""Who the members are, and how long all of them together may take."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from finllm.reasoning.llm.settings import LlmSettings

Weight = Annotated[float, Meta(gt=0.0, le=100.0)]
_MARGIN_SHARE: Final = 0.1
_MOST_MARGIN_S: Final = 0.1
"""What of the time is left for concluding."""
_GRACE_SHARE: Final = 0.1
"""Of the time, that the slower are given as well: not to hear them costs more than so short a wait."""


class MemberSettings(LlmSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One member: `[[reasoning.member]]` in the file, once for each, with the keys of `[reasoning.llm]`."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
    provider: Annotated[str, Meta(max_length=100)] = ""
    """Who serves it."""
    family: Annotated[str, Meta(max_length=100)] = ""
    """Models of one family have learnt from much the same texts; an ensemble of one family says so."""
    languages: tuple[Annotated[str, Meta(pattern=r"^[a-z]{2}$")], ...] = ()
    """ISO 639-1. It is asked where the pack holds a text in one of these, or about one of its markets."""
    markets: tuple[Annotated[str, Meta(min_length=1, max_length=100)], ...] = ()
    """Venues such as `bitstamp`, or instruments such as `bitstamp:BTCEUR`."""
    weight: Weight = 1.0
    """Before there is a record of it; the embedded reasoner's is `embedded_weight`."""

    def __post_init__(self) -> None:
        """Check the endpoint.

        Raises:
            SettingsError: If it is none, or none is named.
        """
        LlmSettings.__post_init__(self)
        if not self.is_on:
            raise self.bad("base_url", "is empty", "Name an address, or a file in gguf.")

    @property
    def place(self) -> str:
        """Return the table in the settings' file."""
        return f"reasoning.member {self.name}"

    @property
    def is_regional(self) -> bool:
        """Return whether it is asked only in its own region."""
        return bool(self.languages or self.markets)

    def fits(self, instrument: str, languages: frozenset[str]) -> bool:
        """Return whether it is asked about an instrument, on texts in these languages."""
        own = {instrument, instrument.partition(":")[0]}
        is_at_home = not own.isdisjoint(self.markets) or not languages.isdisjoint(self.languages)
        return is_at_home or not self.is_regional


class EnsembleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All members together: `[reasoning.ensemble]`."""

    deadline_s: Annotated[float, Meta(gt=0.0, le=600.0)] = 10.0
    """From question to conclusion, if the gate's own deadline is not earlier; a member's may be earlier."""
    embedded_weight: Weight = 1.0
    """Of the embedded reasoner, before there is a record of it."""
    patience: Annotated[float, Meta(ge=1.0, le=1_000.0)] = 2.0
    """Once half of those asked have answered, the others have until this many times what these took, and a
    tenth of the deadline more; then they are late."""
    after: Annotated[str, Meta(max_length=4_096)] = ""
    """Folder of an earlier run, from whose ledger the track record goes on; empty = there is none yet."""

    def budget_s(self, left_s: float) -> float:
        """Return how long members may take, of what is left to the gate's deadline: a little less."""
        most = max(0.0, min(left_s, self.deadline_s))
        return most - min(_MOST_MARGIN_S, _MARGIN_SHARE * most)

    def patience_ns(self, took_ns: int, budget_ns: int) -> int:
        """Return how long the others may take where half of the members took so long, of so long a budget."""
        return round(self.patience * took_ns + _GRACE_SHARE * budget_ns)
