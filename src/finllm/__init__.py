"""Fin-LLM-Inference: forecasts at two speeds.

The walk, room by room: a frame is decoded and applied to its book (`market`), becomes a row
(`features`) and a calibrated forecast (`edge`); a document is admitted (`narrative`), put to the gate
(`escalation`), and what is worth a second look is gathered and judged (`narrative`, `reasoning`); the
`ledger` opens forecasts and revises them; `audit` scores the record; `control` says how hard to work;
`app` wires all of it. Records of `domain` are the only doorways, `runtime` the machinery beneath.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finllm.app.subscribe import subscribe

__all__ = ["subscribe"]


def __getattr__(name: str) -> Any:
    """Load what is asked for only then, so that importing a room loads no other."""
    if name == "subscribe":
        from finllm.app.subscribe import subscribe

        return subscribe
    raise AttributeError(f"module 'finllm' has no attribute {name!r}")
