"""Look-alikes, boiler-plate, languages and emoji."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finllm.narrative.text.boilerplate import without_boilerplate
from finllm.narrative.text.canonical import Changes, canonical_text, canonicalise
from finllm.narrative.text.confusables import CONFUSABLES, look_alike, skeleton, unmask
from finllm.narrative.text.emoji import emoji_names
from finllm.narrative.text.languages import language_of

HONEST = (
    "\u041c\u043e\u0441\u043a\u0432\u0430 \u0440\u0430\u0441\u0442\u0435\u0442",
    "Газпром увеличил добычу газа",
    "Η αγορά ανέβηκε σήμερα",  # noqa: RUF001 - another script is meant
    "\u82f9\u679c\u516c\u53f8\u516c\u5e03\u8d22\u62a5\uff0ciPhone\u9500\u91cf\u4e0a\u5347",
    "\uc0bc\uc131\uc804\uc790 LG\uc804\uc790 \uc2e4\uc801 \ubc1c\ud45c",
    "\u30c8\u30e8\u30bf\u3001iPhone\u306e\u58f2\u4e0a\u9ad8",
    "\u0420\u043e\u0441\u0442 IPO\u0448\u043d\u044b\u0445 \u0430\u043a\u0446\u0438\u0439",
    "Nestl\u00e9, Erdo\u011fan, \u0141\u00f3d\u017a, S\u00e3o Paulo, Nguy\u1ec5n",
)


@pytest.mark.parametrize("text", HONEST)
def test_honest_text_of_any_script_is_left_alone(text: str) -> None:
    assert unmask(text) == (text, 0)
    assert canonicalise(text).changes.disguises == 0


@pytest.mark.parametrize("letter", sorted(CONFUSABLES))
def test_every_look_alike_in_unicodes_list_is_unmasked_in_a_latin_word(letter: str) -> None:
    passes_for = look_alike(letter)
    if (
        passes_for
    ):  # letters of everyday spelling pass for none, and are folded for comparison alone
        assert (
            unmask(f"Shares of Ac{letter}me rise today")[0]
            == f"Shares of Ac{passes_for}me rise today"
        )
    plain = skeleton(f"Ac{CONFUSABLES[letter]}me")
    assert skeleton(f"Ac{letter}me") == plain


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("\u04d3pple", "apple"),  # CYRILLIC A WITH DIAERESIS: by its decomposition
        ("b\u049bnk", "bknk"),  # CYRILLIC KA WITH DESCENDER: by its name
        ("\u0250pple", "apple"),  # LATIN TURNED A: by its name
        ("app\u1d0ce", "apple"),  # LATIN SMALL CAPITAL L WITH STROKE
        ("m\u04cfcrosoft", "mlcrosoft"),
        ("\u0418vidia", "Nvidia"),  # faint, but the rest of the word is Latin
    ],
)
def test_look_alikes_that_no_list_has_are_told_by_name_or_by_the_word(
    disguised: str, plain: str
) -> None:
    got, n = unmask(f"Shares of {disguised} rise today")
    assert (got, n) == (f"Shares of {plain} rise today", 1)


def test_a_word_of_another_script_gets_its_own_letters_back() -> None:
    disguised = (
        "\u0413a\u0437\u043f\u0440\u043e\u043c \u0440\u0430\u0441\u0442\u0451\u0442"  # a Latin a
    )
    assert unmask(disguised) == (disguised.replace("a", "\u0430"), 1)


@settings(max_examples=40)
@given(st.text(max_size=40))
def test_unmasking_twice_is_unmasking_once_and_keeps_the_length(text: str) -> None:
    once, n = unmask(text)
    assert len(once) == len(text)
    assert (n == 0) == (once == text)


BY_TARGET: dict[str, list[str]] = {}
for _letter, _target in CONFUSABLES.items():
    BY_TARGET.setdefault(_target, []).append(_letter)


@settings(max_examples=30)
@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz ABCDEFGHIJ", max_size=40), st.randoms())
def test_a_skeleton_does_not_see_which_look_alike_was_taken(text: str, chance: object) -> None:
    swapped = "".join(chance.choice([c, *BY_TARGET.get(c, [])]) for c in text)  # type: ignore[attr-defined]
    assert skeleton(swapped) == skeleton(text)


def test_an_accent_is_spelling_in_a_text_and_nothing_in_its_skeleton() -> None:
    assert canonical_text("Nestl\u00e9 sube") == "Nestl\u00e9 sube"
    assert skeleton("Nestl\u00e9") == skeleton("Nestle")


# --- boiler-plate -----------------------------------------------------------------------------------

RELEASE = """Acme raises its outlook.

Revenue will be 2.4 billion. Click here to read more. Margins rise too.

Forward-Looking Statements

This release speaks of the future within the meaning of the Act. Actual numbers may vary widely.

About Acme

Acme makes anvils. \u00a9 2024 Acme Corp. All rights reserved."""


def test_boiler_plate_goes_and_is_counted_and_the_news_stays() -> None:
    form = canonicalise(RELEASE)
    assert form.text == (
        "Acme raises its outlook.\n\nRevenue will be 2.4 billion. Margins rise too.\n\n"
        "About Acme\n\nAcme makes anvils."
    )
    assert form.changes.boilerplate == 5


@pytest.mark.parametrize(
    "text",
    [
        "SEC sues Acme over forward-looking statements",
        "Click here",
        "Disclaimer",
        "This is not investment advice.",
        "Court rules that safe harbor provisions do not protect Acme",
    ],
)
def test_a_first_sentence_is_never_boiler_plate(text: str) -> None:
    assert without_boilerplate(text) == (text, 0)


@pytest.mark.parametrize(
    "tail",
    [
        "This is not financial advice.",
        "Reporting by Jane Roe; editing by John Doe",
        "Sign up for our daily newsletter here.",
        "\u672c\u6587\u4ec5\u4f9b\u53c2\u8003\u3002",
        "\ubb34\ub2e8 \uc804\uc7ac \ubc0f \uc7ac\ubc30\ud3ec \uae08\uc9c0",
    ],
)
def test_what_stands_under_every_text_goes(tail: str) -> None:
    assert without_boilerplate(f"Acme rose 5% today.\n\n{tail}") == ("Acme rose 5% today.", 1)


@settings(max_examples=50)
@given(st.text(alphabet="a .!?\n\u3002c", max_size=200))
def test_what_is_left_is_never_longer_and_never_nothing(text: str) -> None:
    left, n = without_boilerplate(text)
    assert len(left) <= len(text)
    assert n == 0 or left


def test_a_long_text_without_a_stop_takes_linear_time() -> None:
    canonicalise("click here or forward-looking " * 7_000)


# --- features ---------------------------------------------------------------------------------------


def test_changes_are_features_between_nothing_and_one() -> None:
    plain = Changes().features(100)
    assert plain.dtype == np.float32
    assert not plain.any()
    form = canonicalise("\u0430pple\u200b <b>rises</b> &amp; falls \u202eback")
    features = form.changes.features(len(form.text))
    assert len(features) == len(Changes.__struct_fields__)
    assert np.all((features >= 0) & (features < 1))
    at = {name: float(x) for name, x in zip(Changes.__struct_fields__, features, strict=True)}
    assert min(at["confusable"], at["invisible"], at["bidi"], at["html"]) > 0
    assert at["control"] == 0


# --- languages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lang", "text"),
    [
        ("en", "Acme shares fall after the bank cuts its target"),
        ("es", "La inflaci\u00f3n subi\u00f3 en marzo por los alimentos"),
        ("zh", "\u516c\u53f8\u516c\u5e03\u7b2c\u4e09\u5b63\u5ea6\u8d22\u62a5"),
        ("ja", "トヨタの売上高が過去最高を更新"),
        ("ko", "\uc0bc\uc131\uc804\uc790 3\ubd84\uae30 \uc2e4\uc801 \ubc1c\ud45c"),
        ("ru", "Газпром увеличил добычу"),
        ("fr", "Le b\u00e9n\u00e9fice de la soci\u00e9t\u00e9 a augment\u00e9 au premier trimestre"),
        ("de", "Der Gewinn des Unternehmens ist im ersten Quartal gestiegen"),
        ("", "12.5 % 2024 $ACME"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_text_shows_its_language(lang: str, text: str) -> None:
    assert language_of(text) == lang


def test_the_languages_of_recorded_headlines_are_told(shared) -> None:  # type: ignore[no-untyped-def]
    import json

    least = {"sentfin_en": ("title", "en", 0.95), "phrasebank_ko": ("sentence_ko", "ko", 0.99),
             "company_news_zh_to_201809": ("title", "zh", 0.99),
             "economic_news_es_to_202103": ("text", "es", 0.99)}  # fmt: skip
    for name, (field, lang, share) in least.items():
        lines = (shared / "text_labels" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        told = [language_of(json.loads(line)[field]) for line in lines[::20]]
        assert told.count(lang) >= share * len(told), name


# --- emoji ------------------------------------------------------------------------------------------


def test_canonical_text_keeps_emoji_and_the_encoders_door_names_them() -> None:
    text = "Buy $ACME \U0001f680\U0001f680 \U0001f44d\U0001f3fd \U0001f1fa\U0001f1f8 now"
    assert "\U0001f680" in canonical_text(text)
    assert emoji_names(text) == "Buy $ACME rocket rocket thumbs up sign flag US now"


@given(st.text(max_size=60))
def test_names_leave_no_emoji_behind(text: str) -> None:
    named = emoji_names(text)
    assert not any(0x1F300 <= ord(c) <= 0x1F64F and unicodedata.category(c) == "So" for c in named)


def test_text_without_emoji_is_left_alone() -> None:
    assert emoji_names("Caf\u00e9  \u20ac5  na\u00efve") == "Caf\u00e9  \u20ac5  na\u00efve"
