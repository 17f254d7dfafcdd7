"""The tiers of the slow path, cheapest first: who is asked in turn, how long it takes, what it costs.

A tier's answer goes in force when it comes, and the gate is then asked whether the next is worth it. One tier
alone is asked when the gate says so.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from finllm.domain.errors import SettingsError
from finllm.domain.forecast import Cost
from finllm.domain.protocol import Outlook
from finllm.domain.revise import total
from finllm.escalation.appraise import Tier
from finllm.escalation.gate import GateSettings
from finllm.escalation.latency import LatencyBelief, LatencyModel, LatencySettings
from finllm.reasoning.llm.settings import LlmSettings
from finllm.reasoning.reasoner import DeferredReasoner, Judgement, Reasoner

Kind = Literal["embedded", "llm", "ensemble"]
EMBEDDED: Final[Kind] = "embedded"
LLM: Final[Kind] = "llm"
ENSEMBLE: Final[Kind] = "ensemble"
_PRIOR_N: Final = 20.0
"""Questions that what a tier is assumed to cost weighs as much as."""
MOST_BY_CHANCE: Final = 0.25
"""Of a tier's own share, what may be asked by chance."""
Milliseconds = Annotated[float, Meta(ge=0.0, le=3.6e6)]


class TierSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tier; `[[tier]]` in the file, once for each, in the order in which they are asked."""

    reasoner: Kind
    """`embedded`, `llm` of `[reasoning.llm]`, or `ensemble` of the `[[reasoning.member]]`s."""
    p50_ms: Milliseconds = 0.0
    """Median of a reply on a bare tape, and what is believed at first; 0 = `[latency]`, or for the embedded
    reasoner beneath others 5."""
    p95_ms: Milliseconds = 0.0
    """95th percentile likewise; 0 = `[latency]`, or 20."""
    share: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    """Of the questions put to its gate that may be asked, when learning; 0 = `escalation.call_share`."""

    def gate(self, usual: GateSettings, *, is_free: bool) -> GateSettings:
        """Return the settings of its gate, where it states less than another; a free one learns nothing.

        Of a share of its own most is asked by judgement, however small it is.
        """
        share = self.share or usual.call_share
        explore = min(usual.explore, MOST_BY_CHANCE * share) if self.share else usual.explore
        return msgspec.structs.replace(
            usual,
            call_share=share,
            explore=explore,
            learn=usual.learn and not is_free,
        )

    def latency(self, usual: LatencySettings) -> LatencySettings:
        """Return what is assumed of its replies, where it states less than another.

        Raises:
            SettingsError: If the two are no latency.
        """
        try:
            return msgspec.structs.replace(
                usual, p50_ms=self.p50_ms or usual.p50_ms, p95_ms=self.p95_ms or usual.p95_ms
            )
        except SettingsError as error:
            raise _bad(self.reasoner, error.what, error.mend) from error


def check_tiers(tiers: tuple[TierSettings, ...], known: Iterable[Kind]) -> None:
    """Check that it is clear who is asked in turn.

    Raises:
        SettingsError: If a tier is named twice or not configured, or the embedded reasoner is not the first.
    """
    kinds = [tier.reasoner for tier in tiers]
    for number, kind in enumerate(kinds):
        if kinds.count(kind) > 1:
            raise _bad(kind, "two tiers ask it", "Leave one of them out.")
        if kind not in known:
            raise _bad(kind, "it is not configured", "Write [reasoning.llm], or members.")
        if kind == EMBEDDED and number:
            raise _bad(kind, "it stands above another", "Name it first: it costs nothing.")


def _bad(kind: Kind, what: str, mend: str) -> SettingsError:
    return SettingsError(what, place=f"tier {kind}", mend=mend)


class Spending:
    """What a tier's questions cost on average, over what is assumed at first.

    Args:
        first: What one is assumed to cost.
    """

    def __init__(self, first: Cost) -> None:
        self._n = _PRIOR_N
        self._tokens = _PRIOR_N * first.tokens
        self._usd = _PRIOR_N * first.usd
        self._energy_j = _PRIOR_N * first.energy_j

    def observe(self, judgement: Judgement) -> None:
        """Take in what one cost; one about no forecast does not say."""
        if not judgement.verdicts:
            return
        self._n += 1.0
        for verdict in judgement.verdicts:
            self._tokens += verdict.cost.tokens
            self._usd += verdict.cost.usd
            self._energy_j += verdict.cost.energy_j

    def tier(self, name: str, latency: LatencyBelief, wait_ns: int) -> Tier:
        """Return a tier that costs as much."""
        return Tier(
            name=name,
            latency=latency,
            tokens=self._tokens / self._n,
            usd=self._usd / self._n,
            energy_j=self._energy_j / self._n,
            wait_ns=wait_ns,
        )


class Believed(msgspec.Struct, frozen=True, kw_only=True):
    """A tier as the gate knows it."""

    name: str
    """As it stands on the gate's answers, and by which its record is learnt."""
    assumed: LatencySettings
    """Of its replies, before any has come, and always where time is virtual."""
    latency: LatencyBelief
    spending: Spending
    slots: int = 1
    """Questions that it answers at a time."""
    is_free: bool = False
    """It costs nothing, and others stand above it: whatever is not barred is asked."""

    def asked(self, n_open: int) -> Tier:
        """Return it as the gate is asked about it, with so many questions open.

        A further question waits until enough of these have ended.
        """
        wait_ns = max(0, n_open - self.slots + 1) * self.latency.p50_ns // self.slots
        return self.spending.tier(self.name, self.latency, wait_ns)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A tier as the pipeline asks it."""

    believed: Believed
    latency: LatencyModel
    """How long a reply takes where time is virtual."""
    reasoner: Reasoner
    deferred: DeferredReasoner | None = None
    """The same reasoner, heard at a tick where its answers take the time that they take."""

    @property
    def name(self) -> str:
        """Return the tier's name."""
        return self.believed.name


def believed(
    name: str,
    latency: LatencySettings,
    endpoints: tuple[LlmSettings, ...] = (),
    *,
    is_free: bool = False,
) -> Believed:
    """Return a tier of which nothing is known but what is assumed.

    Args:
        name: The tier's.
        latency: Of its replies.
        endpoints: The language models behind it.
        is_free: It costs nothing, and others stand above it.
    """
    return Believed(
        name=name,
        assumed=latency,
        latency=LatencyBelief(latency),
        spending=Spending(_together(assumed(one) for one in endpoints)),
        slots=min((one.concurrency for one in endpoints), default=1),
        is_free=is_free,
    )


def assumed(settings: LlmSettings) -> Cost:
    """Return what a question to a language model is assumed to cost: a full pack, and half an answer."""
    prompt, output = settings.pack_tokens, settings.max_tokens // 2
    return Cost(
        tokens=prompt + output,
        usd=(prompt * settings.usd_per_m_prompt + output * settings.usd_per_m_output) / 1e6,
        energy_j=prompt * settings.j_per_prompt_token + output * settings.j_per_output_token,
    )


def priced(settings: LlmSettings) -> Tier:
    """Return a language model alone, as what a question to it is assumed to cost."""
    return believed(settings.model_name, LatencySettings(), (settings,)).asked(0)


def _together(costs: Iterable[Cost]) -> Cost:
    """Return several costs together."""
    whole = Cost()
    for cost in costs:
        whole = total(whole, cost)
    return whole


def fallen(tiers: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    """Return a note on each tier in whose place another answered most of its questions.

    Args:
        tiers: By tier, how its questions ended, as `run.json` counts it.
    """
    notes = []
    for name, ends in tiers.items():
        n = ends.get("fell_back", 0)
        whole = n + ends.get("answered", 0) + ends.get("late", 0)
        if 2 * n > whole:
            told = f"{n:,} of {whole:,} answers"
            notes.append(f"tier {name} fell back on the embedded reasoner: {told}")
    return tuple(notes)


def silent(instrument: str, now: int) -> Outlook:
    """Return what a tier has said that leaves the outlook in force alone: an outlook without bands."""
    return Outlook(instrument=instrument, version=0, ts=now, bands=(), half_life_ns=1, expires=now)
