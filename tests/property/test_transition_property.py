"""The transition rule as a machine: whatever is thrown at a forecast, its versions only grow."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from finllm.domain.forecast import Status
from finllm.domain.protocol import (
    Action,
    Applied,
    Standing,
    Verdict,
    close,
    standing_of,
    transition,
)
from finllm.domain.revise import revised
from support.forecasts import forecast

VALID_UNTIL = 1_000
BROKEN = (float("nan"), float("inf"), float("-inf"), 1e9, -1e9)
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


def verdict(
    epoch: int, version: int, action: Action, shift: float = 0.1, k: float = 1.1
) -> Verdict:
    return Verdict(
        verdict_id="v",
        question_id="q",
        forecast_id="f",
        epoch=epoch,
        base_version=version,
        reasoner="test",
        action=action,
        shift=shift,
        vol_scale=k,
        citations=(),
    )


@given(NUMBERS, NUMBERS)
def test_whatever_numbers_are_applied_a_forecast_comes_of_them(shift: float, k: float) -> None:
    asked = forecast(10.0, issued=0, tilt_c=3.0)
    said = verdict(asked.epoch, asked.version, Action.REFINE, shift, k)
    _, applied, _ = transition(standing_of(asked), said, 1)
    if applied is Applied.APPLIED:
        after = revised(asked, said, 1)
        assert abs(sum(after.emitted) - 1.0) < 1e-9
        assert all(p >= 0.0 for p in after.emitted)
        assert list(after.emitted_q) == sorted(after.emitted_q)


class Transitions(RuleBasedStateMachine):
    """One forecast, a clock that only goes forward, and verdicts of every kind."""

    @initialize(epoch=st.integers(1, 5))
    def open_forecast(self, epoch: int) -> None:
        self.now = 0
        self.was_retracted = False
        self.standing = Standing(
            forecast_id="f",
            epoch=epoch,
            version=1,
            status=Status.SPECULATIVE,
            valid_until=VALID_UNTIL,
        )
        self.versions = [1]

    def _send(self, sent: Verdict) -> Applied:
        before = self.standing
        self.standing, applied, reason = transition(before, sent, self.now)
        assert reason
        if applied is Applied.APPLIED:
            self.versions.append(self.standing.version)
            assert self.standing.version == before.version + 1
            assert not self.was_retracted, "something was applied to a retracted forecast"
            assert self.now < VALID_UNTIL, "something was applied after expiry"
        else:
            assert self.standing == before
        self.was_retracted |= self.standing.status is Status.RETRACTED
        return applied

    @rule(step=st.integers(0, 150))
    def time_passes(self, step: int) -> None:
        self.now += step

    @rule(action=st.sampled_from([Action.CONFIRM, Action.REFINE, Action.REFINE, Action.RETRACT]))
    def a_good_verdict_comes(self, action: Action) -> None:
        open_before = not self.was_retracted
        sent = verdict(self.standing.epoch, self.standing.version, action)
        applied = self._send(sent)
        if self.now >= VALID_UNTIL:
            assert applied is Applied.LATE
        else:
            assert applied is (Applied.APPLIED if open_before else Applied.REFUSED)

    @rule(behind=st.integers(1, 3), action=st.sampled_from(list(Action)))
    def a_verdict_on_another_version_comes(self, behind: int, action: Action) -> None:
        for version in (self.standing.version - behind, self.standing.version + behind):
            applied = self._send(verdict(self.standing.epoch, version, action))
            assert applied in (Applied.SUPERSEDED, Applied.LATE)

    @rule(behind=st.integers(1, 3), action=st.sampled_from(list(Action)))
    def a_verdict_of_another_epoch_comes(self, behind: int, action: Action) -> None:
        for epoch in (self.standing.epoch - behind, self.standing.epoch + behind):
            applied = self._send(verdict(epoch, self.standing.version, action))
            assert applied in (Applied.SUPERSEDED, Applied.LATE)

    @rule(number=st.sampled_from(BROKEN), in_scale=st.booleans())
    def a_verdict_with_unusable_numbers_comes(self, number: float, in_scale: bool) -> None:
        at = (self.standing.epoch, self.standing.version)
        sent = (
            verdict(*at, Action.REFINE, k=number)
            if in_scale
            else verdict(*at, Action.REFINE, shift=number)
        )
        assert self._send(sent) in (Applied.REFUSED, Applied.LATE)

    @rule(k=st.floats(-2.0, 0.0))
    def a_verdict_with_no_positive_scale_comes(self, k: float) -> None:
        sent = verdict(self.standing.epoch, self.standing.version, Action.REFINE, k=k)
        assert self._send(sent) in (Applied.REFUSED, Applied.LATE)

    @rule(action=st.sampled_from(list(Action)))
    def the_same_verdict_comes_twice(self, action: Action) -> None:
        sent = verdict(self.standing.epoch, self.standing.version, action)
        if self._send(sent) is Applied.APPLIED:
            assert self._send(sent) is Applied.SUPERSEDED

    @invariant()
    def versions_only_grow(self) -> None:
        if hasattr(self, "versions"):
            assert self.versions == list(range(1, len(self.versions) + 1))

    @invariant()
    def a_retracted_forecast_stays_retracted_and_expires(self) -> None:
        if getattr(self, "was_retracted", False):
            assert self.standing.status is Status.RETRACTED
            assert close(self.standing, VALID_UNTIL).status is Status.EXPIRED

    @invariant()
    def nothing_else_of_the_standing_ever_changes(self) -> None:
        if hasattr(self, "standing"):
            same = msgspec.structs.replace(self.standing, version=1, status=Status.SPECULATIVE)
            assert (same.forecast_id, same.valid_until) == ("f", VALID_UNTIL)

    def teardown(self) -> None:
        if hasattr(self, "standing"):
            closing = close(self.standing, max(self.now, VALID_UNTIL))
            assert closing.version == self.versions[-1]


TestTransitions = Transitions.TestCase
TestTransitions.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
