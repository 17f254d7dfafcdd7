"""Laws of the examination: skill where there is some, none where there is none, nothing lost."""

import msgspec
import numpy as np
import pytest
from rich.console import Console

from finllm.audit.report import render
from finllm.audit.scorecard import Scores
from finllm.audit.scores import examine
from finllm.domain.protocol import Action, Applied

S = 1_000_000_000


def rows_of(scores, **wanted):
    wanted = {"regime": "all", "instrument": "test:A"} | wanted
    return [r for r in scores.rows if all(getattr(r, k) == v for k, v in wanted.items())]


def bare(forecasts, outcomes, **more) -> Scores:
    return examine(forecasts, [], [], outcomes, [], [], [], **more)


def test_a_perfect_forecaster_has_skill_and_is_calibrated_within_luck(make) -> None:
    scores = bare(*make.run(4000, sharp=0.7))
    (row,) = rows_of(scores, stage="edge")
    assert row.skill.climatology > 0.05
    assert row.interval.climatology[0] > 0.0
    assert row.finding.climatology == "better"
    assert not row.tentative
    assert row.ece <= row.ece_perfect_95
    assert row.ece_interval[0] <= 0.01
    assert row.ece_perfect < 0.02
    assert row.mcc > 0.0
    assert row.ic_t > 5.0
    assert row.brier == pytest.approx(2 / 3 + row.reliability - row.resolution, abs=0.02)


def test_an_overconfident_forecaster_is_found_out(make) -> None:
    forecasts, outcomes = make.run(4000, sharp=0.7)
    (calm,) = rows_of(bare(forecasts, outcomes), stage="edge")
    shouted = []
    for forecast in forecasts:
        loud = np.array(forecast.base) ** 3
        p = tuple((loud / loud.sum()).tolist())
        shouted.append(msgspec.structs.replace(forecast, base=p, emitted=p))
    (row,) = rows_of(bare(shouted, outcomes), stage="edge")
    assert row.ece > 5 * row.ece_perfect_95
    assert row.ece_interval[0] > row.ece_perfect_95
    assert row.reliability > 10 * calm.reliability
    assert row.log_score > calm.log_score


def test_knowing_nothing_is_rarely_called_better(make) -> None:
    found = []
    for seed in range(40):
        forecasts, outcomes = make.run(300, seed=seed, sharp=0.0)
        rng = np.random.default_rng(seed)
        noise = rng.dirichlet((50.0, 50.0, 50.0), size=300)
        guessed = [
            msgspec.structs.replace(f, base=tuple(p), emitted=tuple(p))
            for f, p in zip(forecasts, noise.tolist(), strict=True)
        ]
        (row,) = rows_of(bare(guessed, outcomes, resamples=200), stage="edge")
        found.append(str(row.finding.climatology))
    assert found.count("better") <= 2


def test_copies_of_a_forecast_add_no_certainty(make) -> None:
    once_f, once_o = make.run(400, step_s=5.0, horizon_s=5.0)
    copies = [
        msgspec.structs.replace(
            f, forecast_id=f"{f.forecast_id}-{k}", ts_recv=f.ts_recv + k * S // 10
        )
        for f in once_f
        for k in range(10)
    ]
    told = [
        msgspec.structs.replace(o, forecast_id=f"{o.forecast_id}-{k}")
        for o in once_o
        for k in range(10)
    ]
    (once,) = rows_of(bare(once_f, once_o), stage="edge")
    (often,) = rows_of(bare(copies, told), stage="edge")
    assert (often.n, once.n) == (4000, 400)
    assert often.n_eff <= 1.2 * once.n_eff
    narrow = often.interval.climatology[1] - often.interval.climatology[0]
    wide = once.interval.climatology[1] - once.interval.climatology[0]
    assert narrow >= 0.8 * wide


def test_every_instrument_horizon_and_regime_has_its_rows(make) -> None:
    forecasts, outcomes = [], []
    for name in ("x:A", "x:B"):
        for horizon_s in (1.0, 10.0):
            made, told = make.run(
                40,
                seed=int(horizon_s),
                instrument=name,
                horizon_s=horizon_s,
                horizon=f"{horizon_s}",
            )
            forecasts += [
                msgspec.structs.replace(f, forecast_id=f"{horizon_s}{f.forecast_id}") for f in made
            ]
            outcomes += [
                msgspec.structs.replace(o, forecast_id=f"{horizon_s}{o.forecast_id}") for o in told
            ]
    half = len(forecasts) // 2
    forecasts = [
        msgspec.structs.replace(f, regime="wild") if i % 40 >= 20 else f
        for i, f in enumerate(forecasts)
    ]
    assert half
    scores = bare(forecasts, outcomes, resamples=50)
    seen = {(r.instrument, r.horizon_s, r.regime, str(r.stage)) for r in scores.rows}
    wanted = {
        (instrument, horizon_s, regime, stage)
        for instrument in ("all", "x:A", "x:B")
        for horizon_s in (1.0, 10.0)
        for regime in ("all", "calm", "wild", "switched")
        for stage in ("edge", "in_force", "final")
    }
    assert seen == wanted
    assert len(scores.rows) == len(wanted)
    pooled = {r.horizon_s: r.n for r in scores.rows if r.instrument == r.regime == "all"}
    assert pooled == {1.0: 80, 10.0: 80}


def test_adding_an_instrument_moves_no_figure_of_another(make) -> None:
    forecasts, outcomes = make.run(200)
    more_f, more_o = make.run(200, seed=3, instrument="test:B")
    alone = bare(forecasts, outcomes)
    beside = bare(more_f + forecasts, more_o + outcomes)
    assert rows_of(alone) == rows_of(beside)


def test_the_order_of_the_records_is_of_no_consequence(make) -> None:
    forecasts, outcomes = make.run(100)
    assert bare(forecasts, outcomes) == bare(forecasts, outcomes[::-1])
    straight, turned = bare(forecasts, outcomes), bare(forecasts[::-1], outcomes)
    assert straight.rows == turned.rows


def test_what_cannot_be_scored_is_counted_by_reason(make) -> None:
    forecasts, outcomes = make.run(10)
    forecasts[0] = msgspec.structs.replace(forecasts[0], reference=None)
    forecasts[1] = msgspec.structs.replace(forecasts[1], base=(0.5, 0.5, 0.5))
    forecasts[2] = msgspec.structs.replace(forecasts[2], emitted=(float("nan"), 0.5, 0.5))
    outcomes[3] = msgspec.structs.replace(outcomes[3], label=-1, void="halted")
    outcomes[5] = msgspec.structs.replace(outcomes[5], label=(outcomes[5].label + 1) % 3)
    del outcomes[4]
    forecasts.append(forecasts[9])
    scores = bare(forecasts, [*outcomes, make.outcome(make.forecast("stranger"), 1.0)])
    assert scores.intake.excluded == {
        "duplicate": 1,
        "no_reference": 1,
        "not_a_distribution": 2,
        "unresolved": 1,
        "void": 1,
    }
    assert scores.intake.scored == 5
    assert scores.intake.forecasts == 5 + sum(scores.intake.excluded.values())
    assert scores.intake.noted["label_differs_from_rule"] == 1
    assert scores.intake.noted["outcome_without_scorable_forecast"] == 2


def test_a_run_without_forecasts_still_has_a_report(make) -> None:
    scores = bare([], [])
    assert scores.rows == ()
    assert scores.refinement.gain == 0.0
    assert "No forecast" in shown(scores)


def shown(scores) -> str:
    console = Console(width=80, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123 - closed with the test
    with console.file:
        console.print(render(scores))
    return console.export_text()


def test_the_report_fits_eighty_columns_and_says_what_it_means(make) -> None:
    forecasts, outcomes = make.run(4000, sharp=0.7)
    text = shown(bare(forecasts, outcomes))
    assert max(map(len, text.splitlines())) <= 80
    assert "better than climatology" in text
    short = shown(bare(*make.run(30)))
    assert "inconclusive" in short
    assert "hint, not a result" in short


def test_scores_survive_json_and_keep_the_promised_names(make) -> None:
    forecasts, outcomes = make.run(300)
    revisions = [make.revision(f, make.verdict(f), f.ts_recv + 1) for f in forecasts[::3]]
    scores = examine(forecasts, revisions, [], outcomes, [make.question("q")], [make.hold()], [])
    told = msgspec.json.encode(scores)
    assert msgspec.json.decode(told, type=Scores) == scores
    plain = msgspec.json.decode(told)
    promised = "instrument horizon_s regime stage n n_eff log_score rps crps ece skill interval"
    assert set(promised.split()) <= set(plain["rows"][0])
    for name in ("skill", "interval"):
        assert set(plain["rows"][0][name]) == {"climatology", "ewma", "obi"}
    promised = "gain share_of_always calls call_share harm late"
    assert set(promised.split()) <= set(plain["refinement"])


def test_refinement_counts_calls_cost_and_gain(make) -> None:
    forecasts, outcomes = make.run(400, sharp=0.0)
    up = [i for i, o in enumerate(outcomes) if o.label == 2]
    verdicts = [make.verdict(forecasts[i], shift=1.0) for i in up]
    revisions = [
        make.revision(forecasts[i], v, forecasts[i].ts_recv)
        for i, v in zip(up, verdicts, strict=True)
    ]
    late = make.revision(forecasts[0], verdicts[0], 0, applied=Applied.LATE, forecast=None)
    questions, holds = [make.question(f"q{i}") for i in range(3)], [make.hold()] * 9
    scores = examine(
        forecasts,
        [*revisions, late],
        [],
        outcomes,
        [*questions, questions[0]],
        holds,
        [*verdicts, verdicts[0]],
        always_gain=1.0,
    )
    found = scores.refinement
    assert found.finding == "better"
    assert found.harm == 0.0
    assert found.gain_sum == pytest.approx(found.gain * 400)
    assert found.gain_touched == pytest.approx(found.gain_sum / len(up))
    assert (found.calls, found.holds, found.call_share) == (3, 9, 0.25)
    assert found.share_of_always == pytest.approx(found.gain)
    assert found.tokens == 100 * len(up)
    assert found.gain_per_1000_tokens == pytest.approx(found.gain_sum / found.tokens * 1000)
    assert found.gain_per_joule == pytest.approx(found.gain_sum / (2.0 * len(up)))
    assert (found.late, found.applied) == (1, len(up))
    assert found.by_horizon[0].gain == pytest.approx(found.gain)


def test_single_losses_in_stretches_that_gain_are_hardly_any_harm(make) -> None:
    forecasts, outcomes = make.run(400, sharp=0.0)
    revisions = []
    for i, (forecast, outcome) in enumerate(zip(forecasts, outcomes, strict=True)):
        right = 1.0 if outcome.label == 2 else -1.0
        verdict = make.verdict(forecast, shift=-right if i % 5 == 0 else right)
        revisions.append(make.revision(forecast, verdict, forecast.ts_recv))
    found = examine(forecasts, revisions, [], outcomes, [], [], []).refinement
    losses = examine(forecasts, revisions[::5], [], outcomes, [], [], []).refinement.gain_sum
    assert found.gain > 0.0
    assert found.harm < 0.25 * -losses / 400


def test_harm_is_what_bad_stretches_lost_and_gain_is_net_of_it(make) -> None:
    forecasts, outcomes = make.run(400, sharp=0.0)
    revisions = []
    for i, (forecast, outcome) in enumerate(zip(forecasts, outcomes, strict=True)):
        right = 1.0 if outcome.label == 2 else -1.0
        verdict = make.verdict(forecast, shift=right if i < 300 else -right)
        revisions.append(make.revision(forecast, verdict, forecast.ts_recv))
    found = examine(forecasts, revisions, [], outcomes, [], [], []).refinement
    only_bad = examine(forecasts[300:], revisions[300:], [], outcomes[300:], [], [], []).refinement
    assert found.harm == pytest.approx(-only_bad.gain_sum / 400, rel=0.1)
    assert found.harm_share == pytest.approx(found.harm / found.gain)
    assert only_bad.finding == "worse"
    assert only_bad.harm_share is None


def test_confirming_changes_nothing(make) -> None:
    forecasts, outcomes = make.run(200)
    revisions = [
        make.revision(f, make.verdict(f, Action.CONFIRM), f.ts_recv + 1) for f in forecasts
    ]
    found = examine(forecasts, revisions, [], outcomes, [], [], []).refinement
    assert found.gain == pytest.approx(0.0, abs=1e-12)
    assert found.touched == 200
    assert found.gain_per_1000_tokens is None
    assert found.share_of_always is None


def test_every_skill_has_an_interval_and_coverage_stands_beside_what_luck_allows(make) -> None:
    said = [make.run(3000, sharp=0.7)]
    (row,) = rows_of(bare(*said[0]), stage="edge")
    for skill, span in (
        (row.skill_crps.climatology, row.interval_crps.climatology),
        (row.skill_crps.ewma, row.interval_crps.ewma),
        (row.skill_hindsight, row.interval_hindsight),
    ):
        assert span[0] <= skill <= span[1]
    assert row.interval_crps.obi is None  # it states no quantiles
    assert row.coverage_80_luck[0] < 0.8 < row.coverage_80_luck[1]
    assert row.coverage_80_spread == pytest.approx(1.0 - row.pit[0] - row.pit[5])
    assert row.coverage_80_spread <= row.coverage_80


def test_a_change_of_regime_over_a_pause_is_no_switch(make) -> None:
    early, told = make.run(60, seed=1, regime="calm")
    late, later = make.run(60, seed=2, regime="wild")
    day = 86_400 * S
    for pause, expected in ((60 * S, 60), (day, 0)):
        moved = [
            msgspec.structs.replace(f, ts_recv=f.ts_recv + pause, ts_emit=f.ts_emit + pause)
            for f in late
        ]
        after = [msgspec.structs.replace(o, ts_resolved=o.ts_resolved + pause) for o in later]
        scores = bare([*early, *moved], [*told, *after], resamples=50)
        rows = rows_of(scores, stage="edge", regime="switched")
        assert sum(row.n for row in rows) == expected
