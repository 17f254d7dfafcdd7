"""Laws of copies: what is known again, what is not, and what it costs."""

import json
from pathlib import Path

import numpy as np
import pytest

from finllm.narrative.attacks import (
    CYRILLIC,
    DIGITS,
    EDITS,
    LOOK_ALIKES,
    OTHERS,
    disguised,
    edited,
    pierced,
)
from finllm.narrative.reading.encoder import HashingEncoder
from finllm.narrative.repeats.copies import Copies, Match, exact_hash, read_for_copies
from finllm.narrative.repeats.meanings import Meaning
from finllm.narrative.repeats.words import Frequencies, codes_of, sample_of, weight_of
from finllm.narrative.text.canonical import canonical_text

HEADLINES = (
    "Harbourline Custody halts Bitcoin withdrawals citing unusual activity on its systems",
    "Regulator sues Kestrel over unregistered products sold to pension funds in New York",
    "Oil steadies as traders weigh supply outlook against weaker demand from refiners",
    "Carmaker recalls electric saloons after brake software fault found by inspectors",
    "Central bank governor says wage growth remains the main worry for policy makers",
    "Drug maker wins approval for migraine treatment after long review by agency",
)


class Shelf:
    """Copies with the reading around them."""

    def __init__(self, *, capacity: int = 256, encoder: HashingEncoder | None = None) -> None:
        self.encoder = encoder
        dim = encoder.dim if encoder else 0
        self.copies = Copies(
            capacity=capacity,
            near=0.5,
            near_meaning=0.5,
            window_ns=1 << 60,
            dim=dim,
        )

    def ask(self, raw: str, *, keep: bool = False) -> Match:
        text = canonical_text(raw)
        reading = read_for_copies(text)
        name = exact_hash(reading)
        match = self.copies.exact(name, 0)
        if match.is_copy:
            return match
        signature = self.copies.sign(reading)
        meaning = Meaning(self.encoder, text) if self.encoder else None
        match = self.copies.near(reading, signature, 0, meaning)
        if keep and not match.is_copy:
            return Match(slot=self.copies.add(name, reading, signature, 0, meaning))
        if keep:
            self.copies.also(name, reading, signature, 0, match.slot)
        return match


def shelf(**options: object) -> Shelf:
    made = Shelf(**options)  # type: ignore[arg-type]
    for text in HEADLINES:
        assert not made.ask(text, keep=True).is_copy
    return made


@pytest.mark.parametrize(
    "letters",
    [CYRILLIC, LOOK_ALIKES, OTHERS, DIGITS],
    ids=["cyrillic", "small capitals", "many scripts", "digits"],
)
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_a_text_in_look_alike_letters_is_a_copy_even_of_letters_no_table_has(
    letters: dict[str, str], share: float
) -> None:
    made, chance = shelf(), np.random.default_rng(3)
    for slot, text in enumerate(HEADLINES):
        match = made.ask(disguised(text, share, chance, letters))
        assert (match.slot, match.is_copy) == (slot, True)


def test_a_text_with_invisible_characters_is_a_copy() -> None:
    made, chance = shelf(), np.random.default_rng(3)
    for slot, text in enumerate(HEADLINES):
        match = made.ask(pierced(text, 0.5, chance))
        assert (match.slot, match.is_copy) == (slot, True)


@pytest.mark.parametrize("kind", sorted(EDITS))
def test_an_edited_text_is_a_copy_of_what_it_was(kind: str) -> None:
    made, chance = shelf(), np.random.default_rng(11)
    pool = ["market", "shares", "report", "company", "group", "week", "quiet", "dealers"]
    found = [
        made.ask(edited(text, 0.15, chance, pool, kind)).slot == slot
        for _ in range(5)
        for slot, text in enumerate(HEADLINES)
    ]
    assert np.mean(found) >= 0.95


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Zinc settles at 1,950 a tonne in London", "Zinc settles at 1,990 a tonne in London"),
        ("January report on copper stocks published", "March report on copper stocks published"),
        ("Top twelve shares in focus this session", "Top ten shares in focus this session"),
        ("Kestrel margin rises on demand for chips", "Kestrel margin falls on demand for chips"),
    ],
)  # fmt: skip
def test_another_figure_date_or_direction_is_another_claim_of_the_same_origin(
    one: str, other: str
) -> None:
    made = Shelf()
    slot = made.ask(one, keep=True).slot
    match = made.ask(other)
    assert not match.is_copy
    assert match.slot in {slot, -1}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "Conference notes: Harbourline Custody panel on coin regulation drew twenty people",
            "Conference notes: Kestrel Trust panel on coin regulation drew twenty people",
        ),
        (
            "Shares with high targets this week: $ABC $DEF $GHI",
            "Shares with high targets this week: $JKL $MNO $PQR",
        ),
        (
            "Headline: Watchdog sues Penrose Ether Fund over unregistered ETH products",
            "Watchdog sues Orrery Rollup over unregistered ETH products",
        ),
        (
            "Penrose Ether Fund halts Ether withdrawals citing unusual activity",
            "Lattice vyhxtu halts Ethereum withdrawals citing unusual activity",
        ),
    ],
)  # fmt: skip
def test_other_names_in_the_place_of_its_own_make_another_claim(one: str, other: str) -> None:
    made = Shelf()
    slot = made.ask(one, keep=True).slot
    match = made.ask(other)
    assert (match.slot, match.is_copy) == (slot, False)
    assert made.ask(one.casefold() + " indeed").is_copy


def test_words_in_their_order_tell_a_copy_better_than_words_alone() -> None:
    made = Shelf()
    assert not made.ask("Regulator clears merger of two rival grain shippers", keep=True).is_copy
    kept = made.ask("Regulator swiftly clears deal of two rival coal shippers")
    mixed = made.ask("Two swiftly shippers of coal deal rival clears regulator")
    assert kept.is_copy
    assert mixed.similarity < kept.similarity
    assert not mixed.is_copy


@pytest.mark.parametrize(
    "frame", ["Devel0ping: {}", "{} - m0re to fol10w", "BRE\u2c6dKIN\u0581: {}"]
)
def test_a_frame_is_taken_off_in_disguise_too(frame: str) -> None:
    made = shelf()
    plain = read_for_copies(canonical_text(HEADLINES[2]))
    assert exact_hash(read_for_copies(canonical_text(frame.format(HEADLINES[2])))) == exact_hash(
        plain
    )
    assert made.ask(frame.format(HEADLINES[2])).slot == 2


def test_a_denial_is_marked_unless_its_words_turn_the_claim_themselves() -> None:
    denied = read_for_copies("Kestrel spokesperson: the claim of a merger is fabricated")
    assert denied.turning != read_for_copies("Kestrel spokesperson: the claim of a merger").turning
    rejected = read_for_copies("Statement rejects talk of a merger")
    assert rejected.turning == read_for_copies("Statement rejects chatter of a merger").turning


def test_different_headlines_about_one_company_are_not_copies() -> None:
    made = Shelf()
    for text in (
        "Infosys wins outsourcing contract from German insurer",
        "Infosys names new chief financial officer after board meeting",
        "Infosys shares slip as analysts question hiring plans",
        "Former Infosys executive joins rival Wipro as adviser",
        "Infosys opens development centre in Mysore for trainees",
    ):
        assert not made.ask(text, keep=True).is_copy


def test_accents_and_scripts_of_their_own_are_read_as_they_are() -> None:
    made = Shelf()
    for text in (
        "La econom\u00eda chilena creci\u00f3 en el trimestre seg\u00fan el banco central",
        "\u82f9\u679c\u516c\u53f8\u5ba3\u5e03\u56de\u8d2d\u80a1\u7968\u8ba1\u5212\u6295\u8d44\u8005\u6b22\u8fce",
        "\uc0bc\uc131\uc804\uc790 \ubd84\uae30 \uc2e4\uc801 \ubc1c\ud45c \ud6c4 \uc8fc\uac00 \ubcc0\ub3d9",
        "\u0411\u0430\u043d\u043a \u0441\u043e\u0445\u0440\u0430\u043d\u0438\u043b "
        "\u0441\u0442\u0430\u0432\u043a\u0443 \u0434\u043e \u0432\u0435\u0441\u043d\u044b",
    ):
        assert not made.ask(text, keep=True).is_copy
        assert made.ask(text + "!").is_copy


def test_a_near_copy_seen_twice_is_exact_the_second_time() -> None:
    made = shelf()
    text = HEADLINES[0].replace("unusual", "odd")
    match = made.ask(text, keep=True)
    assert match.is_copy
    assert made.ask(text) == Match(slot=match.slot, similarity=1.0, is_copy=True)


def test_an_edited_near_copy_is_known_by_the_wording_that_was_edited() -> None:
    reworded = "Harbourline Custody halts Bitcoin payouts citing odd activity on its machines"
    again = "Harbourline Custody halts coin payouts citing odd dealings on its machines"
    assert not shelf().ask(again).is_copy
    made = shelf()
    assert made.ask(reworded, keep=True).is_copy
    match = made.ask(again)
    assert (match.slot, match.is_copy) == (0, True)


def test_copies_of_copies_do_not_drift_into_another_text() -> None:
    made, words = shelf(), HEADLINES[3].lower().split()
    for i in range(len(words)):
        words[i] = f"other{i}"
        made.ask(" ".join(words), keep=True)
    assert made.ask(" ".join(words)).slot != 3


def test_near_copies_without_end_push_out_no_first_appearance() -> None:
    made = Shelf(capacity=len(HEADLINES))
    for text in HEADLINES:
        made.ask(text, keep=True)
    for i in range(40):
        assert made.ask(HEADLINES[0].replace("unusual", "q" * (i + 2)), keep=True).is_copy
    for slot, text in enumerate(HEADLINES):
        assert made.ask(text).slot == slot
        assert made.ask(text.replace(" on ", " at ").replace(" to ", " for ")).slot == slot


def test_near_copies_of_two_texts_without_end_push_out_neither() -> None:
    made = Shelf(capacity=1024)
    for text, n_copies in ((HEADLINES[0], 20), (HEADLINES[1], 300)):
        made.ask(text, keep=True)
        for i in range(n_copies):
            words = text.split()
            words[3 + i % (len(words) - 3)] = "".join(
                chr(ord("q") + int(digit)) for digit in f"{i}"
            )
            made.ask(" ".join(words), keep=True)
    assert len(made.copies) == 2
    for slot, text in enumerate(HEADLINES[:2]):
        words = text.split()
        words[3], words[8] = "strange", "else"
        match = made.ask(" ".join(words))
        assert (match.slot, match.is_copy) == (slot, True)
        assert made.ask(text) == Match(slot=slot, similarity=1.0, is_copy=True)


def test_a_copy_may_leave_out_a_figure_only_if_it_is_much_like_its_original() -> None:
    made = Shelf()
    made.ask("Recap: how Northgate Mining won approval for its fund 15 months ago", keep=True)
    assert not made.ask("Sources say Northgate Mining has won approval for its fund, wait").is_copy
    assert made.ask("Recap: how Northgate Mining won approval for its fund months ago").is_copy


def test_a_name_whose_text_has_left_the_ring_is_forgotten() -> None:
    made = Shelf(capacity=4)
    words = iter(f"{a}{b} {b}{a} {a}{a}{b} alone" for a in "qwzx" for b in "jkvh")
    first = next(words)
    made.ask(first, keep=True)
    for text in words:
        made.ask(text, keep=True)
    assert not made.ask(first).is_copy
    assert len(made.copies.names) <= 4


def test_a_reworded_text_is_found_by_its_embedding_where_an_encoder_is_at_hand() -> None:
    text = "Harbourline-Custody halted Bitcoin-withdrawal, cited unusually-active system"
    assert shelf().ask(text).slot == -1
    assert shelf(encoder=HashingEncoder()).ask(text).slot == 0


def test_a_word_weighs_less_the_more_first_appearances_held_it() -> None:
    counted = Frequencies()
    (word,) = codes_of(["kestrel"])
    weights = []
    for _ in range(200):
        counted.add(sample_of(codes_of(["kestrel", "x"]))[0])
        weights.append(weight_of(counted.counts, counted.n_texts, word))
    assert weights == sorted(weights, reverse=True)
    assert weights[0] > weights[-1] >= 1


def test_distinct_headlines_of_one_company_merge_in_less_than_one_pair_in_a_thousand(
    shared: Path,
) -> None:
    lines = (shared / "text_labels" / "sentfin_en.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    by_entity: dict[str, list[str]] = {}
    for row in rows:
        if row["split"] == "train":
            for entity in row["entities"]:
                by_entity.setdefault(entity.lower(), []).append(row["title"])
    merged = pairs = 0
    for entity in ("infosys", "gold", "tcs", "rbi", "oil"):
        made = Shelf(capacity=512)
        for i, title in enumerate(by_entity[entity]):
            pairs += i
            merged += made.ask(title, keep=True).is_copy
    assert pairs > 10_000
    assert merged / pairs <= 0.001
