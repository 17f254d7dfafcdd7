"""The other places: the site's log and leases, the consumer, and the cloud with its reasoners."""

import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from finllm.domain.delivery import Inbox, Outbox
from finllm.domain.forecast import Cost, Forecast
from finllm.domain.identity import canonical, content_id
from finllm.domain.outlook import outlook_of
from finllm.domain.protocol import (
    Action,
    Opinion,
    Outlook,
    Reach,
    Revision,
    Share,
    Standing,
    Verdict,
)
from finllm.domain.tenure import Lease, Newest, claimed, renewed
from finllm.domain.units import NS_PER_MIN, NS_PER_S
from finllm.ledger.shipping import Shipment
from finllm.ledger.sitelog import Logged, SiteLog
from finllm.ledger.siteview import SiteView
from finllm_lab.consistency.messages import Answer, LeaseRequest, Question
from finllm_lab.consistency.node import LEASE_NS, Node
from finllm_lab.consistency.world import World

_BATCH: Final = 400
_LATE_NS: Final = 60 * NS_PER_S
_ACTIONS: Final = (Action.CONFIRM,) * 4 + (Action.REFINE,) * 9 + (Action.RETRACT,) * 3


class Watch(Protocol):
    """What is told of everything that happens."""

    def granted(self, lease: Lease) -> None:
        """Hear that a lease is granted anew."""
        ...

    def logged(self, logged: Logged) -> None:
        """Hear that an entry has its place in the log."""
        ...

    def heard(self, where: str, logged: Logged, *, counts: bool) -> None:
        """Hear that a follower has taken an entry."""
        ...

    def published(self, forecast: Forecast) -> None:
        """Hear that a node publishes a version."""
        ...

    def shown(self, forecast: Forecast) -> None:
        """Hear that the consumer shows a version."""
        ...


class Heard(Protocol):
    """What is told of an entry that a follower takes."""

    def __call__(self, logged: Logged, *, counts: bool) -> None:
        """Take the entry, and whether it counts."""
        ...


class Follower:
    """A place that follows the log from afar.

    Args:
        name: The place.
        world: Where it is.
        heard: Told each entry taken and whether it counts.
    """

    def __init__(self, name: str, world: World, heard: Heard) -> None:
        self.name, self.view = name, SiteView()
        self._world, self._heard = world, heard

    def hear(self, entries: Sequence[Logged]) -> None:
        """Take the entries that follow; the others are asked for again in time."""
        for logged in entries:
            if logged.seq == self.view.count + 1:
                self._heard(logged, counts=self.view.take(logged))

    def ask(self, catch_up: Callable[..., None]) -> None:
        """Ask for what is missing, now and then for ever."""
        self._world.send(self.name, "site", catch_up, self.view.count, self)
        self._world.after(2 * NS_PER_S, self.ask, catch_up)


class Services:
    """All that nodes send to."""

    def __init__(self, world: World, watch: Watch, instruments: tuple[str, ...]) -> None:
        self.log = SiteLog()
        self.newest = Newest()
        self.nodes: dict[str, Node] = {}
        self.leases = {name: Lease(instrument=name) for name in instruments}
        self.cloud = Follower("cloud", world, self._cloud_heard)
        self.shop = Follower("shop", world, self._shop_heard)
        self.cloud_offset = 0
        """The cloud's clock less the world's, ns."""
        self._world, self._watch = world, watch
        self._inbox = Inbox()
        self._answers: Outbox[Answer] = Outbox(2 * NS_PER_S, 10 * NS_PER_S)
        self._n_answers = 0

    def start(self) -> None:
        """Begin following, and sending answers."""
        self.cloud.ask(self.catch_up)
        self.shop.ask(self.catch_up)
        self._pump()

    # --- the site ----------------------------------------------------------------------------

    def ship(self, shipment: Shipment, sender: Node) -> None:
        """Take entries for the log, and tell those who follow it."""
        before = len(self.log)
        count = self.log.append(shipment, self._world.now)
        self._world.send("site", sender.name, sender.take, sender.shipped, count)
        new = self.log.after(before, _BATCH)
        if not new:
            return
        for logged in new:
            self._world.seal(logged.entry[5])
            self._watch.logged(logged)
        for node in self.nodes.values():
            self._world.send("site", node.name, node.take, node.hear, new)
        for follower in (self.cloud, self.shop):
            self._world.send("site", follower.name, follower.hear, new)

    def catch_up(self, count: int, sender: Node | Follower) -> None:
        """Send the entries after so many."""
        entries = self.log.after(count, _BATCH)
        if not entries:
            return
        if isinstance(sender, Node):
            self._world.send("site", sender.name, sender.take, sender.hear, entries)
        else:
            self._world.send("site", sender.name, sender.hear, entries)

    def lease(self, requests: tuple[LeaseRequest, ...], sender: Node) -> None:
        """Grant what is free and extend what is held."""
        answers = []
        for request in requests:
            before = self.leases[request.instrument]
            rule = claimed if request.is_claim else renewed
            after = rule(before, request.holder, request.epoch, self._world.now, LEASE_NS)
            self.leases[request.instrument] = after
            if request.is_claim and after is not before:
                self._watch.granted(after)
                self._world.note("site", "grants", after.instrument, after.epoch, after.holder)
            answers.append((request, after))
        self._world.send("site", sender.name, sender.take, sender.leased, tuple(answers))

    def heard(self, where: str, logged: Logged, *, counts: bool) -> None:
        """Pass on a node's word on an entry."""
        self._watch.heard(where, logged, counts=counts)

    def published(self, forecast: Forecast) -> None:
        """Pass on what a node publishes."""
        self._watch.published(forecast)

    # --- the consumer ------------------------------------------------------------------------

    def live(self, forecast: Forecast) -> None:
        """Take a version as it is published."""
        if self.newest.take(forecast):
            self._world.seal(canonical(forecast))
            self._watch.shown(forecast)

    def _shop_heard(self, logged: Logged, *, counts: bool) -> None:
        self._watch.heard("shop", logged, counts=counts)
        record = logged.record.forecast if isinstance(logged.record, Revision) else logged.record
        if counts and isinstance(record, Forecast) and self.newest.settle(record):
            self._watch.shown(record)

    # --- the cloud ---------------------------------------------------------------------------

    def _cloud_heard(self, logged: Logged, *, counts: bool) -> None:
        self._watch.heard("cloud", logged, counts=counts)
        if not counts:
            _, kind, entry_id, *_ = logged.entry
            self._world.chance.happened[f"uncounted {kind}"] += 1
            self._world.note("cloud", f"{kind} does not count:", entry_id[:12], logged.writer)

    def question(self, message_id: str, question: Question, sender: Node) -> None:
        """Think about a question, once however often it comes."""
        self._world.send("cloud", sender.name, sender.take, sender.question_taken, message_id)
        if not self._inbox.take(message_id):
            return
        chance = self._world.chance
        thinking = 0.4 * math.exp(1.2 * chance.unit("thinking")) * NS_PER_S
        if chance.happens("late"):
            thinking += _LATE_NS * chance.unit("late length")
        self._world.after(thinking, self._judge, question)

    def _judge(self, question: Question) -> None:
        chance = self._world.chance
        verdicts = tuple(self._verdict(question, one) for one in question.asked.standing)
        outlook = self._outlook(question)
        self._say(question, verdicts, outlook)
        if chance.happens("twice"):
            self._say_later(question, verdicts, outlook)
        if chance.happens("second opinion"):
            again = tuple(
                self._verdict(question, one, tag="again") for one in question.asked.standing
            )
            self._say_later(question, again, None)
        self._say_after_retraction(question, verdicts)
        if verdicts and chance.happens("at expiry"):
            self._say_at_expiry(question)

    def _say_later(
        self, question: Question, verdicts: tuple[Verdict, ...], outlook: Outlook | None
    ) -> None:
        wait = self._world.chance.unit("later") * 5 * NS_PER_S
        self._world.after(wait, self._say, question, verdicts, outlook)

    def _say_after_retraction(self, question: Question, verdicts: tuple[Verdict, ...]) -> None:
        """Refine what was just withdrawn, on the version that withdrew it."""
        for verdict, one in zip(verdicts, question.asked.standing, strict=True):
            if verdict.action is Action.RETRACT and self._world.chance.happens("after retraction"):
                on = msgspec.structs.replace(one, version=one.version + 1)
                later = self._verdict(question, on, tag="after", action=Action.REFINE)
                self._say_later(question, (later,), None)

    def _say_at_expiry(self, question: Question) -> None:
        """Refine the standing version at the very instant when the asker's clock says it is over."""
        one = question.asked.standing[0]
        asker = self.nodes[question.asker]
        when = one.valid_until - asker.offset
        self._world.at(when, self._punctual, question, one.forecast_id)

    def _punctual(self, question: Question, forecast_id: str) -> None:
        asker = self.nodes[question.asker]
        standing = asker.owner.view.get(forecast_id) if asker.is_up else None
        if standing is None:
            return
        on = Standing(
            forecast_id=forecast_id,
            epoch=standing.epoch,
            version=standing.version,
            status=standing.status,
            valid_until=standing.valid_until,
        )
        verdict = self._verdict(question, on, tag="punctual", action=Action.REFINE)
        asker.take(asker.answer, self._answer(question, (verdict,), None))

    def _verdict(
        self, question: Question, one: Standing, *, tag: str = "", action: Action | None = None
    ) -> Verdict:
        chance = self._world.chance
        version, epoch, shift = one.version, one.epoch, chance.between("shift", -0.8, 0.8)
        if not tag and chance.happens("other version"):
            version = max(0, version + (-1, 1, 2)[chance.pick("which version", 3)])
        if not tag and chance.happens("other epoch"):
            epoch = max(0, epoch + (-1, 1)[chance.pick("which epoch", 2)])
        if not tag and chance.happens("unusable"):
            shift = math.nan
        chosen = action or _ACTIONS[chance.pick("action", len(_ACTIONS))]
        asked = question.asked.question_id
        return Verdict(
            verdict_id=content_id("verdict", asked, one.forecast_id, tag),
            question_id=asked,
            forecast_id=one.forecast_id,
            epoch=epoch,
            base_version=version,
            reasoner="simulated",
            action=chosen,
            shift=shift,
            vol_scale=1.1,
            citations=(),
            cost=Cost(tokens=100, method="simulated"),
        )

    def _outlook(self, question: Question) -> Outlook:
        """Return an opinion on what one of three origins says, now and then by an old pack."""
        chance, asked, now = self._world.chance, question.asked, self._clock()
        as_of = asked.ts
        if chance.happens("old outlook"):
            as_of -= (1 + chance.pick("how old", 3)) * 10 * NS_PER_S
        shift = chance.between("outlook shift", -0.3, 0.3)
        origin = ("wire", "paper", "forum")[chance.pick("origin", 3)]
        share = Share(
            evidence_id=asked.notice_id,
            origin=origin,
            ts_recv=as_of,
            shift=(shift,),
            log_scale=(0.0,),
        )
        opinion = Opinion(
            opinion_id=content_id("opinion", asked.question_id, as_of, share),
            since=as_of - 20 * NS_PER_S,
            as_of=as_of,
            ts=now,
            half_life_ns=30 * NS_PER_S,
            expires=now + 2 * NS_PER_MIN,
            reaches=(Reach(up_to_ns=NS_PER_MIN, max_shift=0.5, max_log_scale=0.5),),
            shares=(share,),
        )
        return outlook_of(asked.instrument, (opinion,), now=now, version=question.outlook_version)

    def _answer(
        self, question: Question, verdicts: tuple[Verdict, ...], outlook: Outlook | None
    ) -> Answer:
        self._n_answers += 1
        return Answer(
            answer_id=f"answer {self._n_answers}",
            question=question,
            verdicts=verdicts,
            outlook=outlook,
            ts=self._clock(),
        )

    def _say(
        self, question: Question, verdicts: tuple[Verdict, ...], outlook: Outlook | None
    ) -> None:
        answer = self._answer(question, verdicts, outlook)
        self._answers.put(answer.answer_id, answer, self._clock() + 3 * NS_PER_MIN)
        self._send_answers()

    def acknowledge(self, message_id: str) -> None:
        """Take the word that an answer has come."""
        self._answers.acknowledged(message_id)

    def _pump(self) -> None:
        self._send_answers()
        self._world.after(NS_PER_S, self._pump)

    def _send_answers(self) -> None:
        """Send answers to whom the cloud takes for the owner, else to the asker."""
        for _, answer in self._answers.due(self._clock()):
            tenure = self.cloud.view.fence.tenure(answer.question.asked.instrument)
            name = answer.question.asker if tenure is None else tenure.owner
            node = self.nodes[name]
            self._world.send("cloud", name, node.take, node.answer, answer)

    def _clock(self) -> int:
        return self._world.now + self.cloud_offset
