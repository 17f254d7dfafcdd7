"""Settings: one TOML file, `FINLLM_*` overrides, parsed once. The only reader of the environment.

A misspelt key stops the start and names the nearest right one. Every value has a default, so an empty
file is a good file. An override is named by section and key: `FINLLM_RECORD__GRID_MS=50`.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard, get_args, get_origin
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from finllm.app.tiers import EMBEDDED, ENSEMBLE, LLM, Kind, TierSettings, check_tiers
from finllm.domain.errors import SettingsError
from finllm.escalation.gate import GateSettings
from finllm.escalation.latency import LatencySettings
from finllm.narrative.memory.writer import MemorySettings
from finllm.narrative.room import NarrativeSettings
from finllm.reasoning.ensemble.settings import EnsembleSettings, MemberSettings
from finllm.reasoning.llm.settings import LlmSettings

_PREFIX = "FINLLM_"
_MISFIT = re.compile(r"(.*) - at `\$\.(.*)`", re.DOTALL)
"""What msgspec says of a value, and the path at which it stands."""
_STEP = re.compile(r"(\w+)(?:\[(\d+)\])?")
"""One name of such a path, with the place in an array, from 0."""


class RecordSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a forecast row becomes a `Forecast` record."""

    grid_ms: Annotated[int, Meta(gt=0, le=86_400_000)] = 100
    """Least time between two records of one instrument, unless flags, regime or outlook change."""


class EdgeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which models serve, and how."""

    book_artifact: str = ""
    """Folder of the order-book model; empty = the one that ships."""
    bar_artifact: str = ""
    """Folder of the bar model; empty = the one that ships."""
    workers: Annotated[int, Meta(ge=0, le=64)] = 0
    """Inference processes; 0 = in this process."""
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    """Where a model runs: as the compiled kernel that it offers, else as its ONNX graph on the CPU; or as
    that graph where it is told to."""
    chunk: Annotated[int, Meta(ge=1, le=65_536)] = 512
    """Most frames taken at a time; a digest does not depend on it."""


class ReasoningSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The slow path's paths."""

    explain: bool = True
    """Write traces. Off changes no forecast."""
    llm: LlmSettings = LlmSettings()
    """The language model that is asked beyond the embedded reasoner, if any."""
    member: tuple[MemberSettings, ...] = ()
    """Those of the ensemble that is asked beyond either, if any: `[[reasoning.member]]`, once for each."""
    ensemble: EnsembleSettings = EnsembleSettings()
    """All of them together."""

    def __post_init__(self) -> None:
        """Check that it is clear who is asked.

        Raises:
            SettingsError: If two members have one name.
        """
        names = [member.name for member in self.member]
        for name in names:
            if names.count(name) > 1:
                raise SettingsError(
                    "two members have this name",
                    place=f"reasoning.member {name}",
                    mend="Name each as you would tell it apart in a trace.",
                )

    @property
    def known(self) -> tuple[Kind, ...]:
        """Return who can be asked, cheapest first."""
        llm = (LLM,) if self.llm.is_on else ()
        return (EMBEDDED, *llm, *((ENSEMBLE,) if self.member else ()))


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How records are kept."""

    group: Annotated[int, Meta(ge=1, le=1_000_000)] = 500
    """Records per commit; each commit is synced."""
    max_mb: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    """Size at which recording stops, loudly, as on a full disk; 0 = the disk's own."""


class ReplaySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of the past warms a replay up."""

    warm_up_days: Annotated[int, Meta(ge=0, le=36_500)] = 1200
    """Bars older than this before `--from` are left out, counted; the edge remembers about as much."""


class DocumentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How recorded documents without a receive time are dated."""

    delay_s: Annotated[float, Meta(ge=0.0, le=1e9)] = 2.0
    """Declared delay from publication to receipt."""


class ConnectionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One connection to a venue; `[[feed.connections]]` in the file, once for each."""

    venue: str
    """`binance-spot`, `binance-usdm`, `binance-cm`, `binance-us`, or any venue that is decoded."""
    symbols: tuple[str, ...] = ()
    """As the venue writes them."""
    url: str = ""
    """Instead of the venue's own address; needed for venues other than Binance."""
    rest: str = ""
    """Instead of the address of Binance's REST service; other venues send whole books on their stream."""
    hello: tuple[str, ...] = ()
    """For venues other than Binance, which subscribes by its address: what to send to subscribe."""


class SourceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One source of text; `[[source]]` in the file, once for each."""

    name: Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^/\s]+$")]
    """What its documents call it; no blanks and no slash."""
    kind: str
    """`rss`, `jsonl`, `newswire`, `sec-submissions`, `sec-search`, `fomc`, `social`, a plug-in's name, or its
    class as `package.module:Class` or `path/file.py:Class`."""
    url: str = ""
    """http(s):// is polled, ws(s):// is kept open."""
    every_s: Annotated[float, Meta(ge=0.05, le=86_400.0)] = 60.0
    """Usual interval between polls, with a tenth of jitter; doubled with each failure, an hour at most."""
    per_second: Annotated[float, Meta(gt=0.0, le=1_000.0)] = 5.0
    """Most requests a second to its host, over all sources; the least of those of one host holds."""
    timeout_s: Annotated[float, Meta(gt=0.0, le=600.0)] = 20.0
    """For a whole request."""
    max_mb: Annotated[float, Meta(gt=0.0, le=1_000.0)] = 8.0
    """Megabytes of a body, packed or not; a longer one is refused."""
    zone: str = ""
    """IANA zone of times that state none; empty = the kind's own."""
    user_agent: str = ""
    """Who asks; the SEC wants a name and an address."""
    headers: dict[str, str] = {}
    """Further headers, such as a key."""
    hello: tuple[str, ...] = ()
    """What to send on a WebSocket to subscribe."""
    reconnect_after_s: Annotated[float, Meta(gt=0.0, le=86_400.0)] = 300.0
    """A WebSocket that says nothing for so long is made anew; the longest of all holds."""

    def __post_init__(self) -> None:
        """Check the zone.

        Raises:
            SettingsError: If there is no such zone.
        """
        try:
            ZoneInfo(self.zone or "UTC")
        except (KeyError, ValueError, OSError):
            raise SettingsError(
                f"{self.zone!r} is no IANA time zone",
                place=f"source {self.name}, zone",
                mend="Write one such as America/New_York.",
            ) from None


class FeedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where live frames come from."""

    connections: tuple[ConnectionSettings, ...] = ()
    reconnect_after_s: Annotated[float, Meta(gt=0.0, le=86_400.0)] = 30.0
    """A connection that says nothing for so long is made anew; its rows are stale after 5 s already."""
    max_waiting: Annotated[int, Meta(ge=1_000, le=100_000_000)] = 200_000
    """Frames that may wait to be used; beyond that the sockets are not read, and the venue waits."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set, by room."""

    feed: FeedSettings = FeedSettings()
    source: tuple[SourceSettings, ...] = ()
    """Where live documents come from."""
    record: RecordSettings = RecordSettings()
    edge: EdgeSettings = EdgeSettings()
    narrative: NarrativeSettings = NarrativeSettings()
    memory: MemorySettings = MemorySettings()
    documents: DocumentSettings = DocumentSettings()
    escalation: GateSettings = GateSettings()
    latency: LatencySettings = LatencySettings()
    """How long a reply takes on a bare tape, and what the gate believes at first."""
    reasoning: ReasoningSettings = ReasoningSettings()
    tier: tuple[TierSettings, ...] = ()
    """Who is asked in turn; empty = everybody who is configured, cheapest first."""
    ledger: LedgerSettings = LedgerSettings()
    replay: ReplaySettings = ReplaySettings()

    def __post_init__(self) -> None:
        """Check that who is named can be asked.

        Raises:
            SettingsError: If a tier is named twice, is not configured, or has no latency.
        """
        check_tiers(self.tier, self.reasoning.known)
        for tier in self.tier:
            tier.latency(self.latency)

    @property
    def tiers(self) -> tuple[TierSettings, ...]:
        """Return who is asked in turn."""
        return self.tier or tuple(TierSettings(reasoner=kind) for kind in self.reasoning.known)


def _fields(section: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.name: field for field in msgspec.structs.fields(section)}


def _check_key(key: str, known: Mapping[str, Any], place: str) -> None:
    if key in known:
        return
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(sorted(known))}."
    raise SettingsError(f"unknown key {key!r}", place=place, mend=hint)


def _check_keys(table: Mapping[str, Any], place: str) -> None:
    sections = _fields(Settings)
    for name, section in table.items():
        _check_key(name, sections, place)
        if _inner(sections[name].type) is not None:
            _check_tables(section, sections[name].type, f"{place} [[{name}]]")
            continue
        if not isinstance(section, Mapping):
            raise SettingsError(
                f"{name!r} is a section, not a value", place=place, mend=f"Write [{name}] above it."
            )
        fields = _fields(sections[name].type)
        for key, value in section.items():
            _check_key(key, fields, f"{place} [{name}]")
            _check_tables(value, fields[key].type, f"{place} [[{name}.{key}]]")
            _check_table(value, fields[key].type, f"{place} [{name}.{key}]")


def _inner(wanted: object) -> type[msgspec.Struct] | None:
    """Return the record of an array of tables; None if a type is none."""
    inner = next(iter(get_args(wanted)), None)
    return inner if isinstance(inner, type) and issubclass(inner, msgspec.Struct) else None


def _check_tables(value: object, wanted: object, place: str) -> None:
    """Check the keys of each table of an array of tables, such as `[[feed.connections]]`."""
    inner = _inner(wanted)
    if inner is None:
        return
    for number, table in enumerate(value if isinstance(value, list) else [], start=1):
        for key in table if isinstance(table, Mapping) else ():
            _check_key(key, _fields(inner), f"{place} number {number}")


def _check_table(value: object, wanted: object, place: str) -> None:
    """Check the keys of a table within a section, such as `[reasoning.llm]`."""
    if not _is_record(wanted):
        return
    if not isinstance(value, Mapping):
        raise SettingsError("it is a table, not a value", place=place, mend=f"Write {place}.")
    for key in value:
        _check_key(key, _fields(wanted), place)


def _is_record(wanted: object) -> TypeGuard[type[msgspec.Struct]]:
    return isinstance(wanted, type) and issubclass(wanted, msgspec.Struct)


def _names(section: str, record: type[msgspec.Struct]) -> Iterator[tuple[str, ...]]:
    """Yield the path of every value of a section that a variable can set."""
    for key, field in _fields(record).items():
        if _is_record(field.type):
            yield from ((section, key, inner) for inner in _fields(field.type))
        else:
            yield section, key


def secret(name: str, environment: Mapping[str, str] | None = None) -> str:
    """Return what an environment variable holds, such as a key; it is kept in no record.

    Args:
        name: Of the variable; empty = there is no secret.
        environment: The process's own when None.

    Raises:
        SettingsError: If it is not set, or holds what no header can: a line's end, or letters beyond ASCII.
    """
    held = (os.environ if environment is None else environment).get(name, "") if name else ""
    if name and not held:
        raise SettingsError("is not set", place=f"environment {name}", mend="Set it to the key.")
    if not (held.isascii() and held.isprintable()):
        raise SettingsError(
            "holds characters that no key has",
            place=f"environment {name}",
            mend="Set it to the key alone, without a line's end.",
        )
    return held


def _overrides(environment: Mapping[str, str]) -> dict[str, Any]:
    variables = {
        (_PREFIX + "__".join(path)).upper(): path
        for section, field in _fields(Settings).items()
        if _inner(field.type) is None
        for path in _names(section, field.type)
    }
    table: dict[str, Any] = {}
    for name, value in sorted(environment.items()):
        if name.startswith(_PREFIX):
            _check_key(name.upper(), variables, "environment")
            *outer, key = variables[name.upper()]
            held = table
            for part in outer:
                held = held.setdefault(part, {})
            held[key] = value
    return table


def _merged(table: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with another's values over its own, tables within it likewise."""
    merged = dict(table)
    for key, value in extra.items():
        own = merged.get(key)
        if isinstance(value, Mapping) and isinstance(own, Mapping):
            merged[key] = _merged(own, value)
        else:
            merged[key] = value
    return merged


def _standing(path: str) -> tuple[str, object]:
    """Return where a value stands as a file says it, arrays counted from 1, and the type wanted there.

    `tier[1].reasoner` stands in "[[tier]] number 2, reasoner".
    """
    wanted: Any = Settings
    names: list[str] = []
    said = ""
    for name, index in _STEP.findall(path):
        wanted = _fields(_inner(wanted) or wanted)[name].type
        names.append(name)
        number = f" number {int(index) + 1}" if index else ""
        if _inner(wanted) is not None:
            said = f"[[{'.'.join(names)}]]{number}"
        elif _is_record(wanted):
            said = f"[{'.'.join(names)}]"
        else:
            said += f", {name}{number}"
    return said, wanted


def _misfit(error: msgspec.ValidationError, place: str) -> SettingsError:
    """Return the error of a value that does not fit, with what would."""
    found = _MISFIT.fullmatch(str(error))
    if found is None:
        return SettingsError(str(error), place=place, mend="Mend the value.")
    what, path = found.groups()
    said, wanted = _standing(path)
    allowed = ", ".join(map(repr, get_args(wanted))) if get_origin(wanted) is Literal else ""
    mend = f"Write one of {allowed}." if allowed else "Mend the value."
    return SettingsError(what, place=f"{place} {said}", mend=mend)


def _convert(table: Mapping[str, Any], place: str) -> Settings:
    try:
        return msgspec.convert(table, Settings, strict=False)
    except SettingsError as error:  # from a room, which knows its section and no file
        raise SettingsError(error.what, place=f"{place}: {error.place}", mend=error.mend) from error
    except msgspec.ValidationError as error:
        raise _misfit(error, place) from error


def load_settings(path: Path | None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings file, then the overrides.

    Args:
        path: TOML file, or None for the defaults alone.
        environment: Variables to take overrides from; the process's own when None.

    Raises:
        SettingsError: If the file cannot be read, or a key or value is not known.
    """
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(str(error), place=str(path), mend="Mend the file.") from error
        _check_keys(table, str(path))
    extra = _overrides(os.environ if environment is None else environment)
    table = _merged(table, extra)
    read = [str(path)] if path else []
    return _convert(table, " and ".join([*read, *(["environment FINLLM_*"] if extra else [])]))
