"""A standing outlook for every instrument of a path, so that the tilt is measured too."""

from finllm.app.bench.measure import CLOCK
from finllm.app.fastpath import FastPath
from finllm.domain.protocol import Outlook, OutlookBand


def stand_outlook(path: FastPath) -> None:
    """Put an outlook in force for every instrument that has made a row."""
    for track in path.tracks:
        now = CLOCK.now()
        track.session.adopt(
            Outlook(
                instrument=track.session.instrument,
                version=1,
                ts=now,
                bands=(OutlookBand(up_to_ns=10**12, shift=0.2, vol_scale=1.2),),
                half_life_ns=10**12,
                expires=now + 10**15,
            )
        )
