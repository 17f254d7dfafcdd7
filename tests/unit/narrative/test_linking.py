"""Laws of linking and of claims."""

import pytest

from finllm.narrative.reading.claims import EVENT_TYPES, event_type, sentences, strongest_sentence
from finllm.narrative.reading.linking import Linker, asset_of


def linker() -> Linker:
    made = Linker()
    for key in (
        "binance-usdm:BTCUSDT",
        "us-equity:AAPL",
        "us-equity:C",
        "us-equity:SPY",
        "us-equity:CAT",
    ):
        made.watch(key)
    return made


def relevance(text: str, key: str, symbols: tuple[str, ...] = ()) -> float:
    return {link.instrument: link.relevance for link in linker().link(text, symbols)}.get(key, 0.0)


@pytest.mark.parametrize(
    ("key", "asset"),
    [
        ("binance-usdm:BTCUSDT", "BTC"),
        ("binance-coinm:ETHUSD_PERP", "ETH"),
        ("coinbase:BTC-USD", "BTC"),
        ("us-equity:AAPL", "AAPL"),
        ("fx:USD", "USD"),
    ],
)
def test_people_write_of_the_asset_not_of_the_contract(key: str, asset: str) -> None:
    assert asset_of(key) == asset


def test_sure_names_weigh_more_than_doubtful_ones() -> None:
    sure = relevance("$AAPL is up", "us-equity:AAPL")
    named = relevance("Apple shares rise", "us-equity:AAPL")
    doubtful = relevance("An apple a day", "us-equity:AAPL")
    market = relevance("The Federal Reserve met", "us-equity:AAPL")
    assert sure > named > doubtful > market > 0.0


def test_a_list_of_cashtags_is_about_none_of_them() -> None:
    assert relevance("$AAPL $X $Y $Z $Q $R", "us-equity:AAPL") < 0.5 * relevance(
        "$AAPL", "us-equity:AAPL"
    )


@pytest.mark.parametrize(
    "text",
    ["Pineapple juice", "the cat sat", "he fed the dog", "$CATX rose", "grade C", "US$AAPLE"],
)
def test_what_only_looks_like_a_name_links_nothing(text: str) -> None:
    assert linker().link(text) == ()


def test_one_letter_tickers_need_a_cashtag_or_the_source() -> None:
    assert relevance("long $C here", "us-equity:C") > 0.8
    assert relevance("Beat them", "us-equity:C", ("C",)) > 0.8


def test_spans_point_at_the_names() -> None:
    text = "Today BTC, bitcoin and $BTC's price fell; Apple's did not"
    found = {link.instrument: link for link in linker().link(text)}
    spans = found["binance-usdm:BTCUSDT"].spans
    assert [text[a:b] for a, b in spans] == ["BTC", "bitcoin", "$BTC", "BTC's"]
    assert "us-equity:AAPL" in found


def test_an_alias_in_any_script_links() -> None:
    made = Linker()
    made.watch("us-equity:AAPL", ("\u82f9\u679c", "Cupertino giant"))
    assert (
        made.link("\u4eca\u5929\u82f9\u679c\u516c\u53f8\u4e0a\u6da8")[0].instrument
        == "us-equity:AAPL"
    )
    assert made.link("the cupertino giant gained")[0].relevance == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Apple beats estimates with record EPS", "earnings"),
        ("Apple cuts its full-year outlook", "guidance"),
        ("Exxon to be acquired in $60bn takeover", "merger"),
        ("Judge fines Apple in antitrust lawsuit", "legal"),
        ("Fed raises interest rates by 25 basis points", "macro"),
        ("Exchange hacked, $100m stolen", "hack"),
        ("Exchange halts withdrawals after outage", "outage"),
        ("Coin will list on three venues", "listing"),
        ("Unconfirmed: exchange was hacked", "rumour"),
        ("Exchange denies it was hacked, calls the rumour false", "denial"),
        ("Approval of the fund denied, regulator cites manipulation", "legal"),
        ("What is wrong with this stock?", "other"),
        ("We reported a hack. That was wrong", "denial"),
        ("Good morning", "other"),
    ],
)
def test_an_event_is_told_by_its_words(text: str, kind: str) -> None:
    assert event_type(text) == kind
    assert kind in EVENT_TYPES


def test_the_sentence_that_names_the_instrument_is_quoted() -> None:
    text = "Stocks rose 3% on Friday. Bitcoin was hacked! Nothing else happened."
    at = text.index("Bitcoin")
    start, end = strongest_sentence(text, ((at, at + 7),))
    assert text[start:end] == "Bitcoin was hacked!"


def test_a_long_sentence_is_cut_at_a_word() -> None:
    text = "word " * 1_000
    start, end = strongest_sentence(text, ())
    assert end - start <= 400
    assert text[start:end].endswith("word")
    assert all(text[a:b].strip() == text[a:b] for a, b in sentences(text))
