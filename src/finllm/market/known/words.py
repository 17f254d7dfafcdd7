"""The words of the known worlds: five manners of saying, in the language of the instrument's market.

What moves a price and what does not are put into the same words on purpose: whoever wants to know which is
which must look at who says it, whether it is new, and what the market has done. Names of people and towns
are invented by syllables, so that two stories are not taken for copies of each other.
"""

from typing import Final

from finllm.market.synthetic.chance import Draw, pick

GOOD: Final[dict[str, tuple[str, ...]]] = {
    "en": (
        "{name} raises its outlook after {n} million in new orders from {where}",
        "{who} buys a {m}% stake in {name}, filing in {where} shows",
        "Court in {where} sides with {name}; {who} drops the {n} million claim",
        "{name} beats estimates as sales at its {where} unit rise {m}%",
        "Regulator clears {name} to open in {where}, {who} confirms",
        "{name} restores service in {where} after {n} hours, losses below fears",
        "{who} agrees to supply {name} from {where} in a {n} million deal",
    ),
    "zh": (
        "{name}宣布在{where}获得{n}万元订单,{who}上调全年预期",
        "{who}增持{name}股份{m}%,{where}公告显示",
        "{name}净利润同比增长{m}%,{where}业务收入达{n}万元",
        "监管部门批准{name}在{where}的项目,{who}确认投资{n}万元",
    ),
    "es": (
        "{name} eleva sus previsiones tras pedidos por {n} millones en {where}",
        "{who} compra un {m}% de {name}, según un registro en {where}",
        "{name} supera lo esperado: las ventas en {where} crecen un {m}%",
        "El regulador autoriza a {name} a operar en {where}, confirma {who}",
    ),
    "ko": (
        "{name}, {where}에서 {n}억 원 규모 수주… {who} 대표 전망 상향",
        "{who}, {name} 지분 {m}% 취득… {where} 공시",
        "{name} {where} 사업 매출 {m}% 증가, 영업이익 {n}억 원",
        "당국, {name} {where} 사업 승인… {who} 확인",
    ),
}
BAD: Final[dict[str, tuple[str, ...]]] = {
    "en": (
        "{name} cuts its outlook after {n} million in orders from {where} are lost",
        "{who} sells a {m}% stake in {name}, filing in {where} shows",
        "Court in {where} rules against {name}; {who} is owed {n} million",
        "{name} misses estimates as sales at its {where} unit fall {m}%",
        "Regulator bars {name} from {where}, {who} confirms",
        "{name} halts service in {where} for {n} hours, cause unknown",
        "{who} ends supplies to {name} from {where}, {n} million at risk",
    ),
    "zh": (
        "{name}失去{where}的{n}万元订单,{who}下调全年预期",
        "{who}减持{name}股份{m}%,{where}公告显示",
        "{name}净利润同比下降{m}%,{where}业务亏损{n}万元",
        "监管部门叫停{name}在{where}的项目,{who}损失{n}万元",
    ),
    "es": (
        "{name} rebaja sus previsiones al perder pedidos por {n} millones en {where}",
        "{who} vende un {m}% de {name}, según un registro en {where}",
        "{name} decepciona: las ventas en {where} caen un {m}%",
        "El regulador prohíbe a {name} operar en {where}, confirma {who}",
    ),
    "ko": (
        "{name}, {where} {n}억 원 수주 무산… {who} 대표 전망 하향",
        "{who}, {name} 지분 {m}% 매각… {where} 공시",
        "{name} {where} 사업 매출 {m}% 감소, 손실 {n}억 원",
        "당국, {name} {where} 사업 중단 명령… {who} 확인",
    ),
}
CHAT: Final[dict[str, tuple[str, ...]]] = {
    "en": (
        "{who}: what I make of {name} and the {where} story, in {n} words",
        "Day {n}: {name} holders in {where} still waiting, says {who}",
        "{who} on {name}: {m}% either way would not surprise me from {where}",
        "My take from {where}: {name} is where {who} was in year {n}",
    ),
    "zh": ("{who}:在{where}看{name},第{n}天的想法", "{where}股民{who}谈{name},涨跌{m}%都不意外"),
    "es": (
        "{who}: lo que pienso de {name} desde {where}, día {n}",
        "{who} sobre {name}: un {m}% arriba o abajo no sorprende en {where}",
    ),
    "ko": (
        "{who}: {where}에서 본 {name}, {n}일째 생각",
        "{who} {name} {m}% 등락은 놀랍지 않다, {where}에서",
    ),
}
PASSING: Final[dict[str, tuple[str, ...]]] = {
    "en": (
        "{place} opens a {n} million site in {where}, {who} says; peers little changed",
        "{place} wins an order of {n} million, {who} sees {m}% more for the whole trade in {where}",
    ),
    "zh": ("{place}在{where}投资{n}万元,{who}称同行变化不大",),
    "es": ("{place} abre en {where} por {n} millones, dice {who}; sus pares sin cambios",),
    "ko": ("{place} {where}에 {n}억 원 투자, {who} 발표… 동종 업체 보합",),
}
"""About another firm: the instrument is one of several symbols that the source attached."""
HEDGE: Final[dict[str, str]] = {
    "en": "Unconfirmed: {text}, sources say",
    "zh": "传闻:{text},尚未证实",
    "es": "Rumor sin confirmar: {text}",
    "ko": "미확인 소문: {text}",
}
DENIAL: Final[dict[str, str]] = {
    "en": '{name} denies reports: "{text}" is false, {who} says in {where}',
    "zh": '{name}否认:"{text}"不属实,{who}在{where}表示',
    "es": '{name} desmiente: "{text}" es falso, dice {who} en {where}',
    "ko": '{name} 부인: "{text}" 사실 아니다, {who} {where}에서 밝혀',
}
FRAME: Final[dict[str, tuple[str, ...]]] = {
    "en": ("{text} - {source}", "Via {source}: {text}", "{text}. Shares in focus"),
    "zh": ("{source}消息:{text}", "{text}({source})"),
    "es": ("{text} - {source}", "Según {source}: {text}"),
    "ko": ("{source}: {text}", "{text} ({source})"),
}
ASIDE: Final[dict[str, str]] = {
    "en": "{0} of {1} joins {2}; {3} leaves {4} for {5}",
    "zh": "{0}由{1}加入{2},{3}自{4}转往{5}",
    "es": "{0} de {1} se une a {2}; {3} deja {4} por {5}",
    "ko": "{0} {1}에서 {2} 합류, {3} {4} 떠나 {5}로",
}
"""Says nothing that matters, with names of its own: as in print, no two stories share most of their words."""
_FIRST: Final = ("Al", "Be", "Cor", "Dra", "El", "Fa", "Gre", "Hol", "Ist", "Jor", "Kal", "Lun")
_MIDDLE: Final = ("ba", "den", "fi", "gor", "li", "mar", "no", "ri", "sta", "ta", "ve", "zu")
_LAST: Final = ("berg", "ca", "dal", "field", "gen", "ik", "low", "mont", "nov", "ra", "son", "ty")
_HAN: Final = tuple("安邦成达恩方国海嘉康林明宁平清仁山泰维文新阳永远云正志中卓子")
_HANGUL: Final = tuple("가나다라마바사아자차카타파하고노도로모보소오조초코토포호구누")


def _name(draw: Draw, lang: str, *, place: bool) -> str:
    if lang == "zh":
        return "".join(pick(draw, _HAN) for _ in range(3)) + ("市" if place else "")
    if lang == "ko":
        return "".join(pick(draw, _HANGUL) for _ in range(3)) + ("시" if place else "")
    return pick(draw, _FIRST) + pick(draw, _MIDDLE) + pick(draw, _MIDDLE) + pick(draw, _LAST)


def compose(draw: Draw, manner: dict[str, tuple[str, ...]], lang: str, name: str) -> str:
    """Return a text in a manner and a language, with people, places and figures made up."""
    told = pick(draw, manner[lang]).format(
        name=name,
        who=_name(draw, lang, place=False),
        where=_name(draw, lang, place=True),
        place=_name(draw, lang, place=True),
        n=1 + int(draw() * 998.0),
        m=f"{1 + int(draw() * 48.0)}.{int(draw() * 10.0)}",
    )
    aside = ASIDE[lang].format(*(_name(draw, lang, place=number % 2 == 1) for number in range(6)))
    return f"{told}. {aside}"


def hedged(lang: str, text: str) -> str:
    """Return a text worded as a rumour."""
    return HEDGE[lang].format(text=text)


def denied(draw: Draw, lang: str, name: str, text: str) -> str:
    """Return a denial of a text."""
    who, where = _name(draw, lang, place=False), _name(draw, lang, place=True)
    return DENIAL[lang].format(name=name, text=text, who=who, where=where)


def framed(draw: Draw, lang: str, text: str, source: str) -> str:
    """Return a near copy: another outlet's frame around a text."""
    return pick(draw, FRAME[lang]).format(text=text, source=source)
