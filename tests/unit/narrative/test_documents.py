"""Laws of the document reader."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from finllm.domain.errors import InputError
from finllm.domain.evidence import Document, Refusal
from finllm.domain.units import NS_PER_DAY, NS_PER_S, parse_instant
from finllm.narrative.sources.documents import read_documents
from finllm.runtime.tally import Tally

T0 = parse_instant("2024-08-08T12:00:00Z")
SHARED = Path(__file__).parents[3] / ".." / "shared" / "data" / "text_price"


def row(**fields: Any) -> dict[str, Any]:
    return {"source": "wire", "ts_published_ns": T0, "text": "Apple beats estimates", **fields}


def write(path: Path, *rows: object) -> Path:
    lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in rows]
    content = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def read(path: Path, **options: Any) -> tuple[list[Document | Refusal], Tally]:
    tally = Tally()
    return list(read_documents(path, tally=tally, **options)), tally


def only(path: Path) -> Document:
    found, _ = read(path)
    assert len(found) == 1
    assert isinstance(found[0], Document)
    return found[0]


def reason_of(path: Path) -> str:
    found, tally = read(path)
    assert [type(f) for f in found] == [Refusal]
    assert isinstance(found[0], Refusal)
    assert tally.read == 1
    assert dict(tally.dropped) == {found[0].reason: 1}
    assert tally.first_place[found[0].reason].startswith(f"{path.name}:")
    return found[0].reason


def test_a_row_without_receive_time_is_received_a_delay_after_publication(tmp_path: Path) -> None:
    found, tally = read(write(tmp_path / "a.jsonl", row()), delay_ns=5)
    assert found[0].ts_recv == T0 + 5
    assert (tally.read, tally.used, sum(tally.dropped.values())) == (1, 0, 0)


def test_all_shapes_are_read(tmp_path: Path) -> None:
    tweet = {
        "ts_ms": T0 // 10**6,
        "symbol": "AAPL",
        "text": "RT @user: up",
        "author": 12,
        "followers": 7,
        "retweet": 1,
        "lang": "en",
        "split": "train",
    }
    document = only(write(tmp_path / "t.jsonl.gz", tweet))
    assert (document.source, document.author, document.followers) == ("tweets", "12", 7)
    assert (document.symbols, document.is_repost, document.ts_published) == (("AAPL",), True, T0)
    statement = only(write(tmp_path / "f.jsonl", {"date": "2014-01-29", "text": "The Committee"}))
    assert statement.ts_published == parse_instant("2014-01-30T00:00:00Z")
    assert statement.source == "statements"


def test_a_csv_of_posts_is_read_with_line_feeds_in_its_texts(tmp_path: Path) -> None:
    path = tmp_path / "posts.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ts_ms", "text", "bar_open"])
        writer.writerow([T0 // 10**6, 'two\nlines, "quoted"', 1.5])
        writer.writerow([T0 // 10**6 + 1, "short row"])
    found, tally = read(path)
    assert [type(f) for f in found] == [Document, Refusal]
    assert isinstance(found[0], Document)
    assert found[0].text == 'two\nlines, "quoted"'
    assert dict(tally.dropped) == {"broken_csv": 1}


def test_a_date_is_the_end_of_its_day_where_it_was_published(tmp_path: Path) -> None:
    here = only(write(tmp_path / "a.jsonl", row(ts_published_ns=None, date="2024-03-10")))
    there = only(
        write(
            tmp_path / "b.jsonl",
            row(ts_published_ns=None, date="2024-03-10", zone="America/New_York"),
        )
    )
    assert here.ts_published == parse_instant("2024-03-11T00:00:00Z")
    assert there.ts_published == parse_instant("2024-03-11T04:00:00Z")  # the clocks went forward


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(ts_published_ns=None), "undated"),
        (row(ts_published_ns=None, ts_published="yesterday"), "undated"),
        (row(ts_published_ns=T0 // 1000), "implausible_time"),
        (row(ts_published_ns=T0 * 1000), "bad_field"),
        (row(ts_published_ns=10**40), "bad_field"),
        (row(ts_published_ns=True), "implausible_time"),
        (row(text=" \n"), "empty_text"),
        (row(text=None), "empty_text"),
        (row(text="x" * 1_000_001), "too_long"),
        (row(text="\u00e9" * 600_000), "too_long"),
        (row(text="x" * 10_000_000), "too_long"),
        (row(ts_recv_ns=T0 - 61 * NS_PER_S), "future"),
        (row(zone="Mars/Olympus", ts_published_ns=None, date="2024-01-01"), "bad_field"),
        (row(symbols={"a": 1}), "bad_field"),
        (row(followers="many"), "bad_field"),
        ([1, 2], "broken_json"),
        (b'{"text": "cut of', "broken_json"),
        (b'{"text": "\xff\xfe"}', "not_utf8"),
        (b'{"a":' * 100_000, "broken_json"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_used_is_refused_with_its_reason(
    tmp_path: Path, bad: object, reason: str
) -> None:
    assert reason_of(write(tmp_path / "bad.jsonl", bad)) == reason


def test_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    found, _ = read(write(tmp_path / "s.jsonl", b'{"ts_ms": 1388531408000, "text": "a \\ud800 b"}'))
    assert isinstance(found[0], Refusal)


def test_a_clock_within_tolerance_is_not_the_future(tmp_path: Path) -> None:
    assert only(write(tmp_path / "a.jsonl", row(ts_recv_ns=T0 - 59 * NS_PER_S)))


def test_rows_without_receive_times_come_out_sorted_and_stable(tmp_path: Path) -> None:
    rows = [row(ts_published_ns=T0 + t, text=f"n{i}") for i, t in enumerate((5, 1, 5, 3, 1))]
    found, _ = read(write(tmp_path / "a.jsonl", *rows))
    assert [f.text for f in found if isinstance(f, Document)] == ["n1", "n4", "n3", "n0", "n2"]


def test_a_refusal_stays_behind_the_row_that_it_follows(tmp_path: Path) -> None:
    rows = [row(ts_published_ns=T0 + 9), {"text": "undated"}, row(ts_published_ns=T0 + 1)]
    found, _ = read(write(tmp_path / "a.jsonl", *rows))
    assert [type(f) for f in found] == [Document, Document, Refusal]
    assert [f.ts_recv for f in found] == sorted(f.ts_recv for f in found)


def test_stated_receive_times_keep_file_order_and_never_decrease(tmp_path: Path) -> None:
    rows = [row(ts_recv_ns=T0 + t, text=f"n{t}") for t in (10, 30, 20, 40)]
    found, tally = read(write(tmp_path / "a.jsonl", *rows))
    assert [f.ts_recv - T0 for f in found] == [10, 30, 30, 40]
    assert [f.text for f in found if isinstance(f, Document)] == ["n10", "n30", "n20", "n40"]
    assert tally.noted["clamped"] == 1


def test_the_same_row_has_the_same_id_in_any_file(tmp_path: Path) -> None:
    a = only(write(tmp_path / "a.jsonl", row()))
    b = only(write(tmp_path / "b.jsonl.gz", row()))
    assert a.document_id == b.document_id


def test_a_file_too_large_to_sort_is_an_input_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *[row(text="x" * 500)] * 10)
    with pytest.raises(InputError, match=r"a\.jsonl.*ts_recv_ns"):
        read(path, sort_limit=2_000)


def test_a_missing_file_and_a_csv_without_text_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl"):
        read(tmp_path / "none.jsonl")
    (tmp_path / "a.csv").write_text("ts_ms,body\n1,2\n")
    with pytest.raises(InputError, match="no column `text`"):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_gzip_gives_what_was_read_and_says_so(tmp_path: Path, keep: float) -> None:
    rows = [row(ts_published_ns=T0 + i, text=f"document number {i} {i * 7919}") for i in range(800)]
    whole, _ = read(write(tmp_path / "whole.jsonl.gz", *rows))
    content = (tmp_path / "whole.jsonl.gz").read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(content[: int(keep * len(content))])
    found, tally = read(tmp_path / "cut.jsonl.gz")
    documents = [f for f in found if isinstance(f, Document)]
    assert documents == whole[: len(documents)]
    assert len(documents) > 0.5 * keep * len(rows)
    assert tally.noted["truncated"] == 1
    assert tally.read == len(documents) + sum(tally.dropped.values())


def test_a_damaged_gzip_and_several_members_are_no_crash(tmp_path: Path) -> None:
    line = json.dumps(row()).encode() + b"\n"
    members = gzip.compress(line) + gzip.compress(line)
    (tmp_path / "two.jsonl.gz").write_bytes(members)
    found, tally = read(tmp_path / "two.jsonl.gz")
    assert len(found) == 2
    assert not tally.noted
    (tmp_path / "bad.jsonl.gz").write_bytes(gzip.compress(line)[:-8] + b"\x00" * 8)
    _, tally = read(tmp_path / "bad.jsonl.gz")
    assert tally.noted["truncated"] == 1


def test_a_gzip_bomb_of_one_line_is_bounded(tmp_path: Path) -> None:
    bomb = gzip.compress(b'{"text": "' + b"a" * 15_000_000)
    (tmp_path / "bomb.jsonl.gz").write_bytes(bomb)
    found, tally = read(tmp_path / "bomb.jsonl.gz")
    assert len(found) == 1
    assert dict(tally.dropped) == {"too_long": 1}


def test_a_csv_field_beyond_bounds_and_broken_bytes_are_counted(tmp_path: Path) -> None:
    stamp = str(T0 // 10**6).encode()
    path = tmp_path / "a.csv"
    path.write_bytes(
        b"ts_ms,text\n"
        + (stamp + b"," + b"x" * 200_000 + b"\n")
        + (stamp + b",caf\xff\n")
        + (stamp + b"," + b"y" * 5_000_000 + b"\n")
        + (stamp + b",fine\n")
    )
    found, tally = read(path)
    assert dict(tally.dropped) == {"too_long": 2, "not_utf8": 1}
    assert [f.text for f in found if isinstance(f, Document)] == ["fine"]


@pytest.mark.skipif(not SHARED.exists(), reason="the development data is not beside the checkout")
def test_the_recorded_files_are_read_whole() -> None:
    for name, n in (("fomc_statements_1994_2014.jsonl", 145), ("posts_spy_2025_to_july.csv", 670)):
        found, tally = read(SHARED / name)
        assert len(found) == tally.read == n
        received = [f.ts_recv for f in found]
        assert received == sorted(received)
        assert received[0] > parse_instant("1994-02-04") + NS_PER_DAY - NS_PER_S
