"""Labelled texts: what each task asks, and how its files are read.

A task is named after the set that defines it, because what `positive` means differs from set to set.
"""

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from finllm.domain.errors import InputError
from finllm.narrative.text.canonical import canonical_text

Span = tuple[int, int]
Row = dict[str, Any]
_SIGNS: Final = ("negative", "neutral", "positive")
_MILD: Final = 0.1
"""A score nearer to zero than this is neutral."""
_HYPHENATED: Final = re.compile(r"-\n(?=\w)")


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """One labelled question."""

    task: str
    text: str
    """Canonical."""
    span: Span | None = None
    """Where the name stands that is asked about; None = the text as a whole."""
    label: int
    document: str
    """Rows of one document share it."""
    copied_from: str = ""
    """What decides whether two rows are copies; empty = the text. A translation names its original."""
    date: str = ""
    """Day, month or year, where the set has one."""
    split: str = ""
    weight: float = 1.0
    """How sure the label is, against the others."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a task asks."""

    file: str
    """Name of its set's file, without a trailing `.gz`."""
    classes: tuple[str, ...]
    asks: Literal["name", "text"]
    reads: Literal["words", "pieces"] = "words"
    language: str = "en"
    licence: Literal["A", "N", "U"]
    """Class of the set's licence."""
    rows: Callable[[Row], Iterator[tuple[str, Span | None, str]]]
    """Gives text, span and class of each question of a record; texts are made canonical here."""


def _headline(row: Row) -> Iterator[tuple[str, Span | None, str]]:
    text = canonical_text(row["title"])
    for name, label in row["entities"].items():
        yield text, _find(text, canonical_text(name)), label


def _spans(row: Row) -> Iterator[tuple[str, Span | None, str]]:
    # Spans point into the raw text, so the parts are made canonical one by one.
    for mark in row["annotations"]:
        raw, start, end = row["text"], mark["start"], mark["end"]
        parts = [raw[:start], raw[start:end], raw[end:]]
        before, name, after = (canonical_text(part) if part.strip() else "" for part in parts)
        before = before + " " if before and parts[0][-1:].isspace() else before
        after = " " + after if after and parts[2][:1].isspace() else after
        span = (len(before), len(before) + len(name))
        yield before + name + after, span, mark["label"].lower()


def _targets(
    text_key: str, name_key: str
) -> Callable[[Row], Iterator[tuple[str, Span | None, str]]]:
    def rows(row: Row) -> Iterator[tuple[str, Span | None, str]]:
        text = canonical_text(row[text_key])
        for target in row["targets"]:
            score = float(target["score"])
            sign = 0 if score < -_MILD else 2 if score > _MILD else 1
            yield text, _find(text, target[name_key]), _SIGNS[sign]

    return rows


def _plain(
    text_key: str, label_key: str = "label"
) -> Callable[[Row], Iterator[tuple[str, Span | None, str]]]:
    def rows(row: Row) -> Iterator[tuple[str, Span | None, str]]:
        yield canonical_text(row[text_key]), None, str(row[label_key])

    return rows


def _tweet(row: Row) -> Iterator[tuple[str, Span | None, str]]:
    text = canonical_text(row["text"])
    yield text, _find(text, row["ticker"]), row["label"]


def _company_news(row: Row) -> Iterator[tuple[str, Span | None, str]]:
    body = row.get("body")
    yield canonical_text(f"{row['title']}\n{body}" if body else row["title"]), None, row["label"]


def _economic_news(row: Row) -> Iterator[tuple[str, Span | None, str]]:
    yield canonical_text(_HYPHENATED.sub("", row["text"])), None, row["label"]


TASKS: Final[dict[str, Task]] = {
    "sentfin": Task(
        file="sentfin_en.jsonl", classes=_SIGNS, asks="name", licence="A", rows=_headline
    ),
    "finentity": Task(
        file="finentity_en.jsonl", classes=_SIGNS, asks="name", licence="U", rows=_spans
    ),
    "semeval2017": Task(
        file="semeval2017_headlines_en.jsonl",
        classes=_SIGNS,
        asks="name",
        licence="U",
        rows=_targets("title", "company"),
    ),
    "fiqa": Task(
        file="fiqa_posts_en.jsonl",
        classes=_SIGNS,
        asks="name",
        licence="U",
        rows=_targets("sentence", "target"),
    ),
    "surge": Task(
        file="surge_stock_tweets_en.jsonl",
        classes=("negative", "positive"),
        asks="name",
        licence="A",
        rows=_tweet,
    ),
    "phrasebank": Task(
        file="phrasebank_en.jsonl",
        classes=_SIGNS,
        asks="text",
        licence="N",
        rows=_plain("sentence"),
    ),
    "fomc": Task(
        file="fomc_stance_1996_2019_en.jsonl",
        classes=("dovish", "neutral", "hawkish"),
        asks="text",
        licence="N",
        rows=_plain("sentence"),
    ),
    "stockemotions": Task(
        file="stockemotions_2020_en.jsonl",
        classes=("bearish", "bullish"),
        asks="text",
        licence="U",
        rows=_plain("text", "sentiment"),
    ),
    "claims": Task(
        file="fact_checked_claims_en.jsonl",
        classes=("False", "NEI", "True"),
        asks="text",
        licence="A",
        rows=_plain("claim"),
    ),
    "phrasebank_ko": Task(
        file="phrasebank_ko.jsonl",
        classes=_SIGNS,
        asks="text",
        reads="pieces",
        language="ko",
        licence="N",
        rows=_plain("sentence_ko"),
    ),
    "company_news_zh": Task(
        file="company_news_zh_to_201809.jsonl",
        classes=("negative", "positive"),
        asks="text",
        reads="pieces",
        language="zh",
        licence="U",
        rows=_company_news,
    ),
    "economic_news_es": Task(
        file="economic_news_es_to_202103.jsonl",
        classes=_SIGNS,
        asks="text",
        reads="pieces",
        language="es",
        licence="U",
        rows=_economic_news,
    ),
}


KINDS: Final[dict[str, tuple[str, ...]]] = {
    "entity_sentiment": ("sentfin", "finentity", "semeval2017", "fiqa", "surge"),
    "sentiment": ("phrasebank_ko", "phrasebank", "company_news_zh", "economic_news_es"),
    "bullish_bearish": ("stockemotions",),
    "policy_stance": ("fomc",),
    "check_worthiness": ("claims",),
}
"""What sets ask, whoever labelled them; the sets of a kind differ in form and language."""


def task_of(path: Path) -> str | None:
    """Return the task whose file this is, by its name; None if it is none of them."""
    stem = path.name.removesuffix(".gz").removesuffix(".jsonl")
    by_length = sorted(TASKS, key=len, reverse=True)
    return next((name for name in by_length if stem.startswith(name)), None) or next(
        (name for name, task in TASKS.items() if task.file.removesuffix(".jsonl") == stem), None
    )


def resolved(path: Path, asked: str | None = None) -> str:
    """Return the task of a labelled file, by what is asked of it, its name and the form of its first row.

    Args:
        path: JSON lines.
        asked: A task, one of `KINDS`, or None.

    Raises:
        InputError: If the file is of no form that is asked for.
    """
    if asked in TASKS:
        return str(asked)
    if asked is not None and asked not in KINDS:
        known = ", ".join([*KINDS, *TASKS])
        raise InputError(f"{asked} is no task", place="--task", mend=f"Use one of {known}.")
    among = KINDS[asked] if asked is not None else tuple(TASKS)
    named = task_of(path)
    if named in among:
        return str(named)
    first = next((line for line in _lines(path) if line.strip()), b"")
    for name in among if asked is not None else ():
        try:
            next(_texts(first, name, str(path)), None)
        except InputError:
            continue
        return name
    if asked is None:
        why, mend = "the task cannot be told from this name", "Say it with --task."
    else:
        why = f"its first row is of no form that {asked} has"
        mend = f"Forms are those of {', '.join(TASKS[name].file for name in among)}."
    raise InputError(why, place=str(path), mend=mend)


def read_labelled(path: Path, task: str) -> list[Text]:
    """Return a labelled file's questions.

    Args:
        path: JSON lines, plain or gzip, of the task's form.
        task: One of `TASKS`.

    Raises:
        InputError: If the task is unknown, the file cannot be read, or a line is not of its form.
    """
    if task not in TASKS:
        raise InputError(
            f"{task} is no task", place="--task", mend=f"Use one of {', '.join(TASKS)}."
        )
    out: list[Text] = []
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            out.extend(_texts(line, task, f"{path}:{number}"))
    return out


def _lines(path: Path) -> list[bytes]:
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines()
    except (OSError, EOFError) as error:
        raise InputError(
            f"cannot be read: {error}", place=str(path), mend="Name a file of JSON lines."
        ) from error


def _texts(line: bytes, name: str, place: str) -> Iterator[Text]:
    task = TASKS[name]
    try:
        row = msgspec.json.decode(line)
        for text, span, label in task.rows(row):
            yield Text(
                task=name,
                text=text,
                span=span,
                label=task.classes.index(label),
                document=place,
                copied_from=canonical_text(row.get("sentence_en") or ""),
                date=_date(row),
                split=str(row.get("split", "")),
                weight=_sureness(row),
            )
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"is no row of {name}: {error!r}",
            place=place,
            mend=f"Rows have the form of {task.file}; classes are {', '.join(task.classes)}.",
        ) from error


def _date(row: Row) -> str:
    if row.get("date"):
        return str(row["date"])
    if row.get("month") is not None and row.get("year") is not None:
        return f"{row['year']}-{int(row['month']):02d}"
    return str(row["year"]) if "year" in row and "month" not in row else ""


def _sureness(row: Row) -> float:
    """Return 1, or less where annotators disagreed: half of full weight at 50 % agreement."""
    return 0.5 + 0.5 * (float(row["agreement"]) - 50.0) / 50.0 if "agreement" in row else 1.0


def _find(text: str, name: str) -> Span | None:
    """Return where a text first names something: as a word if possible, in its case if possible."""
    if not name:
        return None
    whole = rf"(?<!\w){re.escape(name)}(?!\w)"
    for pattern, flags in ((whole, 0), (whole, re.IGNORECASE), (re.escape(name), re.IGNORECASE)):
        match = re.search(pattern, text, flags)
        if match is not None:
            return match.span()
    return None
