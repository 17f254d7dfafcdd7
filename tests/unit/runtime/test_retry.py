"""What a server says of when to come back is read in all its forms, and never believed too far."""

import pytest

from finllm.domain.units import NS_PER_HOUR, NS_PER_S, parse_instant
from finllm.runtime.retry import retry_after_ns

NOW = parse_instant("2024-03-14T12:00:00Z")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        (" 0 ", 0),
        ("Thu, 14 Mar 2024 12:00:30 GMT", 30),
        ("Thu, 14 Mar 2024 12:00:30", 30),
        ("Thu, 14 Mar 2024 13:00:30 +0100", 30),
        ("Thu, 14 Mar 2023 12:00:30 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: int) -> None:
    assert retry_after_ns(text, NOW) == seconds * NS_PER_S


@pytest.mark.parametrize("text", ["99999999999999", "Thu, 14 Mar 2990 12:00:30 GMT"])
def test_nobody_is_waited_for_longer_than_an_hour(text: str) -> None:
    assert retry_after_ns(text, NOW) == NS_PER_HOUR


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "-5",
        "1.5",
        "Fri, 31 Feb 2024 10:00:00 GMT",
        "Fri, 21 Nov 2024 10:00:00 +99999999999999999999",
        "Fri, 21 Nov 9999999999999999 10:00:00 GMT",
    ],
)
def test_what_is_neither_says_nothing(text: str) -> None:
    assert retry_after_ns(text, NOW) is None
