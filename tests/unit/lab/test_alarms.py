"""Laws of the leak alarms: what looks ahead rings, what is honest does not, a waiver has a reason."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from finllm.domain.errors import InputError
from finllm.domain.spec import Feature, FeatureSpec
from finllm.edge.artifact import SHIPPED
from finllm.edge.onnx import OnnxModel
from finllm_lab.evaluation import cli as evaluation_cli
from finllm_lab.evaluation.cli import in_words, reasons_of
from finllm_lab.evaluation.heard import Heard
from finllm_lab.evaluation.records import Fault, Hunt
from finllm_lab.evaluation.report import STOPPED, evaluate, report
from finllm_lab.experiments import experiments, open_validation, record
from finllm_lab.export import graph_of
from finllm_lab.labels import BOOK_HORIZONS
from finllm_lab.training import Penalty, Sample, columns_of, fit_path
from finllm_lab.walk import Said
from said import make_said, normal_claim

N = 3_000


def alarms(*said, past=()):
    return {(one.dataset, one.kind) for one in evaluate(said, past, resamples=200).alarms}


def fitted(seed: int, *, planted: bool = False, shuffled: bool = False, seconds: float = 1.0):
    """Return what a fitted model says on rows it never saw, of returns that one column leans towards.

    Args:
        seed: Of everything drawn.
        planted: Whether a further column holds the return to come, under noise.
        shuffled: Whether the labels mean nothing, in fitting and in scoring.
        seconds: Horizon.
    """
    rng = np.random.default_rng(seed)
    column = rng.standard_normal(2 * N)
    value = 0.4 * column + rng.standard_normal(2 * N)
    other = value + 1.5 * rng.standard_normal(2 * N) if planted else rng.standard_normal(2 * N)
    rows = np.column_stack([column, other])
    if shuffled:
        value = rng.permutation(value)
    label = np.where(value > 0.4, 2, np.where(value < -0.4, 0, 1))
    spec = FeatureSpec(
        name="toy",
        version=1,
        features=tuple(Feature(name=n, unit="1", source="toy") for n in ("obi_1", "ofi_2s")),
    )
    sample = Sample(rows=rows[:N], label=label[:N, None], scaled=value[:N, None])
    path = fit_path(sample, (Penalty(0.001),), columns_of(spec, is_mirrored=True, core=()))
    graph = graph_of(path.network([(0,)], [(0,)]))
    model = OnnxModel(graph, n_features=2, spec_hash="", horizons=BOOK_HORIZONS[:1], version="")
    raw = model.infer(rows[N:])[:, 0]
    honest = make_said(N, seed=seed, seconds=seconds)
    by_column, _ = normal_claim(0.4 * column[N:], np.ones(N), np.full(N, 0.4))
    shares = np.tile(np.bincount(label[:N], minlength=3) / N, (N, 1))
    return msgspec.structs.replace(
        honest,
        label=label[N:],
        return_bps=value[N:],
        band_bps=np.full(N, 0.4),
        column=column[N:],
        p=np.stack([raw[:, :3], shares, shares, by_column], axis=1).astype(np.float64),
    )


def test_an_honest_model_rings_no_alarm_and_has_skill() -> None:
    found = evaluate([fitted(0), fitted(1, seconds=0.5)], (), resamples=200)
    assert not found.alarms
    (near,) = [one for one in found.datasets[0].directions if one.horizon_s == 1.0]
    assert near.auc > 0.55
    assert abs(near.lead) < 0.03
    (row,) = [r for r in found.datasets[0].rows
              if (r.instrument, r.regime, r.horizon) == ("all", "all", "1s")]  # fmt: skip
    assert row.finding.climatology == "better"


def test_a_planted_future_column_rings_the_alarm_of_the_auc() -> None:
    assert alarms(fitted(0, planted=True)) == {("binance", "auc_1s")}


def test_a_model_fitted_on_shuffled_labels_has_no_skill_and_rings_nothing() -> None:
    found = evaluate([fitted(3, shuffled=True)], (), resamples=200)
    (row,) = [r for r in found.datasets[0].rows if (r.instrument, r.regime) == ("all", "all")]
    assert row.finding.climatology != "better"
    assert row.interval.climatology[0] <= 0.0
    assert not found.alarms


def test_skill_at_thirty_seconds_on_books_rings_and_elsewhere_does_not() -> None:
    far = make_said(3_000, seconds=30.0, step_ns=10**9, lasting=30.0, voice="truth")
    assert alarms(far) == {("binance", "skill_30s")}
    assert not alarms(msgspec.structs.replace(far, horizon=make_said(2, seconds=10.0).horizon))
    nothing = make_said(3_000, seconds=30.0, step_ns=10**9, voice="nothing")
    assert not alarms(nothing)


def test_one_data_set_cannot_hide_behind_another() -> None:
    leak = make_said(800, voice="leak", instrument="us-equity:BAC")
    honest = [fitted(seed) for seed in range(1)]
    assert alarms(leak, *honest) == {("us", "auc_1s")}


def test_an_alarm_that_cannot_be_looked_at_is_named() -> None:
    found = evaluate([make_said(500, seconds=5.0)], (), resamples=50)
    assert not found.alarms
    assert len(found.unchecked) == 2
    assert all(line.startswith("binance") for line in found.unchecked)


def run(tmp_path: Path, said, **more):
    return report(
        said,
        tmp_path / "page.html",
        resamples=100,
        record_file=tmp_path / "experiments.jsonl",
        **more,
    )


def test_a_standing_alarm_stops_the_evaluation_with_the_report_written(tmp_path: Path) -> None:
    verdict = run(tmp_path, [make_said(1_000, voice="leak")])
    assert verdict.exit_code == STOPPED == 3
    page = verdict.page.read_text()
    at = page.index("Leak alarm: the evaluation stops here.")
    assert at < page.index("skill in log score")
    for told in ("binance", f"{verdict.standing[0].figure:.3f}", "--hunt", "--waive 'binance="):
        assert told in page[at : page.index("skill in log score")]
    assert "--waive" in "\n".join(in_words(verdict))


def test_a_waiver_is_logged_with_its_reason_and_lets_that_alarm_pass(tmp_path: Path) -> None:
    said = [make_said(1_000, voice="leak")]
    verdict = run(tmp_path, said, waivers={"binance": "hunted: the toy is told what comes"})
    assert verdict.exit_code == 0
    assert "Alarm waived" in verdict.page.read_text()
    (logged,) = experiments(tmp_path / "experiments.jsonl")
    assert (logged.kind, logged.what) == ("waiver", "hunted: the toy is told what comes")
    assert logged.scores["auc_1s"] == verdict.evaluation.alarms[0].figure
    again = run(tmp_path, said)
    assert again.exit_code == 0  # the same figures of the same model pass from then on
    assert len(experiments(tmp_path / "experiments.jsonl")) == 1


def test_a_waiver_covers_no_other_model_data_set_or_greater_figure(tmp_path: Path) -> None:
    said = make_said(1_000, voice="leak")
    run(tmp_path, [said], waivers={"binance": "why"})
    other_model = msgspec.structs.replace(said, model_version="next")
    other_set = msgspec.structs.replace(said, instrument="us-equity:BAC")
    claims = said.p.copy()
    up = said.label == 2
    claims[:, 0] = np.where(up[:, None], (0.1, 0.2, 0.7), (0.7, 0.2, 0.1))
    greater = msgspec.structs.replace(said, p=claims)
    other_day = msgspec.structs.replace(said, session="another day")
    for changed in (other_model, other_set, greater, other_day):
        assert run(tmp_path, [changed]).exit_code == 3


def test_what_has_not_rung_and_what_has_no_reason_cannot_be_waived(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no alarm stands"):
        run(tmp_path, [fitted(0)], waivers={"binance": "just in case"})
    assert not experiments(tmp_path / "experiments.jsonl")
    for bad in ("binance", "binance=", "=why", "binance= "):
        with pytest.raises(InputError, match="DATASET=REASON"):
            reasons_of([bad])
    assert reasons_of(["binance=a=b"]) == {"binance": "a=b"}


def test_a_look_ahead_that_was_found_stops_everything_and_cannot_be_waived(tmp_path: Path) -> None:
    fault = Fault(where="x:Y", cut="2024", row=3, columns=("ret_1s",))
    hunt = Hunt(
        dataset="2024-07", what="feature rows", records=9, cuts=2, compared=5, n_faults=1,
        faults=(fault,),
    )  # fmt: skip
    verdict = run(tmp_path, [fitted(0)], hunts=[hunt])
    assert verdict.exit_code == 3
    assert "ret_1s" in verdict.page.read_text()
    record(
        "waiver", "evaluation", "no", config={"dataset": "2024-07", "alarm": "look_ahead", "model": ""},
        scores={"look_ahead": 9.0}, file=tmp_path / "experiments.jsonl",
    )  # fmt: skip
    assert run(tmp_path, [fitted(0)], hunts=[hunt]).exit_code == 3
    with pytest.raises(InputError, match="cannot be waived"):
        run(tmp_path, [fitted(0)], hunts=[hunt], waivers={"2024-07": "please"})


def _evaluated(folder: Path, said: Said, monkeypatch: pytest.MonkeyPatch, *more: str) -> Result:
    from finllm_lab.cli import app

    heard = Heard(said=[said], hunts=[])
    monkeypatch.setattr(evaluation_cli, "hear", lambda *_, **__: heard)
    monkeypatch.setattr(evaluation_cli, "ready", lambda *_: None)
    (folder / "experiments.jsonl").touch()
    named = ["--out", str(folder / "page.html"), "--record", str(folder / "experiments.jsonl")]
    shipped = f"book={SHIPPED['book']}"
    return CliRunner().invoke(app, ["evaluate", "--json", "--model", shipped, *named, *more])


def test_the_command_exits_with_three_where_an_alarm_stands(tmp_path: Path, monkeypatch) -> None:
    for said, code in ((make_said(600, voice="leak"), 3), (fitted(0), 0)):
        shown = _evaluated(tmp_path, said, monkeypatch)
        assert shown.exit_code == code
        assert msgspec.json.decode(shown.stdout)["datasets"][0]["name"] == "binance"


def test_the_validation_part_is_opened_three_times_and_each_is_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        assert _evaluated(tmp_path, fitted(0), monkeypatch, "--split", "validate").exit_code == 0
    refused = _evaluated(tmp_path, fitted(0), monkeypatch, "--split", "validate")
    assert isinstance(refused.exception, InputError)
    assert "opened 3 times" in str(refused.exception)
    found = experiments(tmp_path / "experiments.jsonl")
    assert [one.kind for one in found] == ["opening"] * 3
    assert _evaluated(tmp_path, fitted(0), monkeypatch).exit_code == 0


def test_what_cannot_be_read_is_said_before_an_opening_is_counted(tmp_path: Path) -> None:
    from finllm_lab.cli import app

    log = tmp_path / "experiments.jsonl"
    named = ["--out", str(tmp_path / "page.html"), "--record", str(log), "--data", str(tmp_path)]
    asked = ["evaluate", "--split", "validate", "--model", f"book={SHIPPED['book']}", *named]
    assert isinstance(CliRunner().invoke(app, asked).exception, InputError)
    assert not log.exists()


def test_where_no_record_is_the_validation_part_stays_shut(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no record"):
        open_validation("book", "evaluate", file=tmp_path / "experiments.jsonl")
