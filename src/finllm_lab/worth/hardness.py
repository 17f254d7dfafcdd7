"""How hard the known worlds are: what words alone tell, and what asking about any document reaches."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from finllm.app.bench.known import Read, read_world
from finllm.app.bench.policies import Chance, Life
from finllm.audit.rules import ranked_rightly
from finllm.market.known.law import LAW, LISTINGS
from finllm.market.known.minds import MINDS
from finllm.market.known.world import days
from finllm.market.known.worth import unseen_share

TRAIN: Final = (711, 712, 713)
TEST: Final = (721, 722)
DAYS: Final = 4
NEWS_S: Final = 300.0
"""How long a document counts as unseen."""
IDLE: Final = frozenset({"chatter", "no effect", "campaign", "priced in"})


class Hardness(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of the worlds, before any gate."""

    documents: int
    mattering: float
    """Share of documents that are the first to tell of something that still has an effect."""
    auc_words: float
    """Of TF-IDF and logistic regression for those, on worlds that it was not fitted on."""
    unseen: float
    """Share of decisions (instrument and grid step) with a document of the last five minutes."""
    any_document: dict[str, float]
    """By mind: share of the always-asking gain reached by asking about documents at random, at 20 % of the
    calls of always asking."""


def words_auc(train: Sequence[int] = TRAIN, test: Sequence[int] = TEST) -> tuple[float, float, int]:
    """Return what words tell (AUC), the share of documents that matter, and the number scored."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    texts, matters = _labelled(train)
    others, truth = _labelled(test)
    by_word = TfidfVectorizer(min_df=2, ngram_range=(1, 2))
    by_character = TfidfVectorizer(min_df=3, analyzer="char", ngram_range=(1, 3))
    fitted = hstack([by_word.fit_transform(texts), by_character.fit_transform(texts)])
    model = LogisticRegression(max_iter=500, C=1.0).fit(fitted, matters)
    scored = model.predict_proba(
        hstack([by_word.transform(others), by_character.transform(others)])
    )
    right = ranked_rightly(scored[:, 1], truth)
    return float(right[truth].mean()), float(truth.mean()), len(truth)


def _labelled(seeds: Sequence[int]) -> tuple[list[str], np.ndarray]:
    found = [told for seed in seeds for day in days(LAW, seed, DAYS) for told in day.plan.told]
    matters = [told.is_first and told.story.kind not in IDLE for told in found]
    return [told.document.text for told in found], np.array(matters)


def measure(seeds: Sequence[int] = TEST) -> Hardness:
    """Return how hard the worlds of some seeds are."""
    auc, mattering, n = words_auc()
    worlds = [list(read_world(LAW, seed, DAYS)) for seed in seeds]
    unseen = float(np.mean([_unseen(read) for world in worlds for read in world]))
    reached = {}
    for mind in MINDS[1:]:
        gain = always = 0.0
        for seed, world in zip(seeds, worlds, strict=True):
            told = sum(o.told is not None for read in world for o in read.occasions)
            asked = sum(o.notice is not None for read in world for o in read.occasions)
            gain += (
                Life([mind], Chance(0.2 * asked / told, seed, any_document=True))
                .live(world)
                .expected
            )
            always += Life([mind], Chance(1.0, seed)).live(world).expected
        reached[mind.name] = round(gain / always, 3)
    return Hardness(
        documents=n,
        mattering=round(mattering, 4),
        auc_words=round(auc, 4),
        unseen=round(unseen, 4),
        any_document=reached,
    )


def _unseen(read: Read) -> float:
    received = ((o.instrument, o.ts) for o in read.occasions if o.told is not None)
    return unseen_share(received, read.day.start, NEWS_S, len(LISTINGS))
