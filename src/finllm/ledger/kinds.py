"""Which records the ledger keeps, and how each is named and dated."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import msgspec

from finllm.domain.errors import LedgerError, TamperedError
from finllm.domain.evidence import (
    Document,
    Evidence,
    EvidenceNotice,
    EvidencePack,
    Quarantine,
    Refusal,
)
from finllm.domain.forecast import Forecast, Outcome
from finllm.domain.market import Gap
from finllm.domain.protocol import Closing, Escalate, Hold, Outlook, Revision, Verdict
from finllm.domain.tenure import Tenure
from finllm.domain.trace import Trace


class Kind:
    """One type of record.

    Args:
        record_type: The type; its name is what the ledger calls it.
        id_of: What an entry of it is found by.
        ts_of: Its own time, ns UTC; 0 if it has none.
    """

    __slots__ = ("_decode", "id_of", "name", "record_type", "ts_of")

    def __init__(
        self,
        record_type: type[Any],
        id_of: Callable[[Any], str],
        ts_of: Callable[[Any], int],
    ) -> None:
        self.record_type = record_type
        self.name = record_type.__name__
        self.id_of = id_of
        self.ts_of = ts_of
        self._decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(record_type).decode

    def decode(self, body: bytes) -> Any:
        """Return the record in a body.

        Raises:
            TamperedError: If the body does not fit the type.
        """
        try:
            return self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as why:
            raise TamperedError(f"body is no {self.name}: {why}") from why


_KINDS: Final = (
    Kind(Forecast, attrgetter("forecast_id"), attrgetter("ts_recv")),
    Kind(Revision, attrgetter("forecast_id"), attrgetter("ts")),
    Kind(Closing, attrgetter("forecast_id"), attrgetter("ts")),
    Kind(Outcome, attrgetter("forecast_id"), attrgetter("ts_resolved")),
    Kind(Verdict, attrgetter("verdict_id"), lambda _: 0),
    Kind(Outlook, lambda outlook: f"{outlook.instrument}/{outlook.version}", attrgetter("ts")),
    Kind(Tenure, lambda tenure: f"{tenure.instrument}/{tenure.epoch}", attrgetter("ts")),
    Kind(Escalate, attrgetter("question_id"), attrgetter("ts")),
    Kind(Hold, attrgetter("notice_id"), attrgetter("ts")),
    Kind(Document, attrgetter("document_id"), attrgetter("ts_recv")),
    Kind(Evidence, attrgetter("evidence_id"), attrgetter("ts_recv")),
    Kind(EvidenceNotice, attrgetter("notice_id"), attrgetter("ts_recv")),
    Kind(EvidencePack, attrgetter("pack_id"), attrgetter("as_of")),
    Kind(Quarantine, attrgetter("quarantine_id"), attrgetter("ts")),
    Kind(Refusal, attrgetter("place"), attrgetter("ts_recv")),
    Kind(Trace, attrgetter("trace_id"), attrgetter("ts")),
    Kind(
        Gap,
        lambda gap: f"{gap.venue}/{gap.instrument}/{gap.from_sequence}-{gap.to_sequence}",
        attrgetter("ts_recv"),
    ),
)
BY_NAME: Final = {kind.name: kind for kind in _KINDS}
BY_TYPE: Final = {kind.record_type: kind for kind in _KINDS}


def kind_of(record_type: type[Any]) -> Kind:
    """Return the kind of a type.

    Raises:
        LedgerError: If the ledger does not keep records of this type.
    """
    kind = BY_TYPE.get(record_type)
    if kind is None:
        raise LedgerError(
            f"the ledger keeps no {record_type.__name__}; it keeps {', '.join(sorted(BY_NAME))}"
        )
    return kind


def decode(name: str, body: bytes) -> Any:
    """Return the record in an entry.

    Raises:
        TamperedError: If the kind is unknown or the body does not fit it.
    """
    kind = BY_NAME.get(name)
    if kind is None:
        raise TamperedError(f"unknown kind {name!r}")
    return kind.decode(body)
