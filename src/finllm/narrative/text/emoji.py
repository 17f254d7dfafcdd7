"""Emoji as words, for encoders whose vocabulary has none. Canonical text keeps the emoji themselves."""

import re
import unicodedata
from functools import lru_cache
from typing import Final

_EMOJI = re.compile(
    "[\u203c\u2049\u2139\u2190-\u21ff\u231a-\u23ff\u25a0-\u27bf\u2934\u2935\u2b05-\u2b55\u3030\u303d"
    "\u3297\u3299\U0001f000-\U0001faff][\u200d\u20e3\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]*"
)
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]{2}")
_BLANKS = re.compile(" {2,}")
_LETTER_A: Final = 0x1F1E6
_CATEGORIES: Final = frozenset({"So", "Sm", "Sk", "Po"})


def emoji_names(text: str) -> str:
    """Return a text with each emoji rewritten as its Unicode name: `rocket`, `chart with upwards trend`.

    Flags become their two letters; skin tones, joiners and variation selectors go. Text without emoji is
    returned as it is.
    """
    if text.isascii() or not (_EMOJI.search(text) or _FLAG.search(text)):
        return text
    return _BLANKS.sub(" ", _EMOJI.sub(_named, _FLAG.sub(_flag, text))).strip()


def _flag(match: re.Match[str]) -> str:
    letters = "".join(chr(ord("A") + ord(c) - _LETTER_A) for c in match.group())
    return f" flag {letters} "


def _named(match: re.Match[str]) -> str:
    name = _name(match.group()[0])
    return f" {name} " if name else " "


@lru_cache(maxsize=4096)
def _name(symbol: str) -> str:
    if unicodedata.category(symbol) not in _CATEGORIES:
        return ""
    return unicodedata.name(symbol, "").lower().replace("-", " ")
