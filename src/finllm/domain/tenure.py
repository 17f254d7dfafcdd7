"""Who may speak for an instrument: leases, tenures, and the fence between them. Pure.

A lease is granted by compare-and-set in one place; every grant to a new holder is a new epoch. The
holder begins with a `Tenure`, and from that record's place in the common order on nobody of a lower
epoch is heard: an owner that wakes from a long pause cannot overwrite its successor, whatever its
clock says. Knows nothing of networks or of how the order is kept.
"""

from collections import OrderedDict

import msgspec

from finllm.domain.forecast import Forecast


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right to speak for one instrument, as the place that grants it keeps it."""

    instrument: str
    holder: str = ""
    """One life of one owner: an owner that starts again is another holder."""
    epoch: int = 0
    """Grows by one with each grant; 0 before the first."""
    until: int = 0
    """Granted until this instant of the granting place's clock, ns UTC."""


def claimed(lease: Lease, holder: str, expected: int, now: int, ttl_ns: int) -> Lease:
    """Return the lease after a claim: a new epoch, or the same lease if it is not free.

    Args:
        lease: As it is kept.
        holder: Who asks.
        expected: The epoch that the claim builds on; any other is refused, so that a claim that
            comes twice is granted once.
        now: The granting place's time, ns UTC.
        ttl_ns: How long a grant lasts.
    """
    if lease.epoch != expected or now < lease.until:
        return lease
    return msgspec.structs.replace(lease, holder=holder, epoch=lease.epoch + 1, until=now + ttl_ns)


def renewed(lease: Lease, holder: str, epoch: int, now: int, ttl_ns: int) -> Lease:
    """Return the lease after its holder asked for more time, or the same lease if it is another's."""
    if (lease.holder, lease.epoch) != (holder, epoch):
        return lease
    return msgspec.structs.replace(lease, until=max(lease.until, now + ttl_ns))


class Tenure(msgspec.Struct, frozen=True, kw_only=True):
    """An owner's first record under a lease: from here on lower epochs are not heard."""

    instrument: str
    epoch: int
    owner: str
    """Whose ledger speaks."""
    ts: int


class Fence:
    """What a receiver of the common order knows of who speaks for each instrument."""

    def __init__(self) -> None:
        self._tenures: dict[str, Tenure] = {}

    def begin(self, tenure: Tenure) -> bool:
        """Take a tenure; tell whether it holds from here on, which only a higher epoch does."""
        standing = self._tenures.get(tenure.instrument)
        if standing is not None and tenure.epoch <= standing.epoch:
            return False
        self._tenures[tenure.instrument] = tenure
        return True

    def tenure(self, instrument: str) -> Tenure | None:
        """Return the tenure in force."""
        return self._tenures.get(instrument)

    def admits(self, owner: str, instrument: str, epoch: int | None = None) -> bool:
        """Return whether an owner speaks for an instrument, and a record's epoch is the one in force."""
        tenure = self._tenures.get(instrument)
        if tenure is None or tenure.owner != owner:
            return False
        return epoch is None or epoch == tenure.epoch


class Newest:
    """What a consumer of the live stream shows: the newest version of each forecast, never an older one.

    The stream may lose, repeat and reorder; (epoch, version) says what is newer.

    Args:
        kept: Forecasts remembered at most, those shown first let go first.
    """

    def __init__(self, kept: int = 65_536) -> None:
        self._kept = kept
        self._epochs: dict[str, int] = {}
        self._shown: OrderedDict[str, Forecast] = OrderedDict()

    def get(self, forecast_id: str) -> Forecast | None:
        """Return the version shown."""
        return self._shown.get(forecast_id)

    def take(self, forecast: Forecast) -> bool:
        """Take one live version; tell whether it is shown from now on."""
        if forecast.epoch < self._epochs.get(forecast.instrument, 0):
            return False
        self._epochs[forecast.instrument] = forecast.epoch
        return self.settle(forecast)

    def settle(self, forecast: Forecast) -> bool:
        """Take a version that counts in the common order, however late it is heard of; tell as `take`."""
        shown = self._shown.get(forecast.forecast_id)
        if shown is not None and not is_newer(forecast, shown):
            return False
        self._shown[forecast.forecast_id] = forecast
        if len(self._shown) > self._kept:
            self._shown.popitem(last=False)
        return True


def is_newer(forecast: Forecast, shown: Forecast) -> bool:
    """Return whether a version replaces the one that is shown."""
    return (forecast.epoch, forecast.version) > (shown.epoch, shown.version)
