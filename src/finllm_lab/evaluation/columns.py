"""What was said over sessions as the audit's columns, so that the audit's own code scores it.

There are no revisions: base and emitted are the same claim. Keeps beside each scored row what the audit
does not know of: the baseline column, the raw claim, and which instrument of which session it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from finllm.audit.rules import Floats, Ints
from finllm.audit.sample import Packed, Sample, sample_of
from finllm.domain.errors import InputError
from finllm.domain.market import Flag
from finllm.edge.regime import NAMES
from finllm.runtime.tally import Tally
from finllm_lab.walk import Said

_SHAPES: Final = {
    "ts": (), "ts_end": (), "label": (), "return_bps": (), "band_bps": (), "regime": (),
    "is_abstained": (), "column": (), "p": (4, 3), "q": (3, 5),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """Scored rows by receive time, and what else is known of each."""

    sample: Sample
    column: Floats
    """float64 [n], the baseline column."""
    tendency: Floats
    """float64 [n], p_up - p_down as served; where the model is not fully trusted, nearer to climatology's."""
    stratum: Ints
    """int64 [n], one code for each instrument of each session."""


def spoken_of(said: Sequence[Said], tally: Tally) -> Spoken:
    """Return what can be scored of a data set; what cannot is dropped and counted.

    Raises:
        InputError: If a record's arrays do not fit each other, or a session, instrument and horizon
            comes twice.
    """
    seen: set[tuple[str, str, str]] = set()
    for one in said:
        _check(one, seen)
    packed, stratum, column, tendency = _pack(said)
    tally.read += len(packed.ids)
    sample = sample_of(packed, {}, tally)
    kept = np.array(sample.ids, dtype=np.int64)
    return Spoken(
        sample=sample, column=column[kept], tendency=tendency[kept], stratum=stratum[kept]
    )


def _check(one: Said, seen: set[tuple[str, str, str]]) -> None:
    place = f"{one.session} {one.instrument} {one.horizon.name}"
    key = one.session, one.instrument, one.horizon.name
    if key in seen:
        raise InputError(
            "it comes twice", place=place, mend="Give each session, instrument and horizon once."
        )
    seen.add(key)
    for name, shape in _SHAPES.items():
        array = getattr(one, name)
        if array.shape != (len(one.ts), *shape):
            raise InputError(
                f"{name} has the shape {array.shape}, not {(len(one.ts), *shape)}",
                place=place,
                mend="Give one entry for each grid point.",
            )
    if len(one.regime) and not 0 <= int(one.regime.min()) <= int(one.regime.max()) < len(NAMES):
        raise InputError(
            f"a regime is outside 0 to {len(NAMES) - 1}",
            place=place,
            mend="Give the codes of finllm.edge.regime.NAMES.",
        )


def _pack(said: Sequence[Said]) -> tuple[Packed, Ints, Floats, Floats]:
    """Return the audit's columns, and stratum, baseline column and tendency of each row [n]."""
    instruments = sorted({one.instrument for one in said})
    horizons = sorted(
        {(one.horizon.name, one.horizon.nominal_s) for one in said}, key=lambda h: h[::-1]
    )
    strata = sorted({(one.session, one.instrument) for one in said})
    sizes = [len(one.ts) for one in said]
    columns = {name: np.concatenate([getattr(one, name) for one in said]) for name in _SHAPES}
    p, q, ts = columns["p"], columns["q"], columns["ts"]

    def each(codes: list[int]) -> Ints:
        return np.repeat(np.array(codes, np.int64), sizes)

    length = each([one.horizon.ns for one in said])
    reals = [p[:, 0], p[:, 0], q[:, 0], q[:, 0], p[:, 1], p[:, 2], p[:, 3], q[:, 1], q[:, 2]]
    ints = [
        ts,
        ts,
        ts + length * 4 // 5,
        length,
        columns["is_abstained"] * int(Flag.ABSTAINED),
        each([instruments.index(one.instrument) for one in said]),
        each([horizons.index((one.horizon.name, one.horizon.nominal_s)) for one in said]),
        columns["regime"],
    ]
    packed = Packed(
        ids=[str(i) for i in range(len(ts))],
        reals=np.column_stack([*reals, columns["band_bps"]]).astype(np.float64),
        ints=np.column_stack(ints).astype(np.int64),
        label=np.where(np.isin(columns["label"], (0, 1, 2)), columns["label"], -1).astype(np.int64),
        return_bps=columns["return_bps"].astype(np.float64),
        ts_resolved=columns["ts_end"],
        instruments=instruments,
        horizons=horizons,
        regimes=list(NAMES),
    )
    stratum = each([strata.index((one.session, one.instrument)) for one in said])
    return packed, stratum, columns["column"], p[:, 0, 2] - p[:, 0, 0]
