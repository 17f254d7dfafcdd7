"""Laws of the recordings' manifest and of the record of experiments. Real files."""

from pathlib import Path

import pytest

from finllm.domain.errors import InputError
from finllm_lab.experiments import MAX_OPENINGS, experiments, open_validation, record
from finllm_lab.manifest import Recording, checked, hash_of, recordings, write


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "a.gz").write_bytes(b"what was recorded")
    entry = Recording(
        path="a.gz", sha256=hash_of(tmp_path / "a.gz"), licence="A", origin="here", use="train"
    )
    write({"a.gz": entry}, tmp_path / "recordings.json")
    return tmp_path / "recordings.json"


def test_a_recording_that_is_as_entered_is_found(manifest: Path) -> None:
    assert checked(manifest.parent, "a.gz", use="train", file=manifest).name == "a.gz"


def test_a_changed_recording_is_refused_by_name(manifest: Path) -> None:
    (manifest.parent / "a.gz").write_bytes(b"what was recordeD")
    with pytest.raises(InputError, match=r"a\.gz.*sha256 is .* the manifest says"):
        checked(manifest.parent, "a.gz", file=manifest)


def test_a_recording_is_not_lent_for_another_use(manifest: Path) -> None:
    with pytest.raises(InputError, match="entered to train, not to validate"):
        checked(manifest.parent, "a.gz", use="validate", file=manifest)


def test_a_recording_that_nobody_entered_is_refused(manifest: Path) -> None:
    with pytest.raises(InputError, match=r"b\.gz is not entered"):
        checked(manifest.parent, "b.gz", file=manifest)


def test_a_manifest_says_again_what_was_written(manifest: Path) -> None:
    rows = recordings(manifest)
    write(rows, manifest)
    assert recordings(manifest) == rows


def test_the_record_of_experiments_says_everything_in_order(tmp_path: Path) -> None:
    file = tmp_path / "docs" / "experiments.jsonl"
    for i in range(3):
        record("trial", "book", f"try {i}", scores={"1s": i / 10}, file=file)
    found = experiments(file)
    assert [(one.number, one.what, one.scores["1s"]) for one in found] == [
        (1, "try 0", 0.0), (2, "try 1", 0.1), (3, "try 2", 0.2),
    ]  # fmt: skip


@pytest.mark.parametrize("harm", ["drop", "edit", "swap"])
def test_a_trial_cannot_be_taken_out_or_touched_unseen(tmp_path: Path, harm: str) -> None:
    file = tmp_path / "experiments.jsonl"
    for i in range(3):
        record("trial", "book", f"try {i}", scores={"1s": 0.5}, file=file)
    lines = file.read_bytes().splitlines()
    if harm == "drop":
        del lines[1]
    elif harm == "edit":
        lines[1] = lines[1].replace(b"0.5", b"0.7")
    else:
        lines[0], lines[1] = lines[1], lines[0]
    file.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(InputError, match=r"experiments\.jsonl:[123].*follow"):
        experiments(file)
    with pytest.raises(InputError):
        record("trial", "book", "one more", file=file)


def test_the_validation_part_is_opened_a_counted_number_of_times(tmp_path: Path) -> None:
    file = tmp_path / "experiments.jsonl"
    file.touch()
    for i in range(MAX_OPENINGS):
        open_validation("book", f"opening {i}", file=file)
    with pytest.raises(InputError, match=f"opened {MAX_OPENINGS} times for book, last: opening 2"):
        open_validation("book", "once more", file=file)
    assert open_validation("stocks", "another family", file=file).number == MAX_OPENINGS + 1
