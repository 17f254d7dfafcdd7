"""Laws of `finllm attack`, and of the room under the attacks that need a stream."""

import json

import pytest
from typer.testing import CliRunner

from finllm.app.attack.field import read_field
from finllm.app.attack.run import FAMILIES, attack, chosen
from finllm.app.cli import app
from finllm.domain.errors import InputError
from finllm.narrative.room import NarrativeSettings


def test_every_family_is_told_apart_and_the_same_seed_gives_the_same_report() -> None:
    names = "zero-width,stale,way-back"
    told = [
        CliRunner().invoke(
            app, ["attack", "--family", names, "--size", "20", "--most", "400", "--json"]
        )
        for _ in range(2)
    ]
    assert told[0].stdout == told[1].stdout
    report = json.loads(told[0].stdout)
    rows = {row["name"]: row for row in report["families"]}
    assert len(rows) == len(report["families"]) == 4
    assert all(0.0 <= row["recall"] <= 1.0 and row["n_attacks"] > 0 for row in rows.values())
    assert rows["zero-width"]["recall"] >= 0.99
    assert rows["way back from quarantine"]["recall"] == 1.0


def test_an_unknown_family_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(InputError, match="homoglyph"):
        chosen("homoglyf")
    assert chosen("all") == list(FAMILIES)


def test_a_field_of_too_few_texts_is_an_error() -> None:
    field = read_field(None, settings=NarrativeSettings(), seed=3, size=25, most=5)
    with pytest.raises(InputError, match="distinct texts"):
        attack(field, ["zero-width"])
