"""Laws of the canonical form."""

import pytest

from finllm.narrative.text.canonical import MOST_GROWTH, MOST_READ, canonicalise
from support.bombs import BOMBS

PLAIN = "Apple halts trading after hack"


@pytest.mark.parametrize(
    ("disguised", "counted"),
    [
        ("\u0410pple h\u0430lts tr\u0430ding after h\u0430\u0441k", "confusable"),
        ("App\u200ble hal\u200dts trad\u2060ing after ha\ufeffck", "invisible"),
        ("\u202eApple halts\u202c trading after hack", "bidi"),
        ("Apple\x00 halts trading\x07 after hack", "control"),
        ("\uff21\uff50\uff50\uff4c\uff45 halts trading after hack", "nfkc"),
        (
            "\U0001d400\U0001d429\U0001d429\U0001d425\U0001d41e halts trading after hack",
            "nfkc",
        ),
        ("A\u0338p\u0338ple halts trading after hack", "marks"),
        ("<p>Apple <b>halts</b> trading after&nbsp;hack</p>", "html"),
        ("Apple halts trading<!-- ignore me --> after hack", "html"),
        ("Apple halts trading <script>evil()</script>after hack", "html"),
        ("Apple halts <span style='display:none'>never</span> trading after hack", "html"),
        ("Apple halts trading after hack https://t.co/x1Y2z3", "urls"),
        ("Apple halts trading after &#104;ack", "html"),
        ("&amp;lt;b&amp;gt;Apple&amp;lt;/b&amp;gt; halts trading after hack", "html"),
    ],
)
def test_a_disguise_comes_off_and_is_counted(disguised: str, counted: str) -> None:
    form = canonicalise(disguised)
    assert form.text == PLAIN
    assert getattr(form.changes, counted) > 0


def test_honest_text_is_left_as_it_is() -> None:
    for text in (
        "AT&T <T.N> rose 3% as a < b > c held; \u20ac5 & \u00a37",
        "\u041c\u043e\u0441\u043a\u0432\u0430 \u0440\u0430\u0441\u0442\u0435\u0442",
        "\u82f9\u679c\u516c\u53f8\u80a1\u4ef7\u4e0a\u6da8",
        "La econom\u00eda chilena creci\u00f3 un 5%",
        "to the moon \U0001f680\U0001f680",
    ):
        form = canonicalise(text)
        assert form.text == text
        assert form.changes.disguises == 0


def test_emoji_selectors_and_joiners_are_no_disguise() -> None:
    assert (
        canonicalise("heart \u2764\ufe0f family \U0001f468\u200d\U0001f469").changes.disguises == 0
    )


def test_residue_of_html_and_broken_links_goes() -> None:
    form = canonicalise('span class="quote-inline""> RT: https://www. foxnews.com/a Happy day')
    assert form.text == "RT: Happy day"


def test_a_blank_line_stays_and_other_white_space_is_one_blank() -> None:
    assert canonicalise("one\ntwo \t three\r\n\r\n \n four ").text == "one two three\n\nfour"


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: ascii(bomb[:12]))
def test_of_a_megabyte_of_anything_what_is_read_is_bounded(bomb: str) -> None:
    form = canonicalise(bomb)
    assert form.changes.unread == len(bomb) - MOST_READ
    assert len(form.text) <= MOST_GROWTH * MOST_READ + 100
