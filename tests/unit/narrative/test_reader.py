"""What a document says of an instrument is answered by the head that fits it, or by none, and says so."""

from pathlib import Path

import pytest

from finllm.domain.evidence import Document
from finllm.domain.units import NS_PER_S
from finllm.narrative.reading.heads import Heads, Pack
from finllm.narrative.reading.labelled import TASKS, Text
from finllm.narrative.reading.reader import IS_LONG, NOTHING, Judged, Reader, words_only
from finllm.narrative.room import Narrative, NarrativeSettings
from finllm_lab.heads.export import write_pack
from finllm_lab.heads.fit import Fitted, Said, blend
from finllm_lab.heads.words import fit_words, hashed

SAYINGS = {
    "sentfin": ("{} slumps on weak sales", "{} holds its meeting", "{} soars on strong sales"),
    "stockemotions": ("{} puts loaded, going to zero", "{} calls loaded, to the moon"),
    "fomc": ("{} sees easing and lower rates", "{} sees no change", "{} sees tightening of rates"),
    "claims": ("{} faked it", "{} may have done it", "{} signed it"),
    "phrasebank_ko": ("{} 적자 확대", "{} 회의 개최", "{} 흑자 전환"),
}


def made(folder: Path, *tasks: str) -> Reader:
    words, blends, n_rows = {}, {}, {}
    for task in tasks:
        rows = [
            Text(task=task, text=say.format(f"Firm{i}"), span=None, label=label, document=f"{i}")
            for i in range(40)
            for label, say in enumerate(SAYINGS[task])
        ]
        words[task] = fit_words(hashed(rows), rows, len(TASKS[task].classes))
        said = Said(rows=rows, words=words[task].read_out(hashed(rows)), encoder=None)
        blends[task], n_rows[task] = (blend(said, with_encoder=False), None), len(rows)
    fitted = Fitted(words=words, adapter={}, heads={})
    write_pack(folder, fitted, blends, scores={}, n_rows=n_rows, licence="", command="a test")
    return Reader(Heads(Pack(folder), None))


def document(text: str, **fields: object) -> Document:
    given = {"source": "wire", "ts_published": 0, "ts_recv": NS_PER_S, **fields}
    return Document(document_id="d", text=text, **given)  # type: ignore[arg-type]


def judged(reader: Reader, one: Document, event_type: str = "other") -> Judged:
    whole = (0, len(one.text))
    return reader.judge(one, one.text, names=(), quote=whole, event_type=event_type)


def test_news_and_posts_are_asked_of_heads_of_their_own(tmp_path: Path) -> None:
    reader = made(tmp_path, "sentfin", "stockemotions")
    assert judged(reader, document("Acme soars on strong sales")).stance > 0.5
    post = document("$ACME puts loaded, going to zero", author="somebody")
    assert judged(reader, post).stance < -0.5
    assert judged(reader, document("$ACME calls loaded, to the moon", followers=9)).stance > 0.5


def test_a_language_without_a_head_gets_no_opinion_and_the_evidence_says_so(tmp_path: Path) -> None:
    reader = made(tmp_path, "sentfin", "phrasebank_ko")
    assert judged(reader, document("삼성전자 흑자 전환", lang="ko")).stance > 0.5
    assert judged(reader, document("삼성전자 적자 확대")).stance < -0.5, "told from its script"
    nothing = judged(reader, document("三星电子公布季度业绩大幅增长", lang="zh"))
    assert (nothing.stance, nothing.by) == (0.0, NOTHING)


def test_monetary_policy_is_read_only_where_it_is_spoken_of(tmp_path: Path) -> None:
    reader = made(tmp_path, "sentfin", "fomc")
    words = document("The Fed sees tightening of rates")
    assert judged(reader, words, "macro").hawkishness > 0.5
    assert judged(reader, document("The Fed sees easing and lower rates"), "macro").hawkishness < 0
    assert judged(reader, words, "earnings").hawkishness == 0.0


def test_triage_is_a_figure_beside_the_stance(tmp_path: Path) -> None:
    reader = made(tmp_path, "sentfin", "claims")
    doubtful, sound = (judged(reader, document(f"Acme {did} it")) for did in ("faked", "signed"))
    assert 0.0 <= sound.check_worthiness < doubtful.check_worthiness <= 1.0
    assert judged(made(tmp_path, "sentfin"), document("Acme faked it")).check_worthiness == 0.0


def test_a_long_document_is_read_by_its_strongest_sentence(tmp_path: Path) -> None:
    reader = made(tmp_path, "sentfin")
    told = "Acme soars on strong sales."
    text = told + " Others slumps on weak sales." * (IS_LONG // 20)
    found = reader.judge(
        document(text), text, names=((0, 4),), quote=(0, len(told)), event_type="other"
    )
    assert found == reader.judge(
        document(told), told, names=((0, 4),), quote=(0, len(told)), event_type="other"
    )


def test_names_in_one_headline_get_stances_of_their_own_through_the_room() -> None:
    room = Narrative(settings=NarrativeSettings(), reader=words_only())
    room.watch("us-equity:AAPL", aliases=("Apple",))
    room.watch("us-equity:XOM", aliases=("Exxon",))
    text = "Apple shares surge on record profit while Exxon slumps on weak oil prices"
    admitted = room.admit(document(text), NS_PER_S)
    stances = {notice.instrument: notice.stance for notice in admitted.notices}
    assert stances["us-equity:AAPL"] > 0.2
    assert stances["us-equity:XOM"] < -0.2


@pytest.mark.parametrize("text", ["", " ", "\U0001f680", "\u4eca\u5929", "x" * 50_000])
def test_any_text_is_answered(text: str) -> None:
    found = judged(words_only(), document(text))
    assert -1.0 <= found.stance <= 1.0
    assert 0.0 <= found.check_worthiness <= 1.0
