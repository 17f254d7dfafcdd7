"""SEC EDGAR: a company's submissions, and the full-text search, both as JSON.

The stamp `acceptanceDateTime` of submissions ends in Z, yet for about a quarter of the filers it is New
York's clock. EDGAR takes filings in from 6:00 to 22:00 New York time, so a filer's stamps tell which it
is; where they do not, the later reading is taken: a filing must not seem known before it was.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from finllm.narrative.sources.fields import at, json_of, text_field
from finllm.narrative.sources.rows import Unusable
from finllm.narrative.sources.sample import sample
from finllm.narrative.sources.source import Item

NEW_YORK: Final = "America/New_York"
_OPENS, _CLOSES = 6, 22
"""EDGAR's hours, New York time (17 CFR 232.12)."""
_ITEMS_8K: Final = {
    "1.01": "entry into a material agreement",
    "1.02": "termination of a material agreement",
    "1.03": "bankruptcy or receivership",
    "1.05": "material cybersecurity incident",
    "2.01": "completion of an acquisition or disposal",
    "2.02": "results of operations",
    "2.03": "new financial obligation",
    "2.04": "acceleration of a financial obligation",
    "2.05": "costs of exit or disposal",
    "2.06": "material impairment",
    "3.01": "notice of delisting",
    "3.02": "unregistered sale of equity",
    "4.01": "change of accountant",
    "4.02": "earlier statements can no longer be relied on",
    "5.01": "change in control",
    "5.02": "departure or election of directors or officers",
    "5.03": "amendment of articles or bylaws",
    "5.07": "votes of shareholders",
    "7.01": "Regulation FD disclosure",
    "8.01": "other events",
    "9.01": "financial statements and exhibits",
}
"""Form 8-K's items."""
_COLUMNS: Final = (
    "accessionNumber", "filingDate", "reportDate", "acceptanceDateTime", "form", "items",
    "primaryDocument", "primaryDocDescription",
)  # fmt: skip


class SecSubmissions:
    """`data.sec.gov/submissions/CIK##########.json`: what one company filed lately."""

    zone: Final = NEW_YORK

    def samples(self) -> tuple[bytes, ...]:
        """Return a company whose stamps are UTC, and one whose stamps are New York's."""
        return sample("sec_submissions.json"), sample("sec_submissions_ny.json")

    def parse(self, payload: bytes) -> Iterator[Item | Unusable]:
        """Yield the filings, the newest first, as EDGAR has them.

        Raises:
            Unusable: `broken_json`, `not_utf8`, or `bad_shape`.
        """
        page = json_of(payload)
        recent = at(page, "filings", "recent")
        if not isinstance(recent, dict) or not isinstance(recent.get("accessionNumber"), list):
            raise Unusable("bad_shape", "no filings.recent.accessionNumber")
        columns = {name: _column(recent, name) for name in _COLUMNS}
        clock = _clock_of(columns["acceptanceDateTime"])
        for number in range(len(columns["accessionNumber"])):
            row = {name: _cell(column, number) for name, column in columns.items()}
            yield _filing(page, row, clock)


def _column(recent: dict[str, Any], name: str) -> Sequence[object]:
    column = recent.get(name)
    return column if isinstance(column, list) else ()


def _cell(column: Sequence[object], number: int) -> str:
    value = column[number] if number < len(column) else ""
    return value if isinstance(value, str) else ""


def _clock_of(stamps: Sequence[object]) -> str:
    """Return which clock a filer's stamps are of: `utc`, `new_york`, or empty if they do not tell."""
    utc = new_york = 0
    for stamp in stamps:
        moment = _moment(stamp)
        if moment is None:
            continue
        in_new_york = moment.replace(tzinfo=UTC).astimezone(ZoneInfo(NEW_YORK))
        utc += not _OPENS <= moment.hour < _CLOSES
        new_york += not _OPENS <= in_new_york.hour < _CLOSES
    if (utc > 0) == (new_york > 0):
        return ""
    return "utc" if utc else "new_york"


def _moment(stamp: object) -> datetime | None:
    """Return a stamp's wall clock, without its zone."""
    try:
        return datetime.fromisoformat(str(stamp)).replace(tzinfo=None)
    except ValueError:
        return None


def _filing(page: object, row: dict[str, str], clock: str) -> Item:
    moment = _moment(row["acceptanceDateTime"])
    published = row["filingDate"]
    if moment is not None:
        published = moment.isoformat() + ("Z" if clock == "utc" else "")
    name = text_field(page, "name")
    tickers = at(page, "tickers")
    symbols = tuple(t for t in tickers if isinstance(t, str)) if isinstance(tickers, list) else ()
    what = "; ".join(_ITEMS_8K.get(item, item) for item in row["items"].split(",") if item)
    described = row["primaryDocDescription"] if row["primaryDocDescription"] != row["form"] else ""
    about = ": ".join(part for part in (what, described) if part)
    period = f", period to {row['reportDate']}" if row["reportDate"] else ""
    return Item(
        title=f"{name} ({', '.join(symbols)}) filed form {row['form']}{period}"
        if symbols
        else f"{name} filed form {row['form']}{period}",
        text=f"{about[:1].upper()}{about[1:]}. EDGAR {row['accessionNumber']}"
        if about
        else f"EDGAR {row['accessionNumber']}",
        published=published,
        key=row["accessionNumber"],
        lang="en",
        symbols=symbols,
        author=name,
        flags=("assumed_zone",) if moment is not None and not clock else (),
    )


class SecSearch:
    """`efts.sec.gov/LATEST/search-index`: filings whose text holds what was searched for."""

    zone: Final = NEW_YORK

    def samples(self) -> tuple[bytes, ...]:
        """Return a page of hits."""
        return (sample("sec_search.json"),)

    def parse(self, payload: bytes) -> Iterator[Item | Unusable]:
        """Yield the hits. They bear a date and no time.

        Raises:
            Unusable: `broken_json`, `not_utf8`, or `bad_shape`.
        """
        hits = at(json_of(payload), "hits", "hits")
        if not isinstance(hits, list):
            raise Unusable("bad_shape", "no hits.hits")
        for hit in hits:
            yield _hit(hit)


def _hit(hit: object) -> Item:
    names = at(hit, "_source", "display_names")
    shown = [n for n in names if isinstance(n, str)] if isinstance(names, list) else []
    form = text_field(hit, "_source.form", "_source.file_type", "_source.root_form")
    described = text_field(hit, "_source.file_description")
    period = text_field(hit, "_source.period_ending")
    items = at(hit, "_source", "items")
    codes = [code for code in items if isinstance(code, str)] if isinstance(items, list) else []
    filers = "; ".join(name.partition("(CIK")[0].strip() for name in shown)
    about = [_ITEMS_8K.get(code, code) for code in codes]
    about += [described] if described and described != form else []
    return Item(
        title=f"{' '.join(filers.split())} filed form {form}"
        + (f", period to {period}" if period else ""),
        text=". ".join([*about, f"EDGAR {text_field(hit, '_source.adsh', '_id')}"]),
        published=text_field(hit, "_source.file_date"),
        key=text_field(hit, "_id"),
        lang="en",
        symbols=tuple(symbol for name in shown for symbol in _tickers(name)),
        author=filers,
    )


def _tickers(shown: str) -> tuple[str, ...]:
    """Return the tickers in `Acme Corp.  (ACME, ACMEW)  (CIK 0000000001)`."""
    before = shown.partition("(CIK")[0]
    inside = before.rpartition("(")[2].partition(")")[0] if "(" in before else ""
    return tuple(part.strip() for part in inside.split(",") if part.strip())
