"""In which language a text is, by its script and its commonest words: integers only, so the same anywhere.

Chinese, Japanese, Korean, Russian and other languages with a script of their own are told by their letters;
languages in Latin script by words that every text of theirs holds. A text that shows too little is of no
language that we name.
"""

import re
from collections import Counter
from functools import lru_cache
from typing import Final

READ_CHARS: Final = 600
"""Characters of a text that are looked at."""
_TAG = re.compile(r"<[^<>]{0,500}>|https?://\S+|[@#$]\w+|&[a-z#0-9]{2,8};")
_LATIN_WORD = re.compile(r"[a-z\u00df-\u024f]+")
_BLOCKS: Final = (
    ("greek", 0x370, 0x3FF),
    ("cyrillic", 0x400, 0x4FF),
    ("hebrew", 0x590, 0x5FF),
    ("arabic", 0x600, 0x6FF),
    ("devanagari", 0x900, 0x97F),
    ("thai", 0xE00, 0xE7F),
    ("hangul", 0x1100, 0x11FF),
    ("kana", 0x3041, 0x30FA),
    ("kana", 0x30FD, 0x30FF),
    ("hangul", 0x3131, 0x318E),
    ("han", 0x3400, 0x4DBF),
    ("han", 0x4E00, 0x9FFF),
    ("hangul", 0xAC00, 0xD7A3),
    ("han", 0xF900, 0xFAFF),
)
_OWN_SCRIPT: Final = {
    "hangul": "ko", "greek": "el", "hebrew": "he", "devanagari": "hi", "thai": "th", "arabic": "ar",
}  # fmt: skip
_HAN_WEIGHT: Final = 3
"""A character of Han or Hangul is worth about three Latin letters."""
_WORDS: Final = {
    "en": """
        the of and to in a is for on that with as at by from it are was its be this has will
        have an not after over says said up down new more than but their they which his or you i
        we us about into out may could would should can our if what how when who why first year
        shares stock stocks market profit buy sell price earnings quarter sales bank growth
        higher lower rise rises fall falls gains net per report reports million billion company
        deal today week good just like my your all one so no get going do now time back long
        short calls puts still here there been hits sees set amid fed rate rates inflation
        targets target outlook revenue futures demand views joins quits plans against strong
        weak steady trade investors power equity portfolio exchange appoints launch daily hit
        rally outperform upgrade results index top q1 q2 q3 q4 crore pct
    """,
    "es": """
        el la los las de del y en que un una por con para se su al es lo como más mas pero sus
        le ya o fue este ha sí si porque esta entre cuando muy sin sobre también tambien me
        hasta hay donde quien desde todo nos durante todos uno les ni contra otros ese eso ante
        ellos e esto antes algunos qué unos yo otro otras otra él tanto esa estos mucho quienes
        nada muchos cual poco ella estar estas millones banco empresas mercado acciones año años
        precio precios crecimiento economía empresa inflación tasa pesos dólares gobierno según
        ventas sube baja cae bolsa trimestre
    """,
    "pt": """
        o os as da do das dos em um uma para com não nao por mais como mas foi ao ele se à seu
        sua ou quando muito nos já ja eu também só pelo pela até isso ela entre era depois sem
        mesmo aos seus quem nas me esse eles você essa num nem suas meu às minha numa pelos
        milhões ações mercado preço empresa lucro banco bolsa alta queda ano anos é são está
        após ante bilhões e de que
    """,
    "fr": """
        le la les de des du et en un une est pour que qui dans sur par au aux avec ce il plus ne
        pas son sa ses se mais comme ou on leur elle nous vous été cette sont d l a à qu fait
        ont entre après sans ces être aussi bien deux où même peut millions milliards marché
        entreprise bourse hausse baisse actions année ans banque croissance prix bénéfice
        trimestre
    """,
    "de": """
        der die das und in den von zu mit sich des auf für ist im dem nicht ein eine als auch es
        an werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über einen
        so zum war haben nur oder aber vor zur bis mehr durch man sein wurde sei prozent hatte
        kann gegen vom können schon wenn millionen milliarden euro aktie aktien unternehmen jahr
        markt gewinn umsatz bank börse quartal
    """,
    "it": """
        il lo la i gli le di del della dei delle e in che un una per con non è si da al alla nel
        sono più ha ma come anche dal dalla su se o sul sulla nella tra fra questo questa hanno
        essere stato anni anno dopo due milioni miliardi mercato borsa azioni società banca
        crescita prezzo utile trimestre
    """,
    "nl": """
        de het een van en in is dat op te voor met zijn niet aan er om ook als bij door maar
        naar dan uit nog wordt over heeft hebben ze deze worden kan meer geen tot of miljoen
        miljard beurs aandelen winst
    """,
}
_ACCENTS: Final = {
    "es": "ñáéíóúü", "pt": "ãõâêôçáéíóúà", "fr": "éèêëàâçîïôûùœ", "de": "äöüß", "it": "àèéìòù",
}  # fmt: skip
_LANGUAGES_OF: Final[dict[str, list[str]]] = {}
for _language, _line in _WORDS.items():
    for _word in set(_line.split()):
        _LANGUAGES_OF.setdefault(_word, []).append(_language)
_ENDINGS: Final[dict[str, str]] = {
    "ing": "en", "ings": "en", "ight": "en", "ough": "en", "ness": "en", "ould": "en", "ted": "en",
    "wth": "en", "hip": "en", "ked": "en", "ned": "en", "ally": "en", "ents": "en", "tly": "en",
    "ción": "es", "cion": "es", "ciones": "es", "idad": "es", "iento": "es", "arán": "es",
    "ção": "pt", "ções": "pt", "cao": "pt", "coes": "pt", "dade": "pt",
    "eux": "fr", "euse": "fr", "aire": "fr", "ique": "fr", "ement": "fr", "eurs": "fr",
    "ung": "de", "ungen": "de", "lich": "de", "isch": "de", "keit": "de", "schaft": "de",
    "zione": "it", "zioni": "it", "ità": "it", "etti": "it", "ieri": "it",
    "ijk": "nl", "eren": "nl", "aar": "nl",
}  # fmt: skip
_LEAST: Final = 4
"""Points below which nothing is said."""
_ENDING: Final = 5
"""Points of a word that ends as words of one language do."""
_TELLING: Final = 12
"""Points of a word that one language alone has; of a word of several, its share."""


def language_of(text: str) -> str:
    """Return a text's language, ISO 639-1; empty if it does not show one.

    Args:
        text: Raw or canonical; tags, addresses and handles do not count.
    """
    text = _TAG.sub(" ", text[:READ_CHARS]).lower()
    if not text.isascii():
        found = _by_script(text)
        if found is not None:
            return found
    return _by_words(text)


def _by_script(text: str) -> str | None:
    """Return the language of a text whose script tells; None if most of it is in Latin letters."""
    counts = dict.fromkeys((name for name, _, _ in _BLOCKS), 0)
    for letter, n in Counter(text).items():
        name = _script(letter)
        if name:
            counts[name] += n
    n_latin = sum(map(len, _LATIN_WORD.findall(text)))
    east = counts["kana"] + counts["han"] + counts["hangul"]
    script = max(counts, key=lambda name: counts[name])
    if _HAN_WEIGHT * east >= n_latin and east > 0 and east >= counts[script]:
        if counts["hangul"] >= max(counts["kana"], counts["han"]):
            return "ko"
        return "ja" if 10 * counts["kana"] >= counts["han"] else "zh"
    if counts[script] * 2 <= n_latin or script in ("kana", "han"):
        return None
    return _cyrillic(text) if script == "cyrillic" else _OWN_SCRIPT.get(script, "")


@lru_cache(maxsize=65_536)
def _script(letter: str) -> str:
    code = ord(letter)
    return next((name for name, first, last in _BLOCKS if first <= code <= last), "")


def _cyrillic(text: str) -> str:
    if any(letter in text for letter in "іїєґ"):
        return "uk"
    if any(letter in text for letter in "ђјљњћџ"):
        return "sr"
    n_telling = sum(map(text.count, "ыэё"))
    return "ru" if n_telling or text.count("ъ") * 50 <= len(text) else "bg"


def _by_words(text: str) -> str:
    points: Counter[str] = Counter()
    words = _LATIN_WORD.findall(text)
    for word in words:
        languages = _LANGUAGES_OF.get(word, ())
        for language in languages:
            points[language] += _TELLING // len(languages)
        if not languages:
            for n in (3, 4, 5, 6):
                points[_ENDINGS.get(word[-n:], "") if len(word) > n else ""] += _ENDING
    del points[""]
    if not text.isascii():
        found = Counter(text)
        for language, letters in _ACCENTS.items():
            points[language] += 3 * sum(found[letter] for letter in letters)
    most = max(points.values(), default=0)
    best = sorted(language for language, n in points.items() if n == most)
    if 3 * most < len(words) or most < _LEAST:
        return ""
    return best[0] if len(best) == 1 else "en" if "en" in best else ""
