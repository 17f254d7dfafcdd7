"""Documents, claims and evidence: what the slow path may read and what it may cite."""

from enum import StrEnum

import msgspec

from finllm.domain.identity import content_id


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A text as published."""

    document_id: str
    """Hash of source, time and raw text."""
    source: str
    """Outlet, account or feed."""
    ts_published: int
    """By the source's clock, ns UTC."""
    ts_recv: int
    """When it reached us, ns UTC; for a recording without one, publication plus a declared delay."""
    lang: str = ""
    """ISO 639-1 where the source states it."""
    text: str
    symbols: tuple[str, ...] = ()
    """Symbols that the source itself attached."""
    author: str = ""
    followers: int = 0
    is_repost: bool = False
    flags: tuple[str, ...] = ()
    """What was noticed as it was read: `date_only`, `no_zone`, `mis_zoned`, `edited`, `lang_detected`."""
    is_verified: bool = False
    """It came by a signed or otherwise verified channel of its source."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a document or line was not admitted."""

    place: str
    """Document id, or file and line."""
    ts_recv: int
    reason: str
    """One of a short list, such as `undated`, `future`, `too_long`, `exact_copy`."""
    detail: str = ""


class EvidenceKind(StrEnum):
    """What a piece of evidence is."""

    CLAIM = "claim"
    """What a text says."""
    OBSERVATION = "observation"
    """Something measured of the market."""
    FACT = "fact"
    """A figure on record: a believed text stated it, mostly before those of the pack."""


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Something that speaks for or against believing a claim."""

    name: str
    """One of a short list, such as `record`, `corroboration`, `denied`."""
    log_odds: float
    """What it adds to the log-odds that the claim is so."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One citable thing."""

    evidence_id: str
    kind: EvidenceKind
    instrument: str
    ts_recv: int
    """When we could first have known it."""
    origin: str
    """Independent source behind it; copies share one."""
    document_id: str = ""
    span: tuple[int, int] = (0, 0)
    """Start and end of the quote in the document's canonical text, in characters."""
    quote: str = ""
    """Exactly that span."""
    feature: str = ""
    window_ns: int = 0
    value: float = 0.0
    unit: str = ""
    z_score: float = 0.0
    stance: float = 0.0
    """-1 bearish to +1 bullish."""
    hawkishness: float = 0.0
    """-1 dovish to +1 hawkish; 0 where nothing is said of monetary policy."""
    check_worthiness: float = 0.0
    """Probability that a fact check would not find it true, for triage; no part of the credibility."""
    novelty: float = 0.0
    """0 = a copy, 1 = nothing like it before."""
    credibility: float = 1.0
    reasons: tuple[Reason, ...] = ()
    """Of a claim: why it is believed so far; credibility is the logistic function of their sum."""
    relevance: float = 0.0
    event_type: str = ""
    n_copies: int = 0
    """Copies of its text that had been received by the pack's as-of instant."""
    encoder: str = ""
    """What turned the text into numbers, with its version."""


class QuarantineState(StrEnum):
    """Where a claim stands that was, or might have been, held back."""

    QUARANTINED = "quarantined"
    """In no pack until something speaks for it."""
    RELEASED = "released"
    """In packs again."""
    CONDEMNED = "condemned"
    """Taken back or shown to be false: whoever has leant on it should know."""


class Quarantine(msgspec.Struct, frozen=True, kw_only=True):
    """A dated change of a claim's standing. Packs as of an earlier instant are as they were."""

    quarantine_id: str
    evidence_id: str
    instrument: str
    document_id: str
    """Whose claim it is."""
    ts: int
    """From when on it holds, ns UTC: the receipt of what brought it about."""
    state: QuarantineState
    reason: str
    """One of a short list, such as `instructions`, `campaign`, `denied`, `confirmed`."""
    because: str = ""
    """The document that brought it about."""
    was_visible: bool = False
    """Packs held the claim until then."""
    credibility: float
    reasons: tuple[Reason, ...] = ()
    """Of the credibility from then on."""


class EvidenceNotice(msgspec.Struct, frozen=True, kw_only=True):
    """Narrative's word that something new matters for an instrument."""

    notice_id: str
    instrument: str
    ts_recv: int
    evidence_id: str
    relevance: float
    novelty: float
    credibility: float
    stance: float
    burst: float
    """Documents on this instrument in the last window, against their usual rate (1 = usual)."""
    event_type: str = ""
    conflict: float = 0.0
    """0 to 1: how far text and book disagree, where known."""
    origin: str = ""
    """Independent source behind it; empty where the market itself raises the question."""


class EvidencePack(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a reasoner may cite for one question, as of one instant."""

    pack_id: str
    instrument: str
    as_of: int
    evidence: tuple[Evidence, ...]
    """Most relevant first; ties by id."""
    n_documents: int
    """Documents on this instrument in the look-back window, copies counted once."""
    n_copies: int
    burst: float
    n_quarantined: int = 0
    """Claims in the look-back window that are held back."""
    since: int = 0
    """Where that window begins: its claims were received after it."""


def named_pack(pack: EvidencePack) -> EvidencePack:
    """Return a pack under the id that the whole of its content gives it."""
    content = msgspec.structs.replace(pack, pack_id="")
    return msgspec.structs.replace(pack, pack_id=content_id("pack", content))
