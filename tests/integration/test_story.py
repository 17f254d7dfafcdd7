"""A forecast's story, told as text, as JSON and as a page: the same, and no document's words are more."""

import io
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest
from rich.console import Console

from finllm.app.records import Story, open_ledger, story
from finllm.app.story_page import page
from finllm.app.view import show_story
from finllm.domain.evidence import EvidencePack
from finllm.domain.forecast import Forecast
from finllm.domain.protocol import Verdict
from finllm.domain.trace import Trace
from support.replays import Replayed

TAGS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "span", "strong", "ul",
    "li", "table", "tr", "th", "td", "div", "i", "b", "s", "bdi", "blockquote", "mark",
}  # fmt: skip
HOSTILE = (
    "<script>alert(1)</script>",
    "</mark></bdi></blockquote><img src=x onerror=alert(1)>",
    '"><a href="javascript:alert(1)">x</a>',
    "<style>*{display:none}</style><base href=//evil.example>",
    "&lt;b&gt; &#60;script&#62;",
    "\u202e\u2066gnp.exe \x00\x1b[2J \u2028",
    "]]><!-- --!> <svg/onload=alert(1)>",
    "' onmouseover='alert(1)",
)
replace = msgspec.structs.replace


class Elements(HTMLParser):
    """What a page consists of, as a browser's parser would see it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


@pytest.fixture(scope="module")
def told(replayed: Replayed) -> Story:
    """The story of the revised forecast with the most statements."""
    with open_ledger(replayed.run) as ledger:
        best = max(ledger.records(Trace), key=lambda trace: len(trace.statements))
    return story(replayed.run, best.forecast_id)


def test_a_story_holds_its_documents_and_its_proof(told: Story) -> None:
    assert told.proof.ok
    assert told.proof.checked == len([r for r in told.revisions if r.forecast])
    cited = {c.evidence_id for v in told.verdicts for c in v.citations}
    wanted = {e.document_id for p in told.packs for e in p.evidence if e.evidence_id in cited}
    assert {d.document_id for d in told.documents} == wanted - {""}


def test_the_page_shows_terms_quotes_hypotheses_versions_fidelity_and_proof(told: Story) -> None:
    made = Elements(page(told))
    words = " ".join(made.words.split())
    (trace, *_) = told.traces
    assert "Holds." in words
    assert trace.fidelity.agreement is not None
    assert f"ablation agreement {trace.fidelity.agreement:.2f}" in words
    for statement in trace.statements:
        if statement.quote:
            assert " ".join(statement.quote.split()) in words
        if statement.field == "share.shift":
            assert f"{statement.number:+.4f}" in words
    for verdict in told.verdicts:
        assert all(one.name in words for one in verdict.hypotheses)
    assert all(f"version {r.version}" in words for r in told.revisions if r.forecast)
    assert "outcome" in words
    assert made.tags.count("mark") == len([s for t in told.traces for s in t.statements if s.quote])


def test_bars_stand_largest_first(told: Story) -> None:
    shares = [s.number for s in told.traces[0].statements if s.field == "share.shift"]
    text = page(told)
    places = [text.index(f"<b>{number:+.4f}</b>") for number in dict.fromkeys(shares)]
    assert places == sorted(places)


def hostile(record: Any, words: str) -> Any:
    """Return a record with every free text in it replaced."""
    if isinstance(record, tuple):
        return tuple(hostile(one, words) for one in record)
    if not isinstance(record, msgspec.Struct):
        return record
    free = {"text", "quote", "origin", "conflict", "reasoner", "headline", "source", "struck",
            "refused", "unmeasured", "reason", "feature", "event_type", "regime", "why", "notes",
            "instrument", "horizon", "model_version", "name", "void"}  # fmt: skip
    changes = {}
    for field in record.__struct_fields__:
        value = getattr(record, field)
        changes[field] = (
            words if field in free and isinstance(value, str) else hostile(value, words)
        )
    return replace(record, **changes)


@pytest.mark.parametrize("words", HOSTILE)
def test_no_words_of_a_record_become_part_of_the_page(told: Story, words: str) -> None:
    for hurt in (hostile(told, words), replace(hostile(told, words), proof=told.proof)):
        made = Elements(page(hurt))
        assert set(made.tags) <= TAGS
        assert made.open == []
        assert {name for name, _ in made.attributes} <= {
            "lang", "charset", "http-equiv", "content", "name", "class", "style",
        }  # fmt: skip
        styles = [value for name, value in made.attributes if name == "style"]
        assert all(v and v.startswith("width:") and v.endswith("%") for v in styles)
        assert made.tags.count("style") == made.tags.count("title") == 1
        assert "\x1b" not in made.words
        assert "\u202e" not in made.words
        assert "\x00" not in made.words


def test_the_page_loads_nothing(told: Story) -> None:
    text = page(told)
    assert "default-src 'none'" in text
    for word in ("http://", "https://", "url(", "@import", "src=", "href="):
        assert word not in text


def test_what_is_struck_or_refused_is_shown_as_that(told: Story) -> None:
    (trace, *rest) = told.traces
    first, *others = trace.statements
    struck = (replace(first, struck="it is not so"), *others)
    refused = replace(trace, statements=struck, refused="too little holds")
    shown = replace(told, traces=(refused, *rest))
    assert "<s><bdi>" in page(shown)
    console = Console(file=io.StringIO(), width=200)
    show_story(shown, console)
    for text in (page(shown), console.file.getvalue()):  # type: ignore[attr-defined]
        assert "struck: it is not so" in text
        assert "too little holds" in text


def test_a_struck_hypothesis_or_fidelity_is_shown_as_that(told: Story) -> None:
    (trace, *rest) = told.traces
    for field in ("hypotheses", "fidelity"):
        place = next(i for i, s in enumerate(trace.statements) if s.field.startswith(field))
        said = list(trace.statements)
        said[place] = replace(said[place], struck="it is not so")
        shown = page(replace(told, traces=(replace(trace, statements=tuple(said)), *rest)))
        assert f"<s><bdi>{said[place].text}</bdi></s>" in shown


def test_a_hypothesis_that_the_trace_does_not_state_is_not_shown(told: Story) -> None:
    (trace, *rest) = told.traces
    kept = tuple(s for s in trace.statements if not s.field.startswith("hypotheses"))
    assert told.verdicts[0].hypotheses
    words = Elements(page(replace(told, traces=(replace(trace, statements=kept), *rest)))).words
    assert "Hypotheses" not in words


def test_the_same_records_are_told_as_json(told: Story) -> None:
    again = msgspec.json.decode(msgspec.json.encode(told), type=Story)
    assert again == told
    assert isinstance(again.packs[0], EvidencePack)
    assert isinstance(again.verdicts[0], Verdict)


def test_a_story_of_a_run_without_traces_is_told(replayed_bare: Replayed) -> None:
    first = next(r for _, r in replayed_bare.records if isinstance(r, Forecast))
    Elements(page(story(replayed_bare.run, first.forecast_id)))
