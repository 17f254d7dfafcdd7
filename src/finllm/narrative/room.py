"""The narrative room: admits documents once, says what is new, and gathers what may be cited.

As-of law: everything about a document (its copies, novelty, credibility, links) is settled when it is
admitted, from what was received before it. What later documents make of a claim (a denial, a confirmation,
a campaign around it) is a dated record that packs as of an earlier instant do not see. So a pack as of an
instant is the same bytes whatever was admitted later.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from finllm.domain.errors import SettingsError
from finllm.domain.evidence import (
    Document,
    Evidence,
    EvidenceKind,
    EvidenceNotice,
    EvidencePack,
    Quarantine,
    QuarantineState,
    Refusal,
    named_pack,
)
from finllm.domain.identity import content_id
from finllm.domain.units import NS_PER_DAY, NS_PER_HOUR, NS_PER_MIN
from finllm.narrative.memory.timeline import Arrivals, Texts, Timeline
from finllm.narrative.memory.writer import Admitted, MemoryWriter
from finllm.narrative.reading.claims import event_of, strongest_sentence
from finllm.narrative.reading.cutoff import cutoff_note
from finllm.narrative.reading.encoder import Encoder
from finllm.narrative.reading.linking import Link, Linker
from finllm.narrative.reading.reader import Reader, words_only
from finllm.narrative.repeats.copies import (
    Copies,
    Match,
    Reading,
    Recent,
    Signature,
    exact_hash,
    read_for_copies,
)
from finllm.narrative.repeats.meanings import Meaning
from finllm.narrative.repeats.origins import Origins
from finllm.narrative.sources.documents import LONGEST_NAME, MOST_FLAGS, MOST_SYMBOLS
from finllm.narrative.text.canonical import Canonical, Changes, canonicalise
from finllm.narrative.trust.checker import DENIAL, Checked, Checker, Limits, Weighed
from finllm.narrative.trust.credibility import load_weights
from finllm.narrative.trust.facts import Fact
from finllm.narrative.trust.instructions import gives_orders
from finllm.narrative.trust.opinion import SecondReader
from finllm.runtime.tally import Tally

Share = Annotated[float, Meta(ge=0.0, le=1.0)]

CHANGES: Final = 8
"""Changes of standing that are kept for each claim that can be seen."""


class NarrativeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the room reads, remembers and gathers."""

    encoder: str = "auto"
    """What reads text: `auto` = the small transformer if its weights are installed; `hashing` = words
    alone; or a folder of its weights."""
    heads: str = ""
    """Folder of heads that `finllm_lab narrative` wrote; empty = the ones that ship."""
    credibility: str = ""
    """File of weights that `finllm_lab credibility fit` wrote; empty = the ones that ship."""
    look_back_ns: int = NS_PER_DAY
    """How far back a pack reaches."""
    pack_size: int = 12
    """Most claims in a pack."""
    fact_look_back_ns: Annotated[int, Meta(ge=0)] = 5 * NS_PER_DAY
    """How far back the figures on record reach, which a pack holds beside its claims. An instant can be asked
    about as long as what it looks back on is retained."""
    most_facts: Annotated[int, Meta(ge=0)] = 4
    """Most of them in a pack; 0 = none."""
    burst_window_ns: int = NS_PER_HOUR
    """The window whose count of documents is held against the usual rate."""
    burst_windows: int = 24
    """Earlier windows that say what is usual."""
    copy_window_ns: Annotated[int, Meta(ge=0)] = 2 * NS_PER_DAY
    """An older text is history: what repeats it is new again."""
    near_copy: Share = 0.55
    """Least similarity (Jaccard, character 5-grams) of a near copy; or else"""
    near_words: Share = 0.45
    """least similarity of its words in order (Jaccard, weighted by rarity); or else, with an encoder,"""
    near_meaning: Share = 0.9
    """least cosine of its embedding."""
    originals: int = 16_384
    """First appearances that copies are looked for among."""
    recent: int = 64
    """Documents of an instrument that novelty is measured against."""
    least_relevance: Share = 0.15
    """A document less relevant than this does not count for an instrument."""
    clock_skew_ns: Annotated[int, Meta(ge=0)] = NS_PER_MIN
    """How far ahead of ours a source's clock may be."""
    longest_text: int = 1_000_000
    """Characters; longer texts are refused."""
    read_chars: int = 20_000
    """Characters of a canonical text that are read; quotes come from them."""
    keep: int = 1_024
    """Most claims per instrument that can be seen from any instant."""
    retention_ns: int = 7 * NS_PER_DAY
    """How long claims are kept."""
    most_text_bytes: int = 32_000_000
    """Bytes of text kept for quotes, over all documents: some 70,000 of 200 letters, 1,600 of 20,000."""
    prior: Share = 0.6
    """Credibility of a source that nothing is known of."""
    source_priors: dict[str, Share] = {}
    """Credibility of sources that something is known of."""
    owners: dict[str, str] = {}
    """By outlet, agency or `source/author`, who owns it: what one owner's outlets say is said once."""
    verified_sources: tuple[str, ...] = ()
    """Sources whose channel is signed or otherwise verified."""
    quarantine_below: Share = 0.03
    """A claim believed less than this is held back until something speaks for it."""
    campaign_window_ns: Annotated[int, Meta(ge=1)] = 3 * NS_PER_HOUR
    """The accounts behind one text are counted over one to two of these."""
    same_story_ns: Annotated[int, Meta(ge=0)] = 2 * NS_PER_DAY
    """How long a claim can be confirmed, denied or corroborated."""
    stale_ns: Annotated[int, Meta(ge=1)] = 3 * NS_PER_DAY
    """A text first seen, or dated in its own words, longer ago than this is no news."""

    def __post_init__(self) -> None:
        """Check what one field says against another.

        Raises:
            SettingsError: If they do not fit.
        """
        reach = max(
            self.look_back_ns,
            self.fact_look_back_ns if self.most_facts else 0,
            (self.burst_windows + 2) * self.burst_window_ns,
        )
        if self.retention_ns < reach:
            raise SettingsError(
                f"{self.retention_ns} is shorter than what a pack looks back on ({reach})",
                place="narrative.retention_ns",
                mend="Raise it, or lower look_back_ns, fact_look_back_ns, burst_window_ns or "
                "burst_windows.",
            )
        _at_least_one(self, "pack_size", "burst_window_ns", "burst_windows", "originals", "recent")
        _at_least_one(self, "look_back_ns", "longest_text", "read_chars", "keep")
        _at_least_one(self, "most_text_bytes")


def _at_least_one(settings: NarrativeSettings, *names: str) -> None:
    for name in names:
        if getattr(settings, name) < 1:
            raise SettingsError("is below 1", place=f"narrative.{name}", mend="Write 1 or more.")


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a document."""

    notices: tuple[EvidenceNotice, ...] = ()
    """One per instrument that it says something new about, by instrument key; then one per claim that it
    has released from quarantine."""
    quarantines: tuple[Quarantine, ...] = ()
    """What it changes in the standing of claims, its own and earlier ones."""
    refusal: Refusal | None = None
    copy_of: str = ""
    """The first document that said this; empty if this one did."""
    changed: Changes = Changes()
    """What canonical form took away."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """How full one of the room's tables is. Each is bounded, so memory is."""

    n: int
    """What it holds: entries, or bytes where its name says so."""
    most: int
    let_go: int
    """Entries that have given way since the start; a table that has let one go is full."""


class _Read(msgspec.Struct, frozen=True, kw_only=True):
    """A document as read, before anything is remembered of it."""

    document: Document
    text: str
    changed: Changes
    reading: Reading
    name: bytes
    signature: Signature
    match: Match
    meaning: Meaning | None
    """Its embedding, for whoever asks first."""


class _Known(msgspec.Struct, frozen=True):
    """A figure on record, and the claim that stated it."""

    fact: Fact
    claim: Evidence


class _First(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a first appearance."""

    document_id: str = ""
    origin: str = ""
    told: frozenset[str] = frozenset()
    """Instruments that it made evidence for."""
    cluster: int = -1
    """Number of the first text that it, or what it resembles, resembles."""
    gives_orders: bool = False


class _Watched:
    """What is remembered about one instrument."""

    def __init__(self, settings: NarrativeSettings) -> None:
        keep, retain = settings.keep, settings.retention_ns
        self.claims: Timeline[Evidence] = Timeline(visible=keep, retain_ns=retain)
        self.copies: Timeline[None] = Timeline(visible=keep, retain_ns=retain)
        self.arrivals = Arrivals(
            quantum_ns=max(1, settings.burst_window_ns // 256), retain_ns=retain
        )
        self.recent = Recent(settings.recent)
        self.known: Timeline[_Known] = Timeline(visible=keep, retain_ns=retain)
        self.standing: Timeline[Quarantine] = Timeline(visible=CHANGES * keep, retain_ns=retain)


class Narrative:
    """The room.

    Args:
        settings: How it reads, remembers and gathers.
        reader: What says what a text says; None = the heads that ship, by words alone.
        encoder: What embeds a text, to know reworded copies by; None = they are not looked for.
        second: Another agent whose opinion is asked of each claim, if any.
        memory: Where all that is admitted is kept beyond this process, if anywhere.

    Raises:
        ArtifactError: If the heads that ship, or the weights of credibility, cannot be loaded.
    """

    def __init__(
        self,
        *,
        settings: NarrativeSettings,
        reader: Reader | None = None,
        encoder: Encoder | None = None,
        second: SecondReader | None = None,
        memory: MemoryWriter | None = None,
    ) -> None:
        self._settings = settings
        self._memory = memory
        self._encoder = encoder
        self._reader = reader or words_only()
        self._linker = Linker()
        self._copies = Copies(
            capacity=settings.originals,
            near=settings.near_copy,
            near_words=settings.near_words,
            near_meaning=settings.near_meaning,
            window_ns=settings.copy_window_ns,
            dim=encoder.dim if encoder is not None else 0,
        )
        self._first = [_First()] * settings.originals
        """By slot of the copies' ring."""
        self._n_clusters = 0
        self._origins = Origins(settings.owners)
        self._watched: dict[str, _Watched] = {}
        self._texts = Texts(settings.most_text_bytes)
        self._repeats: Timeline[str] = Timeline(
            visible=settings.keep, retain_ns=settings.retention_ns
        )
        """The original of each copy."""
        self._started = -1
        self._latest = -1
        self._published: tuple[int, int] | None = None
        """When the oldest and the newest document were."""
        self.tally = Tally()
        weights = (
            load_weights(Path(settings.credibility)) if settings.credibility else load_weights()
        )
        self._checker = Checker(
            _limits(settings), weights, self._copies.frequencies, self.tally, second
        )

    def watch(
        self, instrument: str, *, aliases: tuple[str, ...] = (), now: int | None = None
    ) -> None:
        """Link documents to an instrument from now on.

        Args:
            instrument: Key, such as `binance-usdm:BTCUSDT` or `us-equity:AAPL`.
            aliases: Further names by which texts call it.
            now: From when on its names are known, for memory; the last receipt when None.
        """
        self._linker.watch(instrument, aliases)
        if self._memory is not None:
            known_from = max(0, self._latest) if now is None else now
            names = self._linker.names_of(instrument)
            self._memory.alias(instrument, names, known_from=known_from)
        self._watched.setdefault(instrument, _Watched(self._settings))

    # --- admitting -----------------------------------------------------------------------------

    def admit(self, document: Document, now: int) -> Admission:
        """Take in one document and say what is new in it.

        Args:
            document: As received; documents come in order of receipt.
            now: The present instant; a document cannot be admitted before it was received.

        Returns:
            Notices about watched instruments, or the refusal with its reason: `future` (received
            after now, or published too far ahead of its receipt), `out_of_order`, `too_long` (its
            text, id, source, author, language, symbols or flags), `not_utf8`, `empty_text`.
        """
        self.tally.read += 1
        reason, detail = self._objection(document, now)
        form = Canonical(text="", changes=Changes()) if reason else canonicalise(document.text)
        if not reason and not form.text:
            reason, detail = "empty_text", "nothing is left of it in canonical form"
        if reason:
            return self._refuse(document, reason, detail)
        self._latest = document.ts_recv
        self._started = document.ts_recv if self._started < 0 else self._started
        self.tally.used += 1
        first, last = self._published or (document.ts_published,) * 2
        self._published = min(first, document.ts_published), max(last, document.ts_published)
        return self._take_in(self._read(document, form))

    def _objection(self, document: Document, now: int) -> tuple[str, str]:
        s = self._settings
        if document.ts_recv > now:
            return "future", f"received {document.ts_recv - now} ns after now"
        if document.ts_published > document.ts_recv + s.clock_skew_ns:
            return (
                "future",
                f"published {document.ts_published - document.ts_recv} ns after receipt",
            )
        if document.ts_recv < self._latest:
            return (
                "out_of_order",
                f"received {self._latest - document.ts_recv} ns before the last one",
            )
        if len(document.text) > s.longest_text:
            return "too_long", f"{len(document.text)} characters, at most {s.longest_text}"
        oversize = _oversize(document)
        if oversize:
            return "too_long", oversize
        return ("", "") if _is_utf8(document) else ("not_utf8", "holds half a surrogate pair")

    def _refuse(self, document: Document, reason: str, detail: str) -> Admission:
        place = document.document_id[:LONGEST_NAME]
        self.tally.drop(reason, place)
        refusal = Refusal(place=place, ts_recv=document.ts_recv, reason=reason, detail=detail)
        return Admission(refusal=refusal)

    def _read(self, document: Document, form: Canonical) -> _Read:
        text = form.text[: self._settings.read_chars].rstrip()
        reading = read_for_copies(text)
        name, now = exact_hash(reading), document.ts_recv
        meaning = None if self._encoder is None else Meaning(self._encoder, text)
        match = self._copies.exact(name, now)
        if match.is_copy:
            signature = self._copies.signature_in(match.slot)
        else:
            signature = self._copies.sign(reading)
            match = self._copies.near(reading, signature, now, meaning)
        return _Read(
            document=document,
            text=text,
            changed=form.changes,
            reading=reading,
            name=name,
            signature=signature,
            match=match,
            meaning=meaning,
        )

    def _take_in(self, read: _Read) -> Admission:
        document, match = read.document, read.match
        links = [
            link
            for link in self._linker.link(read.text, document.symbols)
            if link.relevance >= self._settings.least_relevance
        ]
        first = self._first_of(read)
        weighed = self._checker.weigh(
            document,
            read.text,
            read.changed,
            name=read.name,
            cluster=first.cluster,
            is_copy=match.is_copy,
        )
        is_copy = match.is_copy and first is self._first[match.slot]
        if is_copy:
            self.tally.note("exact_copy" if match.similarity == 1.0 else "near_copy")
            self._retire("repeats", self._repeats.append(document.ts_recv, first.document_id))
        for link in links:
            if link.instrument in first.told:
                self._count_copy(link.instrument, document.ts_recv)
        found = self._checker.repeated(weighed, document)
        news = [link for link in links if link.instrument not in first.told]
        checked = self._claims(read, news, first.origin, weighed)
        for one in checked:
            found += one.quarantines
        notices = self._announced(read, checked)
        self._remember(read, first, weighed, first.told | {link.instrument for link in news})
        if not links:
            self.tally.note("unrelated")
        copy_of = first.document_id if is_copy else ""
        if self._memory is not None:
            self._memory.keep(
                Admitted(
                    document=document,
                    text=read.text,
                    changes=read.changed,
                    copy_of=copy_of,
                    cluster=first.cluster,
                    claims=tuple(one.claim for one in checked),
                    standings=tuple(found),
                    words=read.reading.sample,
                    meaning=read.meaning,
                )
            )
        return Admission(
            notices=(*notices, *self._changed(found)),
            quarantines=tuple(found),
            copy_of=copy_of,
            changed=read.changed,
        )

    def _first_of(self, read: _Read) -> _First:
        """Return the first appearance that a document repeats, or its own, of which nothing is told yet.

        A text that resembles another has that one's origin: it corroborates nothing. But whoever says
        plainly what another has said with orders to its reader, says it first.
        """
        match = read.match
        first = self._first[match.slot]
        if match.is_copy and not (first.gives_orders and not gives_orders(read.text)):
            return first
        if match.slot >= 0 and not match.is_copy:
            origin, cluster = first.origin, first.cluster
        else:
            origin, cluster = self._origins.of(read.document, read.text), self._n_clusters
            self._n_clusters += 1
        return _First(document_id=read.document.document_id, origin=origin, cluster=cluster)

    def _remember(self, read: _Read, first: _First, weighed: Weighed, told: frozenset[str]) -> None:
        slot = read.match.slot
        if read.match.is_copy:
            if read.match.similarity < 1.0:
                self._copies.also(
                    read.name, read.reading, read.signature, read.document.ts_recv, slot
                )
        else:
            slot = self._copies.add(
                read.name, read.reading, read.signature, read.document.ts_recv, read.meaning
            )
        orders = first.gives_orders or weighed.held_back == "instructions"
        self._first[slot] = msgspec.structs.replace(first, told=told, gives_orders=orders)

    def _count_copy(self, instrument: str, ts: int) -> None:
        retired = self._watched[instrument].copies.append(ts, None)
        self._retire("copies", retired)

    def _claims(
        self, read: _Read, news: list[Link], origin: str, weighed: Weighed
    ) -> list[Checked]:
        if not news:
            return []
        self._retire("texts", self._texts.keep(read.document.document_id, read.text))
        claims = [self._claim(read, link, origin) for link in news]
        sample = read.reading.sample
        return [self._checker.check(claim, weighed, read.document, sample) for claim in claims]

    def _announced(self, read: _Read, checked: list[Checked]) -> list[EvidenceNotice]:
        """Keep the claims, and return notices of those that are not held back."""
        notices = []
        for one in checked:
            watched = self._watched[one.claim.instrument]
            self._retire("claims", watched.claims.append(one.claim.ts_recv, one.claim))
            for fact in () if one.claim.event_type == DENIAL else one.facts:
                self._retire(
                    "facts", watched.known.append(one.claim.ts_recv, _Known(fact, one.claim))
                )
            if one.is_visible:
                watched.recent.add(read.signature)
                watched.arrivals.add(one.claim.ts_recv)
                notices.append(self._notice(one.claim, one.claim.ts_recv))
        return notices

    def _changed(self, found: list[Quarantine]) -> list[EvidenceNotice]:
        """Keep changes of standing, and return notices of the claims that they release."""
        notices = []
        for change in found:
            watched = self._watched[change.instrument]
            self._retire("standing", watched.standing.append(change.ts, change))
            if change.state is QuarantineState.RELEASED and not change.was_visible:
                claim = self._checker.claim(change)
                if claim is not None:
                    watched.arrivals.add(change.ts)
                    notices.append(self._notice(claim, change.ts))
        return notices

    def _claim(self, read: _Read, link: Link, origin: str) -> Evidence:
        start, end = strongest_sentence(read.text, link.spans)
        quote = read.text[start:end]
        kind = event_of(read.text, quote)
        said = self._reader.judge(
            read.document, read.text, names=link.spans, quote=(start, end), event_type=kind
        )
        recent = self._watched[link.instrument].recent
        return Evidence(
            evidence_id=content_id(read.document.document_id, link.instrument, start, end),
            kind=EvidenceKind.CLAIM,
            instrument=link.instrument,
            ts_recv=read.document.ts_recv,
            origin=origin,
            document_id=read.document.document_id,
            span=(start, end),
            quote=quote,
            stance=said.stance,
            hawkishness=said.hawkishness,
            check_worthiness=said.check_worthiness,
            novelty=1.0 - recent.similarity(read.signature),
            relevance=link.relevance,
            event_type=kind,
            encoder=said.by,
        )

    def _notice(self, claim: Evidence, now: int) -> EvidenceNotice:
        """Return the notice of a claim; one that is released is told of when it is."""
        when = () if now == claim.ts_recv else (now,)
        return EvidenceNotice(
            notice_id=content_id("notice", claim.evidence_id, *when),
            instrument=claim.instrument,
            ts_recv=now,
            evidence_id=claim.evidence_id,
            relevance=claim.relevance,
            novelty=claim.novelty,
            credibility=claim.credibility,
            stance=claim.stance,
            burst=self._burst(self._watched[claim.instrument], now),
            event_type=claim.event_type,
            origin=claim.origin,
        )

    def _retire(self, what: str, n: int) -> None:
        if n:
            self.tally.noted[f"retired_{what}"] += n

    @property
    def tables(self) -> dict[str, Table]:
        """How full each table is that grows with what is admitted, by name.

        What else the room holds is of a fixed size from the start.
        """
        noted, settings = self.tally.noted, self._settings
        watched, n = self._watched.values(), max(1, len(self._watched))
        found = {
            "text_bytes": Table(
                n=self._texts.n_bytes, most=self._texts.most_bytes, let_go=noted["retired_texts"]
            ),
            "claims": Table(
                n=sum(len(one.claims) for one in watched),
                most=2 * n * settings.keep,
                let_go=noted["retired_claims"],
            ),
            "facts": Table(
                n=sum(len(one.known) for one in watched),
                most=2 * n * settings.keep,
                let_go=noted["retired_facts"],
            ),
            "copies": Table(
                n=sum(len(one.copies) for one in watched),
                most=2 * n * settings.keep,
                let_go=noted["retired_copies"],
            ),
            "standing": Table(
                n=sum(len(one.standing) for one in watched),
                most=2 * n * CHANGES * settings.keep,
                let_go=noted["retired_standing"],
            ),
            "repeats": Table(
                n=len(self._repeats), most=2 * settings.keep, let_go=noted["retired_repeats"]
            ),
            "originals": Table(
                n=len(self._copies), most=settings.originals, let_go=self._copies.n_let_go
            ),
        }
        n_near, most_near = self._copies.n_near, self._copies.most_near
        found["near_copies"] = Table(
            n=min(n_near, most_near), most=most_near, let_go=max(0, n_near - most_near)
        )
        checker = self._checker
        for name, table in (
            ("names_of_originals", self._copies.names),
            ("names_of_near_copies", self._copies.near_names),
            ("senders", checker.senders.counts),
            ("records_of_senders", checker.reputation.records),
            ("texts_first_seen", checker.first_seen.ts),
        ):
            found[name] = Table(n=len(table), most=table.most, let_go=table.n_let_go)
        return found

    # --- gathering -----------------------------------------------------------------------------

    def gather(
        self, instrument: str, as_of: int, observations: tuple[Evidence, ...] = ()
    ) -> EvidencePack:
        """Return what may be cited about an instrument as of an instant.

        Args:
            instrument: A watched instrument's key.
            as_of: Nothing received later is in the pack, or had any part in it.
            observations: What the book or the bars show, of this instrument and received by then;
                others are left out and counted.

        Raises:
            InputError: If memory no longer holds what was admissible at that instant.
        """
        watched = self._watched.get(instrument) or _Watched(self._settings)
        since = as_of - self._settings.look_back_ns
        made = watched.claims.between(since, as_of)
        claims = _as_they_stand(made, watched.standing.between(since, as_of))
        n_copies = watched.copies.count(since, as_of)
        repeats = self._repeats.between(since, as_of)
        chosen = _counted(_choose(claims, self._settings.pack_size), repeats)
        known = self._on_record(watched, as_of, {claim.evidence_id for claim in claims})
        seen = [e for e in observations if e.instrument == instrument and e.ts_recv <= as_of]
        if len(seen) < len(observations):
            self.tally.noted["inadmissible_observation"] += len(observations) - len(seen)
        evidence = tuple(
            sorted([*chosen, *known, *seen], key=lambda e: (-e.relevance, e.evidence_id))
        )
        burst = self._burst(watched, as_of)
        return named_pack(
            EvidencePack(
                pack_id="",
                instrument=instrument,
                as_of=as_of,
                evidence=evidence,
                n_documents=len(claims),
                n_copies=n_copies,
                burst=burst,
                n_quarantined=len(made) - len(claims),
                since=since,
            )
        )

    def taken_back(self, instrument: str, since: int, now: int) -> dict[str, int]:
        """Return the claims about an instrument that have been held back or condemned since an instant.

        Args:
            instrument: A watched instrument's key.
            since: Changes at this instant count.
            now: Changes after it do not.

        Returns:
            By evidence id, when they last were, ns UTC.

        Raises:
            InputError: If memory no longer holds the changes since that instant.
        """
        watched = self._watched.get(instrument)
        changes = [] if watched is None else watched.standing.between(since - 1, now)
        return {c.evidence_id: c.ts for c in changes if c.state is not QuarantineState.RELEASED}

    def _on_record(self, watched: _Watched, as_of: int, told: set[str]) -> list[Evidence]:
        """Return the figures on record as of an instant, best believed first.

        They were stated before what a pack's texts look back on, and no text since then states the metric
        anew for the period. Of each metric, period and unit it is the statement that is believed most, then
        the newest.

        Args:
            watched: What is remembered about the instrument.
            as_of: Nothing received later counts.
            told: The claims since then, by evidence id.
        """
        s = self._settings
        if not s.most_facts:
            return []
        since, until = as_of - s.fact_look_back_ns, as_of - s.look_back_ns
        known = watched.known.between(since, as_of)
        changes = watched.standing.between(since, as_of)
        # Of a claim older than the oldest change that can be seen, it is not known how it stands.
        surely = changes[0].ts if len(changes) >= CHANGES * s.keep else since
        old = [one for one in known if surely <= one.claim.ts_recv <= until]
        anew = {_metric(one.fact) for one in known if one.claim.evidence_id in told}
        stand = {e.evidence_id: e for e in _as_they_stand([one.claim for one in old], changes)}
        best: dict[tuple[str, str], Evidence] = {}
        for one in old:
            claim, metric = stand.get(one.claim.evidence_id), _metric(one.fact)
            if claim is None or claim.credibility < 0.5 or metric in anew:
                continue
            if metric not in best or claim.credibility >= best[metric].credibility:
                best[metric] = _as_evidence(one.fact, claim)
        ranked = sorted(best.values(), key=lambda e: (-e.credibility, -e.ts_recv, e.evidence_id))
        return ranked[: s.most_facts]

    def _burst(self, watched: _Watched, as_of: int) -> float:
        """Return (documents in the last window + 1) / (usual number + 1); copies do not count.

        Usual is the mean of the earlier windows that the room has lived through, without their
        busiest eighth, so that one busy hour does not hide the next. 1 while there is none.
        """
        s = self._settings
        lived = (as_of - s.burst_window_ns - self._started) // s.burst_window_ns
        n_windows = min(s.burst_windows, lived) if self._started >= 0 else 0
        if n_windows < 1:
            return 1.0
        edges = [as_of - i * s.burst_window_ns for i in range(n_windows + 2)]
        before = [watched.arrivals.before(edge) for edge in edges]
        counts = [late - early for late, early in pairwise(before)]
        usual = sorted(counts[1:])[: n_windows - n_windows // 8]
        return (counts[0] + 1) / (sum(usual) / len(usual) + 1.0)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what is to be known of the documents read so far before their reading is trusted."""
        if self._published is None:
            return ()
        readers = (self._reader, *((self._encoder,) if self._encoder is not None else ()))
        told = (cutoff_note(one.name, one.knows_until, *self._published) for one in readers)
        return tuple(dict.fromkeys(note for note in told if note))

    def text(self, document_id: str) -> str:
        """Return a document's canonical text, as far as it was read; evidence spans point into it.

        Raises:
            InputError: If the document made no evidence, or its text has been retired.
        """
        return self._texts[document_id]


def _as_they_stand(claims: list[Evidence], changes: list[Quarantine]) -> list[Evidence]:
    """Return claims as the last change of each has left them, less those that are held back.

    A condemned claim that was visible stays, with the little credibility that it has left: a reasoner
    that has leant on it must see what is taken back.
    """
    if not changes:
        return claims
    last: dict[str, Quarantine] = {}
    is_hidden: dict[str, bool] = {}
    for change in changes:
        last[change.evidence_id] = change
        is_hidden[change.evidence_id] = change.state is QuarantineState.QUARANTINED or (
            change.state is QuarantineState.CONDEMNED and not change.was_visible
        )
    return [
        msgspec.structs.replace(
            claim,
            credibility=last[claim.evidence_id].credibility,
            reasons=last[claim.evidence_id].reasons,
        )
        if claim.evidence_id in last
        else claim
        for claim in claims
        if not is_hidden.get(claim.evidence_id, False)
    ]


def _metric(fact: Fact) -> tuple[str, str]:
    """Return what a figure is of, with its period, and its unit."""
    return f"{fact.metric} {fact.period}".strip(), fact.unit


def _as_evidence(fact: Fact, claim: Evidence) -> Evidence:
    """Return a figure on record as evidence. It is known already, so that nothing of it is new."""
    return Evidence(
        evidence_id=content_id("fact", claim.evidence_id, *_metric(fact), fact.value),
        kind=EvidenceKind.FACT,
        instrument=claim.instrument,
        ts_recv=claim.ts_recv,
        origin=claim.origin,
        document_id=claim.document_id,
        span=claim.span,
        quote=claim.quote,
        feature=_metric(fact)[0],
        value=fact.value,
        unit=fact.unit,
        credibility=claim.credibility,
        reasons=claim.reasons,
        relevance=claim.relevance,
    )


def _counted(claims: list[Evidence], repeats: list[str]) -> list[Evidence]:
    """Return claims with the number of copies of each; `repeats` names the original of each copy."""
    n = Counter(repeats)
    return [
        msgspec.structs.replace(claim, n_copies=n[claim.document_id])
        if claim.document_id in n
        else claim
        for claim in claims
    ]


def _choose(claims: Sequence[Evidence], most: int) -> list[Evidence]:
    """Return half of the pack as the newest claims, the rest as the weightiest of the others.

    What raised the question is always among the newest, however much was said before it.
    """
    newest = sorted(claims, key=lambda e: (-e.ts_recv, e.evidence_id))
    half = (most + 1) // 2
    return newest[:half] + sorted(newest[half:], key=_weightiest)[: most - half]


def _weightiest(evidence: Evidence) -> tuple[float, int, str]:
    """Order claims by what they are worth, then the newest, then by id."""
    worth = evidence.relevance * evidence.credibility * (0.25 + 0.75 * evidence.novelty)
    return -worth, -evidence.ts_recv, evidence.evidence_id


def _limits(settings: NarrativeSettings) -> Limits:
    return Limits(
        prior=settings.prior,
        source_priors=settings.source_priors,
        verified_sources=frozenset(settings.verified_sources),
        quarantine_below=settings.quarantine_below,
        campaign_window_ns=settings.campaign_window_ns,
        same_story_ns=settings.same_story_ns,
        stale_ns=settings.stale_ns,
    )


def _oversize(document: Document) -> str:
    """Return which of a document's fields is too large; empty if none is.

    Tables count entries, and memory and recordings keep documents whole: an author of a megabyte would cost
    one for each entry. Readers cut fields to these sizes.
    """
    for field in ("document_id", "source", "author", "lang"):
        n = len(getattr(document, field))
        if n > LONGEST_NAME:
            return f"{field} of {n} characters, at most {LONGEST_NAME}"
    for name, many, most in (
        ("symbol", document.symbols, MOST_SYMBOLS),
        ("flag", document.flags, MOST_FLAGS),
    ):
        if len(many) > most:
            return f"{len(many)} {name}s, at most {most}"
        longest = max(map(len, many), default=0)
        if longest > LONGEST_NAME:
            return f"{name} of {longest} characters, at most {LONGEST_NAME}"
    return ""


def _is_utf8(document: Document) -> bool:
    try:
        for text in (
            document.text, document.source, document.author, document.lang, *document.symbols,
            *document.flags,
        ):  # fmt: skip
            text.encode()
    except UnicodeEncodeError:
        return False
    return True
