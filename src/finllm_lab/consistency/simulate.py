"""One seed: build the world, let it run under fire, let it come to rest, and say what was found."""

import math
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from finllm.domain.errors import FinllmError
from finllm.domain.evidence import EvidenceNotice
from finllm.domain.units import NS_PER_MIN, NS_PER_MS, NS_PER_S
from finllm.ledger import rows
from finllm.ledger.store import Ledger
from finllm_lab.consistency.chance import KINDS, Chance
from finllm_lab.consistency.checker import Checker, InvariantError
from finllm_lab.consistency.node import ROW_NS, Node, Row
from finllm_lab.consistency.services import Services
from finllm_lab.consistency.world import T0, Disk, MemoryDisk, Stored, Tell, World

INSTRUMENTS: Final = ("sim:A", "sim:B")
NODES: Final = ("one", "two", "three")
REST_NS: Final = 120 * NS_PER_S
"""Virtual time without faults after the run: longer than any forecast, crash or resend."""
NewDisk = Callable[[str, Stored], Disk]
_NOTICE_S: Final = 10.0
_LINKS: Final = (
    *(((node, "site"),) for node in NODES),
    *(((node, "cloud"),) for node in NODES),
    (("shop", "site"),),
    tuple(("cloud", other) for other in (*NODES, "site")),
)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one seed gave."""

    seed: int
    minutes: float
    fire: float
    trace_hash: str
    """Over every record in the common order and every version shown, with its time."""
    happened: dict[str, int]
    """Faults by kind, and what became of verdicts."""
    checked: int
    """Entries checked."""
    violation: str = ""
    """The invariant that does not hold and where; empty if all do."""
    timeline: tuple[str, ...] = ()
    """The last lines before it."""


def simulate(
    seed: int,
    minutes: float = 10.0,
    without: frozenset[str] = frozenset(),
    tell: Tell | None = None,
    *,
    fire: float = 1.0,
    new_disk: NewDisk = MemoryDisk,
) -> Result:
    """Run one seed.

    Args:
        seed: Decides everything.
        minutes: Virtual time under fire.
        without: Kinds of fault that are left out.
        tell: Told each line of the timeline.
        fire: Times the usual rates of faults.
        new_disk: Makes a node's disk.
    """
    run = _Run(Chance(seed, without, fire), minutes, tell, new_disk)
    violation = ""
    try:
        run.go()
    except InvariantError as found:
        violation = str(found)
    except FinllmError as refused:
        violation = f"the protocol works: {type(refused).__name__}: {refused}"
    run.close()
    return Result(
        seed=seed,
        minutes=minutes,
        fire=fire,
        trace_hash=run.world.trace_hash,
        happened=dict(run.chance.happened),
        checked=run.checker.n_checked,
        violation=violation,
        timeline=tuple(run.world.timeline()) if violation else (),
    )


def needed(seed: int, minutes: float, fire: float = 1.0) -> tuple[str, ...]:
    """Return the kinds of fault without which a failing seed would pass, by leaving out one by one.

    Kinds are left out for good where the seed fails without them.
    """
    without: frozenset[str] = frozenset()
    for kind in KINDS:
        if simulate(seed, minutes, without | {kind}, fire=fire).violation:
            without |= {kind}
    return tuple(kind for kind in KINDS if kind not in without)


class _Run:
    def __init__(
        self, chance: Chance, minutes: float, tell: Tell | None, new_disk: NewDisk
    ) -> None:
        self.chance = chance
        self.world = World(chance, tell)
        self.checker = Checker(lambda name: self._nodes[name].clock())
        self._services = Services(self.world, self.checker, INSTRUMENTS)
        self._nodes = self._services.nodes
        self._minutes = minutes
        self._end = T0 + int(minutes * NS_PER_MIN)
        for name in NODES:
            disk = new_disk(name, partial(self.checker.stored, name))
            node = Node(name, self.world, self._services, disk, INSTRUMENTS)
            self._nodes[name] = node

    def go(self) -> None:
        self._services.start()
        for node in self._nodes.values():
            node.boot()
        self._plan_market()
        self._plan_skew()
        self._plan("partition", self._partition)
        self._plan("crash", self._crash)
        self._plan("pause", self._pause)
        self.world.run(self._end)
        self.world.is_calm = True
        for node in self._nodes.values():
            node.disk.cut = ""
        self.world.run(self._end + REST_NS)
        self._look_back()

    def close(self) -> None:
        for node in self._nodes.values():
            node.disk.close()

    def _look_back(self) -> None:
        """Check what is left at rest, reading each disk back as after a crash."""
        self.checker.at_rest()
        for follower in (self._services.cloud, self._services.shop):
            self.checker.followed(follower.name, follower.view.count)
        for name, node in self._nodes.items():
            self.checker.followed(name, node.owner.view.count)
            self.checker.reread(name, list(rows.entries(node.disk.opened().connection)))
            if list(Ledger.on(node.disk.opened()).standing):
                raise InvariantError(
                    "every forecast ends", f"some are open in the ledger of {name}"
                )

    # --- what happens when -------------------------------------------------------------------

    def _plan_market(self) -> None:
        for instrument in INSTRUMENTS:
            for seq in range(1, int(self._minutes * NS_PER_MIN / ROW_NS)):
                ts = T0 + seq * ROW_NS
                row = Row(
                    instrument,
                    seq,
                    ts,
                    self.chance.between("market", 0.1, 0.4),
                    self.chance.between("market", 0.1, 0.4),
                )
                for node in self._nodes.values():
                    self.world.at(ts, node.take, node.row, row)
            ts = T0
            while True:
                ts -= int(_NOTICE_S * NS_PER_S * math.log(1.0 - self.chance.unit("news")))
                if ts >= self._end:
                    break
                notice = self._notice(instrument, ts)
                for node in self._nodes.values():
                    self.world.at(ts, node.take, node.notice, notice)

    def _notice(self, instrument: str, ts: int) -> EvidenceNotice:
        return EvidenceNotice(
            notice_id=f"{instrument} {ts}",
            instrument=instrument,
            ts_recv=ts,
            evidence_id=f"evidence {ts}",
            relevance=1.0,
            novelty=self.chance.unit("novelty"),
            credibility=0.9,
            stance=self.chance.between("stance", -1.0, 1.0),
            burst=2.0,
        )

    def _plan_skew(self) -> None:
        times = self.chance.times("skew", self._minutes)
        if not times:
            return
        for node in self._nodes.values():
            node.offset = int(self.chance.between("skew", -300.0, 300.0) * NS_PER_MS)
        self._services.cloud_offset = int(self.chance.between("skew", -20.0, 5.0) * NS_PER_S)
        for share in times:
            self.world.at(self._when(share), self._skew)

    def _plan(self, kind: str, happen: Callable[[], None]) -> None:
        for share in self.chance.times(kind, self._minutes):
            self.world.at(self._when(share), happen)

    def _when(self, share: float) -> int:
        return T0 + int(share * (self._end - T0))

    def _some_node(self, kind: str) -> Node:
        return self._nodes[NODES[self.chance.pick(kind, len(NODES))]]

    def _speaker(self, kind: str) -> Node:
        """Return a node that speaks for something, if the draw finds one."""
        instrument = INSTRUMENTS[self.chance.pick(kind, len(INSTRUMENTS))]
        holder = self._services.leases[instrument].holder.split("#")[0]
        return self._nodes.get(holder) or self._some_node(kind)

    def _skew(self) -> None:
        self.chance.happened["skew"] += 1
        node = self._some_node("skew")
        node.step_clock(int(self.chance.between("skew", -1_000.0, 1_000.0) * NS_PER_MS))

    def _partition(self) -> None:
        self.chance.happened["partition"] += 1
        links = _LINKS[self.chance.pick("partition", len(_LINKS))]
        ns = self.chance.between("partition", 2.0, 40.0) * NS_PER_S
        for one, other in links:
            self.world.cut(one, other, is_cut=True)
            self.world.after(ns, self._heal, one, other)

    def _heal(self, one: str, other: str) -> None:
        self.world.cut(one, other, is_cut=False)

    def _crash(self) -> None:
        """Cut the next write of a speaking node, at one of three places; without one it just stops."""
        self.chance.happened["crash"] += 1
        node = self._speaker("crash")
        node.disk.cut = ("before", "between", "after")[self.chance.pick("crash", 3)]
        self.world.after(5 * NS_PER_S, self._stop, node)

    def _stop(self, node: Node) -> None:
        if node.disk.cut:
            node.disk.cut = ""
            node.crash(self.chance.between("crash length", 1.0, 40.0) * NS_PER_S)

    def _pause(self) -> None:
        self.chance.happened["pause"] += 1
        ns = self.chance.between("pause", 2.0, 40.0) * NS_PER_S
        lag_ns = self.chance.between("pause", 0.2, 8.0) * NS_PER_S
        self._speaker("pause").pause(ns, lag_ns)
