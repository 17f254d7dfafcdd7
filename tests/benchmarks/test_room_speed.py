"""What a text without an end costs the narrative room: run with `pytest -m bench -s`."""

import sys
import time

import pytest

from finllm.domain.evidence import Document
from finllm.narrative.reading.encoder import HashingEncoder
from finllm.narrative.room import Narrative, NarrativeSettings

pytestmark = pytest.mark.bench
T0 = 1_723_118_400_000_000_000
MOST_S = 20.0


@pytest.mark.parametrize("piece", ["b.", "$1.5m profit ", "\u202e\u05d0"], ids=ascii)
def test_a_text_of_a_hundred_thousand_letters_is_read_in_seconds(piece: str) -> None:
    room = Narrative(settings=NarrativeSettings(), encoder=HashingEncoder())
    room.watch("binance-usdm:BTCUSDT")
    text = "Bitcoin " + piece * (100_000 // len(piece))
    endless = Document(document_id="d", source="social", ts_published=T0, ts_recv=T0, text=text)
    began = time.process_time()
    room.admit(endless, T0)
    took_s = time.process_time() - began
    sys.stdout.write(f"{len(text):,} letters of {piece!a}: {took_s:.2f} s of processor time\n")
    assert took_s <= MOST_S
