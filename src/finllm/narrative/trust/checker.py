"""The sanity checker: a second agent that weighs every claim, and what later ones make of it.

It keeps, per sender, a record of outcomes; per instrument, the claims and facts of the last days; per
cluster of texts, the crowd behind it. Each claim gets its reasons when it is made. Later claims may confirm,
deny or contradict it, or show it to be part of a campaign: that counts for its sender's record, and changes
its standing from then on by a dated `Quarantine` record.

It knows only what has been received, and is asked in order of receipt.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from finllm.domain.evidence import Document, Evidence, Quarantine, QuarantineState, Reason
from finllm.narrative.repeats.nearness import Overlaps
from finllm.narrative.repeats.origins import sender_of
from finllm.narrative.repeats.stale import FirstSeen, written_date_ns
from finllm.narrative.repeats.words import Codes, Frequencies
from finllm.narrative.text.canonical import Changes
from finllm.narrative.trust.campaigns import Campaigns
from finllm.narrative.trust.credibility import (
    CredibilityWeights,
    Senders,
    corroboration,
    credibility,
    document_reasons,
    is_campaign,
    is_unknown,
    record_reasons,
    said_against,
)
from finllm.narrative.trust.facts import Fact, Facts, Stated, are_contrary, facts_of
from finllm.narrative.trust.opinion import SecondReader, log_odds_of, question_of
from finllm.narrative.trust.reputation import Reputation
from finllm.narrative.trust.standing import Held, Standings, changed
from finllm.runtime.tally import Tally

DENIAL: Final = "denial"
RUMOUR: Final = "rumour"
TAKES_UP: Final = 0.4
"""Share of a claim's weighted words that a denial of it repeats, at least."""
SAME_STORY: Final = 0.25
"""Weighted Jaccard similarity of two reports of one event, at least."""
LEANS: Final = 0.25
"""A stance within this of nought is neither way."""
VOUCHES: Final = 0.75
"""Record from which on a sender that repeats a text vouches for it; an unknown account never does."""
CONFIRMS: Final = 0.5
"""Credibility from which on an independent claim confirms another."""
MOST_CLUSTERS: Final = 16_384


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the checker is set to."""

    prior: float
    source_priors: dict[str, float]
    verified_sources: frozenset[str]
    quarantine_below: float
    campaign_window_ns: int
    same_story_ns: int
    stale_ns: int


class Weighed(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said of a document, whatever it claims and of whom."""

    sender: str
    cluster: int
    reasons: tuple[Reason, ...]
    held_back: str = ""
    """Why its claims are to be quarantined; empty if they are not."""
    vouches: bool = False
    """Its sender's word stands for what it repeats."""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A claim with its reasons, and what it changed."""

    claim: Evidence
    is_visible: bool
    quarantines: tuple[Quarantine, ...]
    """Of itself first, then of earlier claims in their order."""
    facts: tuple[Fact, ...] = ()
    """Figures that it states."""


class _Subject:
    """What is known of one instrument."""

    def __init__(self) -> None:
        self.standings = Standings()
        self.facts = Facts()


class Checker:
    """The checker of one room.

    Args:
        limits: What it is set to.
        weights: Of the terms of a claim's credibility.
        frequencies: How common each word is so far, as the room counts it.
        tally: Where what it does is counted.
        second: Another agent whose opinion is asked of each claim, if any.
    """

    def __init__(
        self,
        limits: Limits,
        weights: CredibilityWeights,
        frequencies: Frequencies,
        tally: Tally,
        second: SecondReader | None = None,
    ) -> None:
        self._limits = limits
        self._weights = weights
        self._frequencies = frequencies
        self._tally = tally
        self._second = second
        self.reputation = Reputation()
        self.senders = Senders()
        self._campaigns = Campaigns(capacity=MOST_CLUSTERS, window_ns=limits.campaign_window_ns)
        self.first_seen = FirstSeen(4 * MOST_CLUSTERS)
        self._subjects: dict[str, _Subject] = {}
        self._held_in: dict[int, list[Held]] = {}
        """By cluster, its claims whose standing can still change, in order of receipt."""

    # --- a document, whatever it claims ---------------------------------------------------------

    def weigh(
        self,
        document: Document,
        text: str,
        changes: Changes,
        *,
        name: bytes,
        cluster: int,
        is_copy: bool,
    ) -> Weighed:
        """Return what is to be said of a document, and count it for its sender and its cluster.

        Args:
            document: As received.
            text: Its canonical text.
            changes: What canonical form took away.
            name: Hash of its normalised text.
            cluster: Number of the first text that this one repeats or resembles.
            is_copy: It repeats that one.
        """
        now, sender = document.ts_recv, sender_of(document)
        is_verified = document.is_verified or document.source in self._limits.verified_sources
        reasons = document_reasons(
            document,
            text,
            changes,
            self._weights,
            originality=self.senders.originality(sender),
            is_verified=is_verified,
            is_stale=self._is_stale(text, name, now),
        )
        mean = self.reputation.mean(sender, "", self._prior(document), now)
        unknown = is_unknown(document, self.senders.written(sender))
        is_good = is_verified or (mean >= VOUCHES and not unknown)
        planted = self._is_planted(document, sender, cluster, is_unknown=unknown) and not is_good
        self.senders.count(sender, is_copy=is_copy)
        if planted:
            self._tally.note("campaign_document")
        held_back = "instructions" if any(r.name == "instructions" for r in reasons) else ""
        if planted:
            reasons.append(self._campaign())
            held_back = held_back or "campaign"
        return Weighed(
            sender=sender,
            cluster=cluster,
            reasons=tuple(reasons),
            held_back=held_back,
            vouches=not held_back and is_good,
        )

    def _prior(self, document: Document) -> float:
        p = self._limits.source_priors.get(document.source, self._limits.prior)
        return min(0.995, max(0.005, p))

    def _is_stale(self, text: str, name: bytes, now: int) -> bool:
        seen = self.first_seen.seen(name, now)
        written = written_date_ns(text)
        oldest = seen if written is None else min(seen, written)
        if oldest >= now - self._limits.stale_ns:
            return False
        self._tally.note("stale")
        return True

    def _is_planted(
        self, document: Document, sender: str, cluster: int, *, is_unknown: bool
    ) -> bool:
        if document.is_repost:
            return False
        crowd = self._campaigns.count(cluster, sender, document.ts_recv, is_unknown=is_unknown)
        return is_campaign(crowd)

    def repeated(self, weighed: Weighed, document: Document) -> list[Quarantine]:
        """Return what a document changes in the standing of its cluster's claims.

        A campaign takes them out of sight; a sender who stands for its word brings them back.
        """
        found = []
        for held in self._held_in.get(weighed.cluster, []):
            if weighed.held_back == "campaign" and held.why != "campaign" and held.is_visible:
                held.reasons.append(self._campaign())
                found.append(self._change(held, QuarantineState.QUARANTINED, "campaign", document))
            elif weighed.vouches and weighed.sender != held.sender:
                found += self._vouched(held, document)
        return found

    def _vouched(self, held: Held, document: Document) -> list[Quarantine]:
        if held.is_visible or held.why == "instructions":
            return []
        self._without(held, "campaign")
        held.reasons.append(self._corroborated("vouched", 1))
        return [self._change(held, QuarantineState.RELEASED, "vouched", document)]

    # --- a claim --------------------------------------------------------------------------------

    def check(
        self, claim: Evidence, weighed: Weighed, document: Document, sample: Codes
    ) -> Checked:
        """Return a claim with its credibility and reasons, and what it changes.

        Args:
            claim: As the room made it, not yet weighed.
            weighed: What is to be said of its document.
            document: As received.
            sample: The words of its document.
        """
        subject, now = self._subject(claim.instrument), claim.ts_recv
        prior = self._prior(document)
        mean = self.reputation.mean(weighed.sender, claim.event_type, prior, now)
        reasons = [*record_reasons(prior, mean, self._weights), *weighed.reasons]
        base = credibility(reasons)
        earlier = subject.standings.since(now - self._limits.same_story_ns)
        shared = subject.standings.overlaps(sample, earlier, self._frequencies)
        facts = facts_of(claim.quote)
        agreeing = self._agreeing(claim, facts, earlier, shared)
        found: list[Quarantine] = []
        if not weighed.held_back:
            if claim.event_type == DENIAL:
                found += self._deny(weighed, base, earlier, shared, document)
            else:
                found += self._confirm(base, agreeing, document)
        origins = {h.claim.origin for h in agreeing if h.is_visible and h.state is None}
        origins |= {h.claim.origin for h in agreeing if h.state is QuarantineState.RELEASED}
        if origins:
            reasons.append(self._corroborated("corroboration", len(origins)))
        heaviest, more = self._weigh_facts(claim, facts, weighed, base, document)
        found += more
        if heaviest != 0.0:
            reasons.append(self._contradiction(heaviest))
        reasons += self._opinion(claim, agreeing)
        checked = self._settle(claim, facts, weighed, reasons, sample)
        return msgspec.structs.replace(
            checked, quarantines=(*checked.quarantines, *found), facts=facts
        )

    def _settle(
        self,
        claim: Evidence,
        facts: tuple[Fact, ...],
        weighed: Weighed,
        reasons: list[Reason],
        sample: Codes,
    ) -> Checked:
        belief = credibility(reasons)
        claim = msgspec.structs.replace(claim, credibility=belief, reasons=tuple(reasons))
        held = Held(
            claim=claim,
            sender=weighed.sender,
            cluster=weighed.cluster,
            facts=facts,
            reasons=reasons,
            state=None,
        )
        self._hold(held, sample)
        why = weighed.held_back or (
            "little_credible" if belief < self._limits.quarantine_below else ""
        )
        if not why:
            return Checked(claim=claim, is_visible=True, quarantines=())
        held.is_visible = False
        self._tally.note(f"quarantined_{why}")
        record = changed(
            held, QuarantineState.QUARANTINED, why, ts=claim.ts_recv, because=claim.document_id
        )
        return Checked(claim=claim, is_visible=False, quarantines=(record,))

    def _hold(self, held: Held, sample: Codes) -> None:
        """Hold a claim as one of its cluster's, and let go of what its instrument holds no more."""
        self._held_in.setdefault(held.cluster, []).append(held)
        gone = self._subject(held.claim.instrument).standings.hold(held, sample)
        if gone is not None:
            of_cluster = self._held_in[gone.cluster]
            of_cluster.remove(gone)
            if not of_cluster:
                del self._held_in[gone.cluster]

    def _agreeing(
        self, claim: Evidence, facts: tuple[Fact, ...], earlier: list[Held], shared: Overlaps
    ) -> list[Held]:
        """Return the earlier claims of other origins that tell of the same event the same way.

        Whoever states another figure for it does not bear a claim out.
        """
        return [
            held
            for held in _where(shared.jaccard >= SAME_STORY, earlier)
            if held.claim.origin != claim.origin
            and _same_event(held.claim, claim)
            and not _are_opposed(held.claim.stance, claim.stance)
            and not are_contrary(held.facts, facts)
            and held.state is not QuarantineState.CONDEMNED
        ]

    def _confirm(self, base: float, agreeing: list[Held], document: Document) -> list[Quarantine]:
        if base < CONFIRMS:
            return []
        found = []
        for held in agreeing:
            held.n_confirmed += 1
            self._outcome(held, document.ts_recv, so=min(1.0, 2.0 * base - 1.0))
            needed = 2 if held.why == "instructions" else 1
            if not held.is_visible and held.n_confirmed >= needed:
                self._without(held, "campaign")
                held.reasons.append(self._corroborated("confirmed", held.n_confirmed))
                found.append(self._change(held, QuarantineState.RELEASED, "confirmed", document))
        return found

    def _deny(
        self,
        weighed: Weighed,
        base: float,
        earlier: list[Held],
        shared: Overlaps,
        document: Document,
    ) -> list[Quarantine]:
        """Condemn the earlier claims that a denial takes up, where it is to be believed rather."""
        found = []
        for held in _where(shared.of_kept >= TAKES_UP, earlier):
            if held.claim.event_type == DENIAL:
                continue
            against = said_against(base, held.credibility)
            against = 1.0 if weighed.sender == held.sender else against
            if against < 0.5 or held.state is QuarantineState.CONDEMNED:
                continue
            self._outcome(held, document.ts_recv, not_so=against)
            held.reasons.append(Reason(name="denied", log_odds=-self._weights.denied * against))
            found.append(self._change(held, QuarantineState.CONDEMNED, "denied", document))
        return found

    def _weigh_facts(
        self,
        claim: Evidence,
        facts: tuple[Fact, ...],
        weighed: Weighed,
        base: float,
        document: Document,
    ) -> tuple[float, list[Quarantine]]:
        """Hold a claim's figures against those known; return the heaviest voice against, and what changed."""
        subject, heaviest, found = self._subject(claim.instrument), 0.0, []
        for fact in facts:
            agreeing, against = subject.facts.about(fact, claim.ts_recv, weighed.sender)
            if against and not agreeing:
                voice = said_against(max(stated.trust for stated in against), base)
                heaviest = max(heaviest, voice)
                for stated in against:
                    held = subject.standings.of(stated.evidence_id)
                    weight = said_against(base, stated.trust)
                    if held is not None and weight >= 0.75 and not weighed.held_back:
                        found += self._contradicted(held, weight, document)
            subject.facts.add(
                Stated(
                    fact=fact,
                    ts=claim.ts_recv,
                    sender=weighed.sender,
                    evidence_id=claim.evidence_id,
                    trust=base,
                )
            )
        if heaviest != 0.0:
            self._tally.note("contradicted")
        if heaviest >= 0.75:
            self.reputation.learn(weighed.sender, claim.event_type, claim.ts_recv, not_so=0.5)
        return heaviest, found

    def _contradicted(self, held: Held, weight: float, document: Document) -> list[Quarantine]:
        if held.state is QuarantineState.CONDEMNED:
            return []
        self._outcome(held, document.ts_recv, not_so=0.5 * weight)
        held.reasons.append(self._contradiction(weight))
        return [self._change(held, QuarantineState.CONDEMNED, "contradicted", document)]

    def _opinion(self, claim: Evidence, agreeing: list[Held]) -> list[Reason]:
        if self._second is None:
            return []
        known = tuple(held.claim.quote for held in reversed(agreeing[-4:]))
        said = log_odds_of(self._second.read(question_of(claim.instrument, claim.quote, known)))
        if said is None:
            self._tally.note("no_opinion")
            return []
        return [Reason(name=f"opinion:{self._second.name}", log_odds=said)]

    # --- reasons -------------------------------------------------------------------------------

    def _campaign(self) -> Reason:
        return Reason(name="campaign", log_odds=-self._weights.campaign)

    def _corroborated(self, name: str, n_origins: int) -> Reason:
        return Reason(name=name, log_odds=self._weights.corroboration * corroboration(n_origins))

    def _contradiction(self, weight: float) -> Reason:
        return Reason(name="contradicted", log_odds=-2.0 * self._weights.contradicted * weight)

    # --- standing -------------------------------------------------------------------------------

    def claim(self, change: Quarantine) -> Evidence | None:
        """Return the claim that a change is about, as it stands from then on."""
        held = self._subject(change.instrument).standings.of(change.evidence_id)
        if held is None:
            return None
        return msgspec.structs.replace(
            held.claim, credibility=change.credibility, reasons=change.reasons
        )

    def _subject(self, instrument: str) -> _Subject:
        found = self._subjects.get(instrument)
        if found is None:
            found = self._subjects[instrument] = _Subject()
        return found

    def _change(
        self, held: Held, state: QuarantineState, reason: str, document: Document
    ) -> Quarantine:
        self._tally.note(f"{state}_{reason}")
        return changed(held, state, reason, ts=document.ts_recv, because=document.document_id)

    def _outcome(self, held: Held, now: int, *, so: float = 0.0, not_so: float = 0.0) -> None:
        """Count an outcome for a claim's sender, once per claim."""
        if held.is_settled:
            return
        held.is_settled = True
        self.reputation.learn(held.sender, held.claim.event_type, now, so=so, not_so=not_so)

    @staticmethod
    def _without(held: Held, name: str) -> None:
        held.reasons = [reason for reason in held.reasons if reason.name != name]


def _are_opposed(one: float, other: float) -> bool:
    return one * other < 0.0 and min(abs(one), abs(other)) >= LEANS


def _same_event(a: Evidence, b: Evidence) -> bool:
    events = {a.event_type, b.event_type}
    return DENIAL not in events and (len(events) == 1 or RUMOUR in events)


def _where(chosen: npt.NDArray[np.bool_], held: list[Held]) -> Iterator[Held]:
    return (held[i] for i in np.flatnonzero(chosen).tolist())
