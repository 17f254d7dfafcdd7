"""Laws of the track record: who was right weighs more, and nothing that comes later counts."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from finllm.domain.forecast import Outcome
from finllm.domain.identity import canonical
from finllm.domain.protocol import Action, MemberAnswer
from finllm.domain.revise import tilted
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm.reasoning.ensemble.pool import pool_of
from finllm.reasoning.ensemble.track import MOST, TrackRecord
from finllm.reasoning.llm.answerer import Ask
from finllm.reasoning.reasoner import verdict_of
from support.endpoint import answer
from support.opinions import cited_by, ensemble, opinion, scripted, weights

S = 1_000_000_000
EMBEDDED = EmbeddedReasoner().name
UP, DOWN = 2, 0


def leaning(shift: float, word: str) -> Callable[[Ask], str]:
    """Return what always leans one way, in words that are new on each pack."""

    def play(ask: Ask) -> str:
        ids = cited_by(ask)
        why = f"{word} {opinion(ids, word).partition('words of ')[2][:20]} and {'leads the market'}"
        stance = "up" if shift > 0.0 else "down"
        return answer(ids, stance=stance, shift=shift, why=why, citations=ids[:8])

    return play


def outcome(forecast: Any, label: int, ts: int) -> Outcome:
    return Outcome(
        forecast_id=forecast.forecast_id,
        instrument=forecast.instrument,
        horizon=forecast.horizon,
        ts_resolved=ts,
        return_bps=float(label - 1),
        label=label,
        void="" if label >= 0 else "no price",
    )


class History:
    """An ensemble of one that says up and one that says down, and what became of it."""

    def __init__(self, case: Any, make: Callable[..., Any]) -> None:
        self.case, self.make = case, make
        self.track = TrackRecord()
        self.ensemble = ensemble(
            scripted("bull", leaning(1.0, "buyers")),
            scripted("bear", leaning(-1.0, "sellers")),
            track=self.track,
        )
        self.n = 0

    def question(self) -> Any:
        self.n += 1
        one = self.case.named(f"q{self.n}")
        one.pack = self.make("pack", self.make("claim", f"text{self.n}"))
        one.forecasts = tuple(
            msgspec.structs.replace(f, forecast_id=f"{f.forecast_id}-{self.n}")
            for f in one.forecasts
        )
        return one

    def asked(self) -> dict[str, float]:
        """Return the weights at the question's instant, without keeping the verdict."""
        return weights(self.question().judged_by(self.ensemble).verdicts[0])

    def lived(self, label: int, ts: int, n: int = 1) -> None:
        """Let questions be answered, and the outcomes of what they were about be known at an instant."""
        for _ in range(n):
            one = self.question()
            verdicts = one.judged_by(self.ensemble).verdicts
            for forecast, verdict in zip(one.forecasts, verdicts, strict=True):
                self.track.follow(forecast, verdict)
                self.track.learn(outcome(forecast, label, ts))


@pytest.fixture
def history(case: Any, make: Callable[..., Any]) -> History:
    return History(case, make)


def test_without_a_record_weights_are_as_set(history: History) -> None:
    assert history.asked() == pytest.approx(dict.fromkeys((EMBEDDED, "bear", "bull"), 1.0 / 3.0))


def test_who_was_wrong_weighs_less_and_the_more_so_the_oftener(history: History) -> None:
    before = history.case.pack.as_of - S
    seen = [history.asked()]
    for _ in range(3):
        history.lived(UP, before, n=12)
        seen.append(history.asked())
    bears = [shares["bear"] for shares in seen]
    assert bears == sorted(bears, reverse=True)
    assert len(set(bears)) == len(bears)
    assert all(shares["bull"] > shares["bear"] for shares in seen[1:])


def test_an_outcome_that_is_not_yet_known_changes_no_weight(history: History) -> None:
    now = history.case.question.ts
    history.lived(UP, now - 1, n=3)
    before = history.asked()
    history.lived(DOWN, now, n=50)
    history.lived(DOWN, now + 1, n=50)
    assert canonical(history.asked()) == canonical(before)


def test_nobody_is_beyond_floor_and_cap(history: History) -> None:
    ts = history.case.question.ts - 1
    history.lived(UP, ts, n=600)
    factors = history.track.factors(["bull", "bear", "stranger"], ts + 1)
    assert factors == {"bull": MOST, "bear": 1.0 / MOST, "stranger": 1.0}


def test_a_record_made_beside_other_weights_of_the_embedded_reasoner_counts_as_it_did(
    history: History,
) -> None:
    ts = history.case.question.ts - 1
    history.lived(UP, ts, n=30)
    older = [
        msgspec.structs.replace(
            one,
            gains={name.replace(EMBEDDED, "embedded:older"): g for name, g in one.gains.items()},
        )
        for one in history.track.scored
    ]
    assert any("embedded:older" in one.gains for one in older)
    both = ["bull", "bear"]
    assert TrackRecord(older).factors(both, ts + 1) == history.track.factors(both, ts + 1)


def test_what_was_long_ago_fades(history: History) -> None:
    ts = history.case.question.ts - 1
    history.lived(UP, ts, n=30)
    history.lived(DOWN, ts, n=30)
    fallen, risen = (
        TrackRecord(scored).factors(["bull"], ts + 1)["bull"]
        for scored in (history.track.scored, history.track.scored[::-1])
    )
    assert fallen < risen


def test_a_void_outcome_teaches_nothing(history: History) -> None:
    before = history.asked()
    history.lived(-1, history.case.question.ts - 1, n=10)
    assert history.asked() == before


def test_a_member_without_a_say_has_no_record(
    case: Any, make: Callable[..., Any], history: History
) -> None:
    track = TrackRecord()
    mute = ensemble(
        scripted("bull", leaning(1.0, "buyers")), scripted("mute", lambda _: ""), track=track
    )
    one = history.question()
    verdicts = one.judged_by(mute).verdicts
    for forecast, verdict in zip(one.forecasts, verdicts, strict=True):
        track.follow(forecast, verdict)
        track.learn(outcome(forecast, UP, case.question.ts - 1))
    factors = track.factors(["bull", "mute"], case.question.ts)
    assert factors["bull"] > 1.0
    assert factors["mute"] == 1.0


def planted(make: Callable[..., Any], members: dict[str, str], seed: int, n: int = 600) -> float:
    """Return by how many expected nats an outcome weights from the record beat equal ones.

    The truth is a tilt that lasts ten outcomes; `skill` knows it as far as its bound allows, `wrong` says
    the contrary, `guess` says anything.
    """
    rng = np.random.default_rng(seed)
    track, base = TrackRecord(), make("forecast")
    total = truth = 0.0
    for i in range(n):
        truth = truth if i % 10 else 0.4 * float(rng.normal())
        own = 0.4 * truth + 0.08 * float(rng.normal())
        wanted = {"skill": truth - own, "wrong": own - truth, "guess": 0.4 * float(rng.normal())}
        said = {name: own + max(-0.2, min(0.2, wanted[kind])) for name, kind in members.items()}
        p = np.array(tilted(base, truth, 1.0)[0])
        label = int(rng.choice(3, p=p / p.sum()))
        factors = track.factors(said, i + 1)
        whole = 1.0 + sum(factors.values())
        by_record = (own + sum(factors[name] * said[name] for name in said)) / whole
        by_head = (own + sum(said.values())) / (1.0 + len(said))
        scores = [np.log(tilted(base, s, 1.0)[0]) for s in (by_record, by_head)]
        total += float(p @ (scores[0] - scores[1]))
        one = msgspec.structs.replace(base, forecast_id=f"f{i}")
        weighed = [(EMBEDDED, 1.0 / whole, own)]
        weighed += [(name, factors[name] / whole, said[name]) for name in said]
        pool = pool_of(MemberAnswer(name=m, weight=w, shift=s) for m, w, s in weighed)
        verdict = verdict_of(make("question", one), one, reasoner="e", action=Action.REFINE)
        track.follow(one, msgspec.structs.replace(verdict, pool=pool))
        track.learn(outcome(one, label, i + 1))
    return total / n


def test_weights_from_the_record_beat_equal_ones_where_members_differ_and_cost_little_where_not(
    make: Callable[..., Any],
) -> None:
    def gain(*kinds: str) -> float:
        members = dict(zip("abc", kinds, strict=False))
        found = [1e3 * planted(make, members, seed) for seed in range(4)]
        print(kinds, [round(one, 2) for one in found])  # noqa: T201 - the figures, in millinats
        return sum(found) / len(found)

    assert gain("skill", "wrong") > 0.1
    assert gain("skill", "guess", "guess") > 0.05
    assert gain("guess", "guess", "guess") > -0.05
    assert gain("skill", "skill", "skill") > -0.05
