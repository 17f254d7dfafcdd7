"""Tapes: what is read from whole files, and what is saved from broken ones."""

import gzip

import pytest

from finllm.domain.errors import InputError
from finllm.market.tape import JUMP_NS, MAX_HELD, Places, read_chain, read_frames
from finllm.runtime.tally import Tally

T = 1_700_000_000_000_000_000
HOUR = 3_600_000_000_000


def read(path, source=0):
    tally = Tally()
    return list(read_frames(path, source=source, tally=tally)), tally


def write(path, lines, *, packed=False):
    content = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def lines(n, step=1_000):
    return [b'%d {"n":%d}' % (T + i * step, i) for i in range(n)]


@pytest.mark.parametrize("packed", [True, False])
def test_plain_and_gzip_read_alike_whatever_their_names(tmp_path, packed):
    frames, tally = read(write(tmp_path / "tape.txt", lines(3), packed=packed), source=4)
    assert [frame.payload for frame in frames] == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
    assert [frame.ts_recv for frame in frames] == [T, T + 1_000, T + 2_000]
    assert {frame.source for frame in frames} == {4}
    assert tally.read == 3
    assert not tally.dropped


def test_several_gzip_members_are_one_tape(tmp_path):
    path = tmp_path / "tape.gz"
    path.write_bytes(b"".join(gzip.compress(line + b"\n") for line in lines(5)))
    frames, tally = read(path)
    assert len(frames) == 5
    assert not tally.noted


def test_microseconds_become_nanoseconds_and_are_counted(tmp_path):
    frames, tally = read(write(tmp_path / "t", [b"%d {}" % (T // 1_000)]))
    assert frames[0].ts_recv == T
    assert tally.noted["microseconds"] == 1


def test_broken_lines_are_dropped_with_file_and_line(tmp_path):
    content = [
        *lines(1),
        b"nonsense",
        b"-5 {}",
        b"1.7e18 {}",
        b"17 {}",
        b"%d text" % T,
        b"",
        *lines(2),
    ]
    path = write(tmp_path / "t", content)
    frames, tally = read(path)
    assert len(frames) == 3
    assert tally.dropped == {"broken_time": 4, "malformed_line": 1}
    assert tally.first_place["broken_time"] == f"{path}:2"
    assert tally.read == 8


def test_a_truncated_gzip_keeps_what_was_read(tmp_path):
    path = write(tmp_path / "t.gz", lines(20_000), packed=True)
    path.write_bytes(path.read_bytes()[:-2_000])
    frames, tally = read(path)
    assert 1_000 < len(frames) < 20_000
    assert tally.noted["truncated_gzip"] == 1
    assert str(path) in tally.first_place["truncated_gzip"]
    assert tally.read == len(frames) + sum(tally.dropped.values())
    assert tally.dropped["torn_line"] <= 1


def test_a_corrupted_gzip_keeps_what_came_before(tmp_path):
    path = write(tmp_path / "t.gz", lines(60_000), packed=True)
    packed = bytearray(path.read_bytes())
    packed[-5_000:-4_000] = bytes(1_000)
    path.write_bytes(packed)
    frames, tally = read(path)
    assert tally.noted["corrupt_gzip"] + tally.noted["truncated_gzip"] == 1
    assert frames == read(path)[0]


def test_a_torn_last_line_is_dropped_and_a_whole_one_is_kept(tmp_path):
    path = tmp_path / "t"
    path.write_bytes(lines(1)[0] + b"\n" + lines(2)[1][:-1])
    frames, tally = read(path)
    assert len(frames) == 1
    assert tally.dropped == {"torn_line": 1}
    assert tally.first_place["torn_line"] == f"{path}:2"
    path.write_bytes(lines(1)[0])
    assert len(read(path)[0]) == 1


def test_times_never_run_backwards_within_a_tape(tmp_path):
    path = write(tmp_path / "t", [b"%d {}" % (T + dt) for dt in (0, 500, 200, 600)])
    frames, tally = read(path)
    assert [frame.ts_recv - T for frame in frames] == [0, 500, 500, 600]
    assert tally.noted["out_of_order"] == 1


def test_one_broken_number_does_not_carry_the_rest_into_the_future(tmp_path):
    far = T + 300 * JUMP_NS
    path = write(tmp_path / "t", [b"%d {}" % t for t in (T, far, T + 1, T + 2)])
    frames, tally = read(path)
    assert [frame.ts_recv - T for frame in frames] == [0, 1, 2]
    assert tally.dropped == {"time_jump": 1}


def read_times(path, times):
    """Return the receive times, less T, that a tape of these gives, and what was dropped."""
    frames, tally = read(write(path, [b"%d {}" % (T + t) for t in times]))
    assert tally.read == len(times) == len(frames) + sum(tally.dropped.values())
    return [frame.ts_recv - T for frame in frames], dict(tally.dropped)


def test_a_pause_that_several_lines_agree_on_loses_none_of_them(tmp_path):
    times = [0, 1, 2, *(HOUR + i for i in range(5)), 9 * HOUR, 9 * HOUR + 1, 9 * HOUR + 2]
    assert read_times(tmp_path / "t", times) == (times, {})


@pytest.mark.parametrize("wrong", [3 * JUMP_NS, 5 * HOUR, 300 * 24 * HOUR, -3_000 * 24 * HOUR])
@pytest.mark.parametrize("at", range(6))
def test_one_wrong_receive_time_moves_no_other_wherever_it_stands(tmp_path, wrong, at):
    times = [0, 1, 2, 3, 4, 5]
    broken = [*times[:at], wrong, *times[at:]]
    read, dropped = read_times(tmp_path / "t", broken)
    if wrong < 0 and at >= 3:  # it cannot be told from a line out of order
        assert read == sorted([*times, times[at - 1]])
    else:
        assert (read, dropped) == (times, {"time_jump": 1})


def test_the_few_lines_of_a_short_tape_and_those_after_its_last_pause_are_kept(tmp_path):
    assert read_times(tmp_path / "two", [0, 5]) == ([0, 5], {})
    assert read_times(tmp_path / "end", [0, 1, 2, HOUR]) == ([0, 1, 2, HOUR], {})
    far = 300 * 24 * HOUR
    assert read_times(tmp_path / "far", [0, 1, 2, far]) == ([0, 1, 2], {"time_jump": 1})


def test_a_tape_of_a_line_every_few_minutes_is_kept_whole(tmp_path):
    times = [i * 3 * JUMP_NS for i in range(2 * MAX_HELD + 5)]
    assert read_times(tmp_path / "t", times) == (times, {})


def test_several_files_of_one_tape_are_one_source_and_keep_their_own_line_numbers(tmp_path):
    one = write(tmp_path / "1.gz", [b'%d {"n":%d}' % (T + t, t) for t in (0, 10)], packed=True)
    two = write(tmp_path / "2", [b"", *(b'%d {"n":%d}' % (T + t, t) for t in (5, 30))])
    other = write(tmp_path / "3", [b'%d {"n":7}' % (T + 7)])
    places, tally = Places(), Tally()
    frames = list(read_chain([[one, two], other], tally, places))
    assert [(f.ts_recv - T, f.source) for f in frames] == [
        (0, 0),
        (7, 1),
        (10, 0),
        (10, 0),
        (30, 0),
    ]
    assert [places.of(f).replace(f"{tmp_path}/", "") for f in frames] == [
        "1.gz:1", "3:1", "1.gz:2", "2:2", "2:3",
    ]  # fmt: skip


def test_a_missing_file_names_itself_and_the_mend(tmp_path):
    with pytest.raises(InputError, match="nowhere") as caught:
        read_chain([tmp_path / "nowhere.gz"], Tally())
    assert "<ts_recv>" in caught.value.mend


def test_a_file_without_line_ends_is_not_kept_in_memory(tmp_path):
    path = tmp_path / "t"
    path.write_bytes(b"x" * (18 << 20) + b"\n" + lines(1)[0] + b"\n")
    frames, tally = read(path)
    assert len(frames) == 1
    assert tally.dropped == {"overlong_line": 1}


def test_a_chain_merges_by_receive_time_and_ties_go_to_the_earlier_path(tmp_path):
    one = write(tmp_path / "1", [b'%d {"a":%d}' % (T + t, t) for t in (0, 10, 20)])
    two = write(tmp_path / "2", [b'%d {"b":%d}' % (T + t, t) for t in (5, 10, 15)])
    tally = Tally()
    frames = list(read_chain([one, two], tally))
    assert [(frame.ts_recv - T, frame.source) for frame in frames] == [
        (0, 0), (5, 1), (10, 0), (10, 1), (15, 1), (20, 0),
    ]  # fmt: skip
    assert tally.read == 6
