"""Claims: the one sentence of a document that says most, and what kind of event it tells of."""

import re
from typing import Final

Span = tuple[int, int]

LONGEST_QUOTE: Final = 400
"""Characters; a longer sentence is cut at a word."""
_MOST_SENTENCES: Final = 400
_SHORT: Final = 600
"""Characters of a text that is about one thing."""

# Earlier rules win: a denial of a rumoured merger is a denial.
_RULES: Final[tuple[tuple[str, str], ...]] = (
    ("denial", r"den(?:y|ies|ied|ying) (?:the|that|any|an?|reports?|rumou?rs?|claims?|it|having|being|talk)|"
               r"denials?|refut(?:es?|ed|ing)|debunk\w*|(?:not|un)true|no truth|hoax|a fake|fake news|"
               r"fabricated|fact.?check\w*|corrections?|retract(?:s|ed|ion)|baseless|that was wrong|"
               r"(?:is|are|was|were) false|false (?:reports?|rumou?rs?|claims?|stor(?:y|ies)|alarm)|"
               r"rejects? (?:talk|claims?|reports?|rumou?rs?)|no knowledge (?:of|that)"),
    ("rumour", r"rumou?r(?:s|ed)?|unconfirmed|not confirmed|reportedly|allegedly|said to be|speculation|"
               r"hearing that|sources? (?:say|said|close|familiar)|people familiar|whispers?|chatter|"
               r"big if true|i am told|i'm told|tells me|is it true|close to the matter|screenshot|"
               r"trying to verify|grain of salt"),
    ("hack", r"hack(?:s|ed|ers?|ing)?|exploit(?:s|ed)?|breach(?:es|ed)?|stolen|drained|rug ?pull|"
             r"ransomware|cyber ?attack|data leak"),
    ("outage", r"outages?|downtime|goes down|went down|is down for|halts? (?:trading|withdrawals)|"
               r"halted|suspends? (?:trading|withdrawals|deposits)|suspended|service disruption|"
               r"system failure|paused? withdrawals"),
    ("merger", r"mergers?|merge(?:s|d)? with|acquir(?:e|es|ed|ing)|acquisitions?|takeover|buyout|"
               r"bid for|to buy .{1,40} for \$|tender offer|spin-?off|stake in"),
    ("guidance", r"guidance|outlook|forecasts? (?:q[1-4]|revenue|full|fy)|sees (?:q[1-4]|fy|full)|"
                 r"profit warning|warns (?:on|of)|(?:raises|cuts|lowers|reaffirms|withdraws) .{0,30}"
                 r"(?:view|target|estimate|forecast)s?"),
    ("earnings", r"earnings|eps|quarterly (?:results|profit|loss)|q[1-4] (?:results|profit|net|revenue)|"
                 r"(?:net )?(?:profit|income|loss) (?:rises|falls|up|down|jumps|drops|of)|"
                 r"beats? (?:estimates|expectations|the street)|miss(?:es|ed)? (?:estimates|expectations)|"
                 r"reports? (?:results|revenue)|results"),
    ("legal", r"lawsuits?|sues?|sued|court|judge|settle(?:s|d|ment)|fined?|probe[sd]?|investigat\w+|"
              r"indict\w+|subpoena\w*|antitrust|regulators?|charges? (?:against|with)|class action|"
              r"sec (?:charges|sues|approves|rejects)"),
    ("listing", r"list(?:s|ed|ing)? (?:on|of)|will list|delist\w*|ipo|goes public|etf (?:approv\w+|"
                r"launch\w*|filing)|new trading pairs?|added to the"),
    ("macro", r"fomc|federal (?:open market|reserve|funds)|the fed|fed (?:raises|cuts|holds|minutes)|"
              r"interest rates?|rate (?:hike|cut)s?|inflation|cpi|ppi|payrolls?|unemployment|gdp|"
              r"recession|tariffs?|trade (?:war|deal)|ecb|opec|central bank|monetary policy|sanctions"),
)  # fmt: skip
OTHER: Final = "other"
EVENT_TYPES: Final = (*(name for name, _ in _RULES), OTHER)
_EVENTS = tuple((name, re.compile(rf"\b(?:{rule})\b", re.IGNORECASE)) for name, rule in _RULES)
_EVENTFUL = re.compile("|".join(rf"\b(?:{rule})\b" for _, rule in _RULES), re.IGNORECASE)
_END = re.compile(r"(?<=[.!?\u3002\uff01\uff1f\u2026])[\"')\]]*\s+(?=[^\sa-z])|\n+|(?<=\u3002)")
_FIGURE = re.compile(r"\d")


def event_type(text: str) -> str:
    """Return what kind of event a text tells of, by its key words; `other` if by none."""
    if _EVENTFUL.search(text) is None:
        return OTHER
    return next(name for name, rule in _EVENTS if rule.search(text))


def denials(text: str) -> list[str]:
    """Return the phrases by which a text takes something back."""
    return _EVENTS[0][1].findall(text)


def event_of(text: str, quote: str) -> str:
    """Return the event that a document tells of: a short one's as a whole, a long one's quote first."""
    if len(text) <= _SHORT:
        return event_type(text)
    found = event_type(quote)
    return event_type(text) if found == OTHER else found


def sentences(text: str) -> list[Span]:
    """Return the spans of a text's sentences, without surrounding white space."""
    spans, start = [], 0
    for match in _END.finditer(text):
        spans.append((start, match.start()))
        start = match.end()
        if len(spans) >= _MOST_SENTENCES:
            break
    else:
        spans.append((start, len(text)))
    return [_trim(text, span) for span in spans if text[span[0] : span[1]].strip()]


def strongest_sentence(text: str, names: tuple[Span, ...]) -> Span:
    """Return the span of the sentence that says most about an instrument.

    Naming it weighs most, then telling of an event, then stating a figure; the first of equals wins.

    Args:
        text: Canonical text, not empty.
        names: Where the text names the instrument.
    """

    def weight(span: Span) -> int:
        sentence = text[span[0] : span[1]]
        named = any(span[0] <= name[0] < span[1] for name in names)
        return 4 * named + 2 * bool(_EVENTFUL.search(sentence)) + bool(_FIGURE.search(sentence))

    found = sentences(text)
    best = found[0] if len(found) == 1 else max(found, key=weight)
    return _shorten(text, best)


def _trim(text: str, span: Span) -> Span:
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _shorten(text: str, span: Span) -> Span:
    start, end = span
    if end - start <= LONGEST_QUOTE:
        return span
    cut = text.rfind(" ", start, start + LONGEST_QUOTE)
    return start, cut if cut > start else start + LONGEST_QUOTE
