"""The seal on the known worlds: the same law, words, minds and prices as before any gate was tuned."""

from hashlib import sha256
from typing import Final

import msgspec
import numpy as np

from finllm.domain.identity import canonical
from finllm.market.known import base, law, words
from finllm.market.known.minds import MINDS
from finllm.market.known.world import make_day

FROZEN: Final = "82545a2112ba911496061ced5cbc858fe6491ecd04aab33bc7382b83bd19f7c5"
"""What `frozen_hash` must return."""


def frozen_hash() -> str:
    """Return the hash of the law and of one day: its documents, its stories, its prices to 1e-6 bps."""
    day = make_day(law.LAW, 1, 0)
    spoken = (
        words.GOOD,
        words.BAD,
        words.CHAT,
        words.PASSING,
        words.HEDGE,
        words.DENIAL,
        words.FRAME,
    )
    stated = (
        [
            msgspec.to_builtins(each)
            for each in (law.LAW, law.KINDS, law.LISTINGS, law.OUTLETS, MINDS)
        ],
        spoken,
        (base.MOVE, base.LEAN, base.FAST_SHARE, base.TILT_C),
        [(t.document.text, t.document.source, t.document.ts_recv) for t in day.plan.told],
        day.plan.stories,
        day.plan.alarms,
    )
    seen = sha256(canonical(stated))
    seen.update(np.round(day.returns * 1e6).astype(np.int64).tobytes())
    return seen.hexdigest()
