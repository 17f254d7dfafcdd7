"""The simulated exchange's laws of starting: it listens, or says at once why it cannot."""

import socket
from pathlib import Path

import pytest

from finllm.app.exchange import Exchange, room_of
from finllm.domain.errors import InputError
from support.commands import Command

pytestmark = pytest.mark.timeout(60)

DEPTH = '{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":1,"u":2,"b":[["1.0","1"]],"a":[]}'


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    """A tape of one line of a combined stream."""
    path = tmp_path / "tape"
    path.write_text(f'1700000000000000000 {{"stream":"btcusdt@depth@100ms","data":{DEPTH}}}\n')
    return path


def test_a_port_in_use_is_told_by_number_at_once(finllm: Command, tape: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}: cannot listen.*another port"):
            Exchange([tape], port=port).__enter__()
        out, err = finllm("feed", "simulate", str(tape), "--port", str(port), code=2)
    assert f"port {port}" in " ".join(err.split())
    assert "[[feed.connections]]" not in out


def test_a_number_that_is_no_port_is_refused(finllm: Command, tape: Path) -> None:
    with pytest.raises(InputError, match="port 70000"):
        Exchange([tape], port=70_000).__enter__()
    _, err = finllm("feed", "simulate", str(tape), "--port", "70000", code=2)
    assert "--port" in err


@pytest.mark.parametrize("line", [DEPTH, '{"stream":"btcusdt@depth","data":{"e":"depthUpdate"'])
def test_a_tape_without_combined_streams_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "single"
    path.write_text(f"1700000000000000000 {line}\n")
    with pytest.raises(InputError, match=r"single: .*combined streams"):
        room_of(path)


def test_a_broken_line_hides_no_good_one(tape: Path) -> None:
    good = tape.read_text()
    tape.write_text(f"1700000000000000000 {DEPTH}\n{good}")
    assert room_of(tape) == ("spot", {"BTCUSDT"})
