"""A feature spec: the names, units, windows and order of the numbers in a row."""

from functools import cached_property

import msgspec

from finllm.domain.identity import content_id


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One number of a row."""

    name: str
    unit: str
    """Such as `bps`, `ticks`, `1` for a ratio, `log(s)`."""
    window_ns: int = 0
    """Length of the window behind it in nanoseconds (bars: in bars, see `unit_of_window`); 0 = a state."""
    unit_of_window: str = "ns"
    """`ns` or `bars`."""
    source: str
    """Paper and equation, or the definition in one line."""


class FeatureSpec(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The ordered features of a row. Two specs with the same hash describe the same row."""

    name: str
    version: int
    features: tuple[Feature, ...]

    @cached_property
    def hash(self) -> str:
        """Return 32 hex digits over everything that the spec states."""
        return content_id(self.name, self.version, self.features)

    @cached_property
    def columns(self) -> dict[str, int]:
        """Return each feature's column by name."""
        return {feature.name: i for i, feature in enumerate(self.features)}

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self.features)
