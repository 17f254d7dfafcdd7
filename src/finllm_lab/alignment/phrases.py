"""The words of the planted documents. Firms are invented.

Each kind of event and direction is told in eight ways: the first four may be trained on, the last four
are only for seeds that were never seen. `{who}` is a firm, `{n}` a percentage, `{m}` millions.
"""

from typing import Final

Half = tuple[str, str, str, str]

TOLD: Final[dict[tuple[str, bool], tuple[Half, Half]]] = {
    ("earnings", True): (
        (
            "{who} beats estimates as quarterly profit rises {n}%",
            "Net income at {who} jumps {n}% on the quarter, well ahead of forecasts",
            "{who} posts revenue growth of {n}% and better margins",
            "Strong quarter for {who}: earnings up {n}%, sales gain",
        ),
        (
            "Profit surges {n}% at {who}, topping what analysts had pencilled in",
            "{who} earned {n}% more than a year ago, results exceed expectations",
            "Higher sales lift {who}: quarterly earnings climb {n}%",
            "Results of {who} impress, with operating profit {n}% higher",
        ),
    ),
    ("earnings", False): (
        (
            "{who} misses estimates as quarterly profit falls {n}%",
            "Net loss at {who} widens {n}% on the quarter, well short of forecasts",
            "{who} posts a revenue drop of {n}% and weaker margins",
            "Weak quarter for {who}: earnings down {n}%, sales decline",
        ),
        (
            "Profit slumps {n}% at {who}, below what analysts had pencilled in",
            "{who} earned {n}% less than a year ago, results disappoint",
            "Lower sales hurt {who}: quarterly earnings shrink {n}%",
            "Results of {who} fall short, with operating profit {n}% lower",
        ),
    ),
    ("guidance", True): (
        (
            "{who} raises its full-year outlook by {n}%",
            "{who} lifts guidance {n}% on rising demand",
            "Management of {who} now sees growth {n}% above its earlier forecast",
            "{who} upgrades its forecast for the year, {n}% better than before",
        ),
        (
            "Outlook brightens: {who} increases its target for the year by {n}%",
            "{who} expects to do {n}% better than planned, guidance goes up",
            "Chief of {who} confident, forecast for next year raised {n}%",
            "Improved guidance at {who}, {n}% higher than the old range",
        ),
    ),
    ("guidance", False): (
        (
            "{who} cuts its full-year outlook by {n}%",
            "{who} lowers guidance {n}% on falling demand",
            "Management of {who} now sees growth {n}% below its earlier forecast",
            "{who} warns on the year, forecast {n}% worse than before",
        ),
        (
            "Outlook darkens: {who} reduces its target for the year by {n}%",
            "{who} expects to do {n}% worse than planned, guidance goes down",
            "Chief of {who} cautious, forecast for next year trimmed {n}%",
            "Profit warning from {who}, guidance {n}% lower than the old range",
        ),
    ),
    ("legal", True): (
        (
            "Court dismisses the lawsuit against {who}, ${m} million claim rejected",
            "{who} wins its appeal, judge throws out a ${m} million fine",
            "Regulator drops its probe of {who} without charges, ${m} million released",
            "{who} settles the case on favourable terms, frees ${m} million of reserves",
        ),
        (
            "Judge sides with {who}: ${m} million suit is thrown out",
            "Investigation of {who} closed, no charges; ${m} million set aside is freed",
            "{who} cleared by the court of appeal, spared a ${m} million penalty",
            "Victory in court for {who} as regulators withdraw a ${m} million case",
        ),
    ),
    ("legal", False): (
        (
            "Regulator sues {who}, seeks ${m} million",
            "{who} loses its appeal, judge orders a ${m} million fine",
            "Prosecutors charge {who} with fraud over ${m} million",
            "{who} hit by a class action lawsuit for ${m} million",
        ),
        (
            "Judge rules against {who}: ${m} million in damages",
            "Investigation of {who} widens, fraud of ${m} million alleged in court",
            "{who} fined ${m} million by regulators",
            "Defeat in court for {who}, ordered to pay a ${m} million penalty",
        ),
    ),
    ("merger", True): (
        (
            "{who} agrees to a takeover at a premium of {n}%",
            "Rival to acquire {who} for ${m} million, {n}% above the last price",
            "{who} receives a buyout offer {n}% over the market",
            "Merger of {who} with its largest rival approved, terms {n}% richer",
        ),
        (
            "Bidder sweetens its takeover of {who} by {n}%",
            "{who} to be acquired, shareholders get {n}% above the close",
            "Buyout of {who} signed: a premium of {n}%, ${m} million in all",
            "{who} accepts an acquisition proposal worth {n}% more than its value",
        ),
    ),
    ("merger", False): (
        (
            "Takeover of {who} collapses, premium of {n}% gone",
            "Rival walks away from acquiring {who}, ${m} million offer withdrawn",
            "{who} loses its buyer, the merger is off and {n}% of its value at risk",
            "Merger of {who} blocked, terms {n}% worse in any new bid",
        ),
        (
            "Bidder abandons its takeover of {who}, cites a gap of {n}%",
            "{who} will not be acquired, the {n}% premium evaporates",
            "Buyout of {who} fails: a ${m} million deal terminated",
            "{who} jilted as its acquisition is called off, {n}% premium lost",
        ),
    ),
    ("hack", True): (
        (
            "Hackers return ${m} million stolen from {who}",
            "{who} recovers ${m} million after the hack, customers made whole",
            "Breach at {who} contained, ${m} million safe and services gain trust",
            "{who} wins back ${m} million taken in the exploit",
        ),
        (
            "Stolen ${m} million recovered, {who} says hack victims are repaid in full",
            "{who} closes its breach, nothing lost of the ${m} million at stake",
            "Good news after the exploit: hackers give ${m} million back to {who}",
            "{who} confirms the hackers have returned ${m} million",
        ),
    ),
    ("hack", False): (
        (
            "Hackers steal ${m} million from {who}",
            "{who} loses ${m} million in a hack, customers exposed",
            "Breach at {who} spreads, ${m} million at risk as services lose trust",
            "{who} drained of ${m} million in an exploit",
        ),
        (
            "Stolen: ${m} million, {who} says after a hack of its systems",
            "{who} discloses a breach, losses put at ${m} million",
            "Bad news of an exploit: hackers take ${m} million from {who}",
            "{who} confirms a cyber attack has cost it ${m} million",
        ),
    ),
    ("outage", True): (
        (
            "{who} restores service after the outage, {n}% of users back",
            "Outage at {who} ends, {n}% of capacity returns",
            "{who} resumes trading, halted systems recover to {n}%",
            "Withdrawals reopen at {who}, {n}% of the queue served after the halt",
        ),
        (
            "{who} is back online, outage over for {n}% of customers",
            "Service disruption at {who} fixed, volumes recover {n}%",
            "Halted no more: {who} reopens with {n}% of its systems recovered",
            "{who} recovers from downtime, {n}% of accounts restored",
        ),
    ),
    ("outage", False): (
        (
            "{who} goes down, outage hits {n}% of users",
            "Outage at {who} spreads, {n}% of capacity lost",
            "{who} halts trading, systems fail for {n}%",
            "Withdrawals suspended at {who}, {n}% of the queue stuck in the halt",
        ),
        (
            "{who} is offline, outage locks out {n}% of customers",
            "Service disruption at {who} worsens, volumes lost {n}%",
            "Halted: {who} shuts {n}% of its systems after a failure",
            "{who} suffers downtime, {n}% of accounts suspended",
        ),
    ),
    ("listing", True): (
        (
            "{who} to be listed on the main exchange, demand {n}% over plan",
            "Fund on {who} approved for listing, inflows up {n}%",
            "{who} goes public again at a price {n}% above range",
            "{who} added to the leading index, funds must buy {n}%",
        ),
        (
            "Exchange will list {who}, orders exceed supply by {n}%",
            "{who} wins its listing, oversubscribed by {n}%",
            "Index inclusion for {who}: trackers to gain {n}%",
            "Listing of {who} approved, interest {n}% higher than hoped",
        ),
    ),
    ("listing", False): (
        (
            "{who} to be delisted from the main exchange, demand {n}% under plan",
            "Fund on {who} refused a listing, outflows up {n}%",
            "{who} shelves its IPO at a price {n}% below range",
            "{who} removed from the leading index, funds must sell {n}%",
        ),
        (
            "Exchange will delist {who}, orders short of supply by {n}%",
            "{who} loses its listing, undersubscribed by {n}%",
            "Index deletion for {who}: trackers to drop {n}%",
            "Listing of {who} denied, interest {n}% lower than feared",
        ),
    ),
    ("macro", True): (
        (
            "Central bank cuts interest rates by {n} basis points, risk assets and {who} rally",
            "Inflation cools by {n} basis points, relief for {who} and the market",
            "Trade deal lowers tariffs on {who} and its sector by {n}%",
            "The Fed signals easing of {n} basis points, {who} gains with the market",
        ),
        (
            "Surprise rate cut of {n} basis points lifts the market, {who} among the winners",
            "CPI softer by {n} basis points, a boost for {who} and stocks",
            "Tariffs on the sector of {who} reduced {n}% in a trade truce",
            "Payrolls calm fears: yields down {n} basis points, {who} up",
        ),
    ),
    ("macro", False): (
        (
            "Central bank raises interest rates by {n} basis points, risk assets and {who} slide",
            "Inflation heats up by {n} basis points, pressure on {who} and the market",
            "Trade war raises tariffs on {who} and its sector by {n}%",
            "The Fed signals tightening of {n} basis points, {who} falls with the market",
        ),
        (
            "Surprise rate hike of {n} basis points sinks the market, {who} among the losers",
            "CPI hotter by {n} basis points, a blow for {who} and stocks",
            "Tariffs on the sector of {who} increased {n}% in a trade dispute",
            "Payrolls stoke fears: yields up {n} basis points, {who} down",
        ),
    ),
}
"""By kind of event and whether it is good: the half to train on, and the unseen half."""

FRAMES: Final[tuple[tuple[str, ...], tuple[str, ...]]] = (
    ("{x}", "BREAKING: {x}", "{x} - more to follow", "JUST IN: {x}", "{x}, traders say", "{x}."),
    (
        "{x}",
        "Headline: {x}",
        "{x} (developing)",
        "Now: {x}",
        "On the wire: {x}",
        "{x}, desk reports",
    ),
)
SIZED: Final[dict[int, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    0: (
        ("; analysts call it minor", "; a modest change", "; small beside its size"),
        ("; little more than a footnote", "; a small step", "; minor, brokers say"),
    ),
    1: (("",), ("",)),
    2: (
        ("; a shock to the market", "; the largest in its history", "; huge, analysts say"),
        ("; the biggest on record", "; a historic shock", "; massive by any measure"),
    ),
}
"""By size: what is said of it."""

NOISE: Final[tuple[tuple[str, ...], tuple[str, ...]]] = (
    (
        "What is your view on {who} for the year? Poll closes tonight",
        "Interview: the chief of {who} on hacks, lawsuits and leadership",
        "{who} trades in a narrow range as investors await data",
        "Reminder: {who} publishes its results next month as scheduled",
        "{who} hires a new head of research",
        "Conference notes: the {who} panel drew {m} people",
        "Five charts on {who} since spring",
        "Podcast: record profits, record fraud, and the story of {who}",
    ),
    (
        "Opinion: why the next upgrade of {who} matters less than you think",
        "On this day {who} opened its doors",
        "Sponsored: trade {who} with zero fees this week",
        "A beginner's guide to {who} and its rivals",
        "{who} opens a new office, {m} desks",
        "Survey finds {n}% of drivers have heard of {who}",
        "The book on the {who} hack is out, fans line up",
        "Chart of the day: {who}, calm before what?",
    ),
)
