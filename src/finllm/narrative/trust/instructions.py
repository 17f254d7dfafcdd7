"""Instruction-likeness: whether a text speaks to whatever reads it, instead of about the world.

Rules, not a model: they read plain, encoded and translated orders. A text that gives orders is held back
however true the rest of it may be. What the rules miss is harmless as long as nothing downstream obeys text;
they are the second lock.
"""

import base64
import binascii
import codecs
import re
from typing import Final
from urllib.parse import unquote

_ORDERS = re.compile(
    r"(?:ignore|disregard|forget|override|bypass)\s+(?:all\s+|any\s+|the\s+|your\s+|of\s+|these\s+|those\s+)*"
    r"(?:previous|prior|above|earlier|preceding|system|foregoing|safety)\b"
    r"|\b(?:system|developer|assistant)\s*(?:prompt|message|override|note|instructions?)\b"
    r"|\b(?:new|updated|hidden)\s+(?:system\s+)?instructions?\s*(?::|for\s+the\s+(?:ai|model|assistant|reader))"
    r"|<\|?\s*/?\s*(?:im_start|im_end|system|assistant|endoftext|user)\b"
    r"|\byou\s+are\s+(?:now\s+)?(?:an?\s+)?(?:ai|assistant|language\s+model|gpt|llm|chatbot|dan|in\s+developer\s+mode)\b"
    r"|\b(?:as\s+an?|dear|attention|note\s+to(?:\s+the)?)\s+(?:ai|language\s+model|assistant|llm|chatbot|"
    r"trading\s+(?:bot|agent|model))\b"
    r"|\b(?:respond|reply|answer|output)\s+(?:only\s+)?with\s+(?:the\s+|a\s+|only\s+|json|\"|'|bullish|bearish|buy|sell|"
    r"confirm|retract|refine)"
    r"|\b(?:respond|reply|answer|output)\s+only\s+with\b"
    r"|\bset\s+(?:the\s+|your\s+)?(?:shift|confidence|probability|verdict|credibility|stance|sentiment)\b"
    r"|\b(?:classify|label|score|rate|mark)\s+this\s+(?:\w+\s+)?(?:as|with)\b"
    r"|\bdo\s+not\s+(?:tell|reveal|mention\s+this\s+to)\s+(?:the\s+)?(?:user|operator|human)"
    r"|\[/?inst\]|###\s*(?:instruction|system|response)|\bBEGIN\s+(?:SYSTEM|PROMPT|INSTRUCTIONS?)\b"
    r"|\"role\"\s*:\s*\"(?:system|assistant|developer)\""
    # Spanish, Portuguese, French, Italian, German
    r"|\b(?:ignora|ignore|olvida|descarta|esque[cç]a|desconsidere|dimentica)\w*\s+(?:todas?\s+|tutte\s+)?(?:las\s+|as\s+|le\s+|los\s+)?"
    r"(?:instruc\w+|istruzioni|indicaciones|[oó]rdenes|ordens)"
    r"|\b(?:ignore[zr]?|oublie[zr]?)\s+(?:toutes?\s+)?(?:les\s+|vos\s+|tes\s+)?(?:instructions|consignes)"
    r"|\b(?:ignorier\w*|vergiss|vergessen\s+sie|missacht\w*)\s+(?:alle\s+|die\s+|s[aä]mtliche\s+)*(?:\w+\s+)?"
    r"(?:anweisung\w*|instruktion\w*|befehle?)"
    # Russian, Chinese, Japanese, Korean
    r"|(?:игнорируй\w*|забудь\w*)\s+(?:все\s+)?(?:предыдущие\s+)?(?:инструкци\w+|указани\w+)"
    r"|(?:忽略|无视|忘记|不要理会)[^。\n]{0,12}(?:指令|指示|提示|说明)|系统提示"
    r"|(?:これまで|以前|上記)の?[^。\n]{0,8}(?:指示|命令)を?(?:無視|忘れ)|(?:이전|위의?|모든)\s*[^.\n]{0,8}(?:지시|명령)[^.\n]{0,6}무시",
    re.IGNORECASE,
)
_KEYS: Final = (
    "ignor", "disregard", "forget", "override", "bypass", "system", "developer", "assistant", "instruction",
    "<", "you are", " ai", " language model", " llm", " chatbot", " trading bot", " trading agent",
    " trading model", "respond", "reply", "answer", "output", "set ", "classify this", "label this",
    "score this", "rate this", "mark this", "do not ", "inst]", "###", "begin ", '"role"', "olvida",
    "descarta", "esqueca", "desconsidere", "dimentica", "oublie", "vergiss", "vergessen", "missacht",
)  # fmt: skip
"""Orders in ASCII hold one of these, in lower case and with single blanks: they are looked for first."""
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{24,4000}={0,2}")
_HEX = re.compile(r"(?:[0-9a-f]{2}[\s:]?){16,2000}", re.IGNORECASE)
_PERCENT = re.compile(r"(?:%[0-9a-f]{2}[\w.~-]{0,3}){6,}", re.IGNORECASE)
_ESCAPED = re.compile(r"(?:\\[ux][0-9a-f]{2,4}){6,}", re.IGNORECASE)
_LETTERS = re.compile(r"[^\W\d_]{3,}")
_ROT_HINT = re.compile(r"\b(?:vtaber|qvfertneq|flfgrz|vafgehpgvbaf?)\b", re.IGNORECASE)
_SPACED = re.compile(r"(?:\b\w[ .*_-]){8,}\w\b")
_MOST_DECODED: Final = 8


def gives_orders(text: str) -> bool:
    """Return whether a text reads like instructions to whoever, or whatever, reads it.

    Also where the orders are written in base64, hexadecimal, percent or escape codes, in letters shifted
    by thirteen, or with gaps between the letters.
    """
    return _orders(text) or any(map(_orders, _unwrapped(text)))


def _orders(text: str) -> bool:
    if text.isascii():
        plain = " ".join(text.lower().split())
        if not any(key in plain for key in _KEYS):
            return False
    return _ORDERS.search(text) is not None


def _unwrapped(text: str) -> list[str]:
    """Return what stands encoded in a text, as far as it is text; bounded."""
    found: list[str] = []
    if len(text) >= 24:
        found += [_from_base64(m.group()) for m in _few(_BASE64, text)]
        found += [_from_hex(m.group()) for m in _few(_HEX, text)]
    if "%" in text:
        found += [unquote(m.group(), errors="ignore") for m in _few(_PERCENT, text)]
    if "\\" in text:
        found += [_from_escapes(m.group()) for m in _few(_ESCAPED, text)]
    if _ROT_HINT.search(text) is not None:
        found.append(codecs.decode(text, "rot13"))
    found += [_closed_up(m.group()) for m in _few(_SPACED, text)]
    return [one for one in found if one]


def _few(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    found = []
    for match in pattern.finditer(text):
        found.append(match)
        if len(found) >= _MOST_DECODED:
            break
    return found


def _from_base64(code: str) -> str:
    plain = code.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        content = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        return _if_text(content.decode())
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""


def _from_hex(code: str) -> str:
    try:
        return _if_text(bytes.fromhex(re.sub(r"[\s:]", "", code)).decode())
    except (ValueError, UnicodeDecodeError):
        return ""


def _from_escapes(code: str) -> str:
    return "".join(chr(int(digits, 16)) for digits in re.findall(r"[0-9a-fA-F]{2,4}", code))


def _closed_up(spaced: str) -> str:
    """Return spaced letters closed up, with blanks set back before the words that orders begin with."""
    letters = re.sub(r"[ .*_-]", "", spaced)
    return re.sub(r"(?i)(all|previous|prior|instructions?|system|prompt|above)", r" \1 ", letters)


def _if_text(decoded: str) -> str:
    return decoded if _LETTERS.search(decoded) is not None else ""
