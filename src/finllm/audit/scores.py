"""The examination: from the records of a run to its scores and refinement ledger.

Reads each stream of records once and changes nothing. The figures do not depend on the order of the
records, and each row's interval has a seed of its own, so that adding an instrument moves no other.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np

from finllm.audit.inforce import score_all
from finllm.audit.refinement import count_asking, refinement_of
from finllm.audit.rows import score_rows
from finllm.audit.sample import assemble, check_closings, gather_forecasts, gather_revisions
from finllm.audit.scorecard import Intake, Scores
from finllm.domain.forecast import Forecast, Outcome
from finllm.domain.protocol import Closing, Escalate, Hold, Revision, Verdict
from finllm.runtime.tally import Tally

RESAMPLES: Final = 1_000

CONVENTIONS: Final = (
    "log_score is the negative log likelihood in nats; every score is a loss, lower is better.",
    "skill is 1 - log score / baseline's log score, against baselines refitted as time went; "
    "above zero is better.",
    "edge is the base of version 1; in_force is what stood, weighted by time from issue to "
    "valid_until; final is what stood at valid_until.",
    "A retracted or abstaining forecast scores as the climatology of its issue and stays counted.",
    "rps is summed over the two cumulative classes; crps is twice the mean pinball loss, in bps.",
    "ece is the mean over the three classes, equal-mass bins; ece_perfect is what luck alone shows "
    "at n_eff.",
    "n_eff is the smaller of the forecasts whose targets do not overlap and the variance of one "
    "loss over the bootstrap variance of its mean.",
    "Intervals are 95 %, circular blocks of at least 5 s, 3 horizons and 5 steps, joint over "
    "instruments; fewer than 20 blocks is tentative.",
    "A finding needs the interval and Diebold-Mariano (Newey-West, small-sample) to agree at 5 %.",
    "gain is edge less in_force log score; harm is the negative block means of it, by share of "
    "forecasts; both in nats per forecast.",
)


def examine(  # noqa: PLR0917 - the seven streams of records that a run leaves
    forecasts: Iterable[Forecast],
    revisions: Iterable[Revision],
    closings: Iterable[Closing],
    outcomes: Iterable[Outcome],
    questions: Iterable[Escalate],
    holds: Iterable[Hold],
    verdicts: Iterable[Verdict],
    *,
    always_gain: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Scores:
    """Return the scores of a run.

    Args:
        forecasts: Version 1 of each; later versions are taken from the revisions.
        revisions: What became of each verdict.
        closings: The version standing at the end of each; checked against the revisions.
        outcomes: What happened; a void one leaves its forecast out and is counted.
        questions: The gate's yes.
        holds: The gate's no.
        verdicts: The answers, for their cost.
        always_gain: `refinement.gain` of a run on the same input that always asked.
        resamples: Bootstrap draws.
        seed: Of the bootstrap and of the simulated perfect forecaster.
    """
    tally = Tally()
    columns = gather_forecasts(forecasts, tally)
    revised = gather_revisions(revisions, tally)
    sample = assemble(columns, outcomes, revised, tally)
    check_closings(sample, closings, tally)
    scored = score_all(sample)
    refinement = refinement_of(
        scored,
        revised,
        count_asking(questions, holds, verdicts),
        always_gain=always_gain,
        resamples=resamples,
        rng=np.random.default_rng(seed),
    )
    return Scores(
        rows=score_rows(scored, resamples, seed),
        refinement=refinement,
        intake=Intake.of(tally),
        conventions=CONVENTIONS,
    )
