"""Captures and bare lines as recordings, and whose messages they hold."""

import gzip
import json

import pytest

from finllm.domain.errors import InputError
from finllm.market.capture import line_at, look, read_capture, read_recordings
from finllm.market.check import check_feed
from finllm.market.markets import venue_of
from finllm.runtime.tally import Tally

T = 1_700_000_000


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def read(path):
    tally = Tally()
    frames = list(read_capture(path, source=3, tally=tally))
    return frames, tally


def okx(number, previous, action="update", bids=()):
    data = {
        "bids": list(bids),
        "asks": [],
        "ts": str(T * 1000),
        "seqId": number,
        "prevSeqId": previous,
    }
    arg = {"channel": "books", "instId": "BTC-USDT"}
    if action == "snapshot":
        data |= {"bids": [[str(100 - i), "5"] for i in range(8)], "asks": [["101", "5"]]}
    return json.dumps({"arg": arg, "action": action, "data": [data]})


def test_a_captures_frames_keep_every_digit_of_their_times(tmp_path):
    path = write(
        tmp_path / "x.ws",
        f"wss://ws.okx.com:8443/ws/v5/public <-> {T}.5",
        f'wss://ws.okx.com:8443/ws/v5/public <- {T}.6: {{"op":"subscribe"}}',
        f'{T}.123456789: {{"a": 1}}',
        f"{T + 1}: [1]",
        "",
        "no time here",
        f'{T}.0: {{"late": 1}}',
    )
    frames, tally = read(path)
    assert [(f.ts_recv, f.payload, f.source) for f in frames] == [
        (T * 10**9 + 123456789, b'{"a": 1}', 3),
        ((T + 1) * 10**9, b"[1]", 3),
        ((T + 1) * 10**9, b'{"late": 1}', 3),
    ]
    assert tally.read == 4
    assert tally.dropped == {"broken_time": 1}
    assert tally.noted == {"sent_by_client": 2, "out_of_order": 1}
    assert look(path).host == "ws.okx.com"
    assert line_at(path, (T + 1) * 10**9) == 4


def test_an_answer_keeps_the_address_that_it_was_asked_from(tmp_path):
    url = "https://api.binance.us/api/v3/depth?symbol=AB&limit=1000"
    path = tmp_path / "x.http.gz"
    path.write_bytes(gzip.compress(f'{url} -> {T}.25: {{"lastUpdateId": 5}}\n'.encode()))
    [frame], _ = read(path)
    assert frame.payload == b'{"url":' + json.dumps(url).encode() + b',"data":{"lastUpdateId": 5}}'
    assert venue_of(look(path)) == "binance-us"


def test_bare_lines_have_the_venues_own_sending_time(tmp_path):
    path = write(tmp_path / "x", '{"topic":"orderbook.50.AB","ts":1733011200691}', '{"topic":"x"}')
    [frame], tally = read(path)
    assert frame.ts_recv == 1733011200691 * 10**6
    assert tally.dropped == {"broken_time": 1}
    assert venue_of(look(path)) == "bybit"


def test_a_line_cut_off_at_the_end_is_told(tmp_path):
    path = tmp_path / "x"
    path.write_text(f'{T}: {{"a": 1}}\n{T}: {{"a": ')
    frames, tally = read(path)
    assert len(frames) == 1
    assert tally.dropped == {"torn_line": 1}


def test_captures_and_tapes_merge_by_receive_time(tmp_path):
    one = write(tmp_path / "one", f'{T + 1}.0: {{"a": 1}}', f'{T + 3}.0: {{"a": 3}}')
    two = write(tmp_path / "two", f'{T + 2}000000000 {{"a": 2}}')
    frames = list(read_recordings([one, two], Tally()))
    assert [f.source for f in frames] == [0, 1, 0]


def test_a_stated_venue_wins_and_an_unknown_one_is_an_error(tmp_path):
    path = write(tmp_path / "x", f"{T}: " + okx(1, 0))
    assert venue_of(look(path)) == "okx"
    assert venue_of(look(path), "kraken") == "kraken"
    with pytest.raises(InputError, match="Known: binance, "):
        venue_of(look(path), "krakn")
    other = write(tmp_path / "y", f'{T}: {{"hello": 1}}')
    with pytest.raises(InputError, match="--venue NAME"):
        venue_of(look(other))


def test_a_feed_check_passes_a_sound_feed_and_names_the_line_of_a_gap(tmp_path):
    lines = [okx(1, -1, "snapshot"), okx(2, 1), okx(3, 2)]
    path = write(tmp_path / "x", *(f"{T + i}.5: {line}" for i, line in enumerate(lines)))
    report = check_feed([path])
    assert report.ok
    [stream] = report.streams
    assert (stream.instrument, stream.rows, stream.is_unverified) == (
        "okx:BTC-USDT",
        {"depth": 3},
        False,
    )
    lost = write(tmp_path / "y", *(f"{T + i}.5: {line}" for i, line in enumerate(lines[::2])))
    report = check_feed([lost])
    assert not report.ok
    whats = {complaint.what: complaint.place for complaint in report.complaints}
    assert whats == {
        "gap: 3 after 1": f"okx:BTC-USDT, {lost}:2",
        "no_snapshot": f"{lost}:2",
    }


def test_a_feed_check_names_the_line_that_cannot_be_read(tmp_path):
    lines = [okx(1, -1, "snapshot"), '{"arg": ', okx(2, 1)]
    path = write(tmp_path / "x", *(f"{T + i}.5: {line}" for i, line in enumerate(lines)))
    [complaint] = check_feed([path]).complaints
    assert (complaint.what, complaint.count, complaint.place) == ("bad_json", 1, f"{path}:2")
    assert "record it again" in complaint.mend


def test_a_feed_check_fails_a_feed_that_makes_no_row(tmp_path):
    path = write(
        tmp_path / "x", f'{T}: {{"event":"subscribe","arg":{{"channel":"books","instId":"A"}}}}'
    )
    [complaint] = check_feed([path]).complaints
    assert complaint.what == "no rows"
    assert "--venue" in complaint.mend


def test_a_feed_check_fails_a_crossed_book(tmp_path):
    lines = [okx(1, -1, "snapshot"), okx(2, 1, bids=[["150", "1"]])]
    path = write(tmp_path / "x", *(f"{T + i}.5: {line}" for i, line in enumerate(lines)))
    [complaint] = check_feed([path]).complaints
    assert (complaint.what, complaint.count) == ("crossed", 1)
