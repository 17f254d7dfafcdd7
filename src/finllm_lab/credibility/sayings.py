"""The words of the wires of known truth. Every firm is invented.

`{firm}` is the listed firm, `{other}` another one, `{n}` a number. The ways of one event share its names and
figures and tell it in words of their own, as outlets do that each have it from themselves.
"""

from typing import Final

EVENTS: Final = (
    (
        "{firm} to acquire {other} for ${n} million in cash",
        "{other} agrees to a takeover by {firm}, a deal worth ${n} million",
        "Board of {other} backs its acquisition: {firm} pays ${n} million",
        "{firm} wins takeover of {other}, holders to get ${n} million",
    ),
    (
        "Hackers stole ${n} million from {firm} by way of {other}",
        "{firm} hacked: ${n} million gone after a flaw at {other}",
        "Breach at {firm}, ${n} million drained through accounts at {other}",
        "Exploit of a {other} server costs {firm} ${n} million",
    ),
    (
        "Regulator sues {firm} over ${n} million of products sold with {other}",
        "{firm} faces a lawsuit, {other} products cost clients ${n} million",
        "Court to hear a case against {firm} and {other} over ${n} million",
        "Judge lets a ${n} million claim against {firm} and {other} go ahead",
    ),
    (
        "{firm} cuts guidance, sees revenue of ${n} million after losing {other}",
        "Loss of {other} hits {firm} guidance: revenue of ${n} million now seen",
        "{firm} outlook lowered to ${n} million as {other} walks away",
        "After {other} left, {firm} puts its outlook at ${n} million",
    ),
    (
        "{firm} reports Q3 revenue of ${n} million, lifted by {other}",
        "Quarterly results at {firm}: revenue of ${n} million, {other} orders ahead",
        "Orders from {other} take {firm} Q3 results to ${n} million",
        "{firm} results show ${n} million for Q3 with {other} on board",
    ),
    (
        "{firm} halts trading after a failure at {other}, ${n} million stuck",
        "Trading at {firm} suspended, ${n} million held up by {other}",
        "{other} outage: {firm} halts trading with ${n} million in the queue",
        "System failure at {other} leaves {firm} clients ${n} million short, trading suspended",
    ),
    (
        "{firm} to cut {n} jobs once {other} plant is shut",
        "Closing of {other} plant: {n} jobs go at {firm}",
        "{n} layoffs at {firm} as it leaves the {other} site",
        "Workers at {other} told that {firm} will lay off {n}",
    ),
    (
        "{firm} and {other} sign a ${n} million supply contract",
        "{other} orders ${n} million of parts from {firm}",
        "Supply contract of ${n} million goes to {firm}, says {other}",
        "{firm} wins ${n} million order, {other} to be supplied for years",
    ),
)
"""By event, the ways in which it is told."""
OFFICIAL: Final = (
    "Statement by the company: {claim}",
    "Filing: {claim}",
    "Official announcement. {claim}",
    "Regulatory notice, {claim}",
)
SYLLABLES: Final = (
    "bal", "cor", "den", "fer", "gal", "hir", "jas", "kel", "lor", "mun",
    "nor", "pil", "ras", "sol", "tav", "ull", "ven", "wil", "yor", "zan",
)  # fmt: skip
TRADES: Final = ("Steel", "Rail", "Foods", "Energy", "Motors")
LISTED: Final = tuple(
    (f"{first}{second}".upper(), f"{first}{second}".capitalize() + f" {trade}")
    for first, trade in zip(SYLLABLES[:10:2], TRADES, strict=True)
    for second in ("ax", "eth", "ick", "ond", "une", "ym", "ova", "iel", "ack", "est", "art", "ill")
)
"""Listed firms: ticker and name."""
ENDINGS: Final = ("Works", "Holdings", "Group", "Partners", "Industries")
