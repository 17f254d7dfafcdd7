"""Look-alikes: letters that pass for Latin ones. A table, and rules for what no table lists.

The table is Unicode's (UTS 39). Beyond it a letter's own Unicode name tells: CYRILLIC SMALL LETTER KA WITH
DESCENDER is built on KA, LATIN SMALL LETTER TURNED A is an A. Only words that mix scripts are rewritten, and
words all of look-alikes in Latin text; honest words of any script, and Latin spelling with accents, stay.
"""

import re
import unicodedata
from functools import lru_cache
from importlib.resources import files
from typing import Final

_WORD = re.compile(r"[^\W\d_]+")
_ASCII_LETTER = re.compile(r"[A-Za-z]")
_ASCII_RUN = re.compile(r"[A-Za-z]+")
_NAME = re.compile(
    r"(?:MODIFIER LETTER )?(?P<script>[A-Z][A-Z ]*?) "
    r"(?:(?P<case>SMALL|CAPITAL) )?LETTER (?:SMALL CAPITAL )?(?P<base>.+)"
)
_SHAPES: Final = frozenset(
    [
        "TURNED",
        "REVERSED",
        "OPEN",
        "CLOSED",
        "SCRIPT",
        "INSULAR",
        "SIDEWAYS",
        "SMALL",
        "CAPITAL",
        "BLACKLETTER",
        "LONG",
        "SHORT",
        "HALF",
        "DOTLESS",
        "BARRED",
        "INVERTED",
        "BROKEN",
        "STRETCHED",
        "LIGHT",
        "HEAVY",
        "TAILLESS",
        "VOLAPUK",
        "EGYPTOLOGICAL",
        "AFRICAN",
        "LETTER",
        "REVERSED-SCRIPT",
        "ANGLICANA",
        "MIDDLE-WELSH",
        "OLD",
        "POLISH",
        "DOUBLE",
    ]
)
_NAMED: Final = {
    "ALPHA": "a", "BETA": "b", "CHI": "x", "DELTA": "d", "ENG": "n", "EPSILON": "e", "ESH": "s",
    "ETH": "d", "EZH": "z", "GAMMA": "y", "IOTA": "i", "LAMBDA": "l", "OMEGA": "w", "PHI": "o",
    "RUM": "r", "SCHWA": "e", "TAU": "t", "UPSILON": "u", "YOGH": "y", "ETA": "n", "KAPPA": "k",
    "MU": "u", "NU": "v", "OMICRON": "o", "PI": "n", "RHO": "p", "SIGMA": "o", "THETA": "o",
    "XI": "e", "PSI": "y", "ZETA": "z", "KRA": "k",
}  # fmt: skip
"""Letters of Latin, Greek and Coptic that are named by a word."""
_CLOSE: Final = (
    "\u041aK \u041cM \u0417Z \u0425X \u043ak \u043cm \u0432b \u043dh \u0442t \u0433r \u0475v \u0474V "
    "\u03b1a \u03b5e \u03b9i \u03bdv \u03bfo \u03c1p \u03c5u \u03c7x \u03bak \u03c4t \u03b7n \u03b8o "
    "\u04cfl"
)
"""Close enough at reading size, though not in Unicode's table or with another target there."""
_FAINT: Final = (
    "\u0418N \u0438n \u042fR \u044fr \u0428W \u0448w \u0429W \u0449w \u0426U \u0446u \u041fN \u043fn "
    "\u041bN \u043bn \u0427y \u0447y \u044db \u042dE \u044de \u0444o \u0424O \u0434a \u0414A \u0436x "
    "\u0416X \u042eO \u044eo \u044bl \u0437z \u0431b \u0411B \u0413r \u0490r \u0491r \u044cb \u044ab "
    "\u03b2b \u03b4d \u03bbl \u03bcu \u03c0n \u03c3o \u03c2s \u03c6o \u03c9w \u03b3y \u03beE \u03b6z "
    "\u0394A \u039bA \u03a3E \u03a6O \u03a9O \u03a0N \u0393r \u039eE \u03a8Y"
)
"""Alike only to one who expects the Latin letter: used where Latin letters are the most of the word."""
_HONEST_LATIN: Final = frozenset(
    chr(code)
    for first, last in (
        (0xAA, 0x17F),
        (0x1A0, 0x1A1),
        (0x1AF, 0x1B0),
        (0x1CD, 0x1DC),
        (0x218, 0x21B),
        (0x1E00, 0x1EF9),
    )
    for code in range(first, last + 1)
    if chr(code).isalpha() and chr(code) != "\u0131"
)
"""Letters of everyday spelling in Latin script: Western, Central European, Romanian, pinyin, Vietnamese."""
_UNMISTAKEN: Final = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "KANGXI", "THAI")


def _pairs(text: str) -> dict[str, str]:
    return {pair[0]: pair[1] for pair in text.split()}


def _listed() -> dict[str, str]:
    table: dict[str, str] = {}
    written = (files("finllm.narrative.text") / "confusables.txt").read_text(encoding="utf-8")
    for line in written.splitlines():
        if not line.startswith("#"):
            target, _, letters = line.partition(" ")
            table.update(dict.fromkeys(letters, target))
    return table


_LISTED: Final = _listed()
CONFUSABLES: Final = {**_LISTED, **_pairs(_CLOSE)}
"""Letters that pass for an ASCII letter, whatever stands around them."""
_FAINTLY: Final = _pairs(_FAINT)
_BACK: Final = {
    "CYRILLIC": dict(
        zip("aeopcyxiABEKMHOPCTXIJSs", "аеорсухіАВЕКМНОРСТХІЈЅѕ", strict=True)  # noqa: RUF001 - meant
    ),
    "GREEK": dict(zip("ovABEZHIKMNOPTYX", "ονΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", strict=True)),  # noqa: RUF001 - meant
}
"""Latin letters that pass for another script's."""


@lru_cache(maxsize=8192)
def look_alike(letter: str) -> str:
    """Return the ASCII letter that a letter passes for, by table or by name; empty if for none."""
    if letter.isascii() or letter in _HONEST_LATIN:
        return ""
    return CONFUSABLES.get(letter) or _by_name(letter)


@lru_cache(maxsize=8192)
def _faintly(letter: str) -> str:
    return look_alike(letter) or _FAINTLY.get(letter, "")


def _by_name(letter: str) -> str:
    """Return what a letter is built on, by its decomposition or its Unicode name."""
    base = unicodedata.normalize("NFKD", letter)[0]
    if base != letter:
        return base if base.isascii() and base.isalpha() else CONFUSABLES.get(base, "")
    found = _NAME.fullmatch(unicodedata.name(letter, ""))
    if found is None or found["script"].startswith(_UNMISTAKEN):
        return ""
    plain = found["base"].split(" WITH ")[0]
    if found["script"] in ("LATIN", "COPTIC"):
        return _in_case(letter, " ".join(w for w in plain.split() if w not in _SHAPES))
    if plain == found["base"]:
        return ""
    case = f"{found['case']} " if found["case"] else ""
    try:
        parent = unicodedata.lookup(f"{found['script']} {case}LETTER {plain}")
    except KeyError:
        return ""
    return CONFUSABLES.get(parent, "")


def _in_case(letter: str, name: str) -> str:
    plain = name.lower() if len(name) == 1 and name.isascii() else _NAMED.get(name, "")
    return plain.upper() if unicodedata.category(letter) == "Lu" else plain


def unmask(text: str) -> tuple[str, int]:
    """Return a text with disguised words rewritten, and how many letters were.

    A word that mixes scripts becomes Latin if its other letters all pass for Latin ones, in Latin text or
    where most of it is Latin; a Cyrillic or Greek word becomes whole again if its Latin letters pass for its
    own. A word all of look-alikes becomes Latin in Latin text.
    """
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    if not words:
        return text, 0
    is_latin = _is_latin(text, words)
    changed = {word: new for word in set(words) if (new := _unmasked(word, is_latin)) != word}
    n = sum(
        sum(a != b for a, b in zip(word, changed[word], strict=True))
        for word in words
        if word in changed
    )
    if not changed:
        return text, 0
    return _WORD.sub(lambda match: changed.get(match.group(), match.group()), text), n


def _is_latin(text: str, words: list[str]) -> bool:
    """Return whether most letters stand in words that are Latin, or could be by their looks alone."""
    n_ascii = len(_ASCII_LETTER.findall(text))
    inside = sum(len(_ASCII_LETTER.findall(word)) for word in words)
    posing = sum(len(word) for word in words if all(map(_could_be_latin, word)))
    all_letters = n_ascii - inside + sum(map(len, words))
    return 2 * (n_ascii - inside + posing) > all_letters


def _could_be_latin(letter: str) -> bool:
    return letter.isascii() or letter in _HONEST_LATIN or letter in _LISTED


def _unmasked(word: str, is_latin: bool) -> str:  # noqa: FBT001 - private
    foreign = [c for c in word if not c.isascii() and c not in _HONEST_LATIN]
    if not foreign:
        return word
    n_latin = len(word) - len(foreign)
    strict = all(map(look_alike, foreign))
    if strict and (is_latin or 2 * n_latin > len(word)):
        return "".join(look_alike(c) or c for c in word)
    if not n_latin:
        return word
    if 2 * n_latin > len(word) and is_latin and all(map(_faintly, foreign)):
        return "".join(_faintly(c) or c for c in word)
    return word if strict else _restored(word)


def _restored(word: str) -> str:
    """Return a Cyrillic or Greek word with its Latin letters made its own again, if they all pass for them.

    An abbreviation with an ending, as Russian writes `IPO` with one, has its Latin letters in one run at the
    start: it stays.
    """
    script = next((unicodedata.name(c, "").split(" ")[0] for c in word if not c.isascii()), "")
    back = _BACK.get(script)
    latin = [c for c in word if c.isascii()]
    if back is None or 2 * len(latin) > len(word) or any(c not in back for c in latin):
        return word
    if len(latin) > 1 and (run := _ASCII_RUN.match(word)) and len(run.group()) == len(latin):
        return word
    return "".join(back.get(c, c) for c in word)


_SAME: Final = str.maketrans({"i": "l", "1": "l", "|": "l", "0": "o"})
"""What Unicode's skeletons make the same among plain letters and digits, in lower case; and `rn` and `m`."""


@lru_cache(maxsize=8192)
def _bare(letter: str) -> str:
    """Return a letter without its marks, or what it passes for, in lower case."""
    if letter.isascii():
        return letter.lower()
    listed = CONFUSABLES.get(letter)
    if listed:
        return listed.lower()
    base, *marks = list(unicodedata.normalize("NFD", letter))
    if not all(map(unicodedata.combining, marks)):  # a syllable of Hangul comes apart otherwise
        return letter
    return (CONFUSABLES.get(base) or look_alike(letter) or base).lower()


def skeleton(text: str) -> str:
    """Return a text for comparison alone: no marks, no case, every look-alike as what it passes for.

    Texts that look alike have the same skeleton, whatever their scripts; it is never shown or quoted.

    Source:
        Unicode Technical Standard 39, section 4, with case folded and marks left out as well.
    """
    lower = text.lower() if text.isascii() else "".join(map(_bare, text))
    return lower.translate(_SAME).replace("rn", "m")
