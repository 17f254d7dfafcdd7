"""Laws of the fusion's fit, on made-up rows with planted effects."""

import msgspec
import numpy as np

from finllm.domain.units import NS_PER_S
from finllm.reasoning.embedded import EmbeddedReasoner
from finllm_lab.packs import SCALE, SHIFT, Rows
from finllm_lab.reasoner import BandCard, book_band, fit_scale, fit_shift, weights_of


def made_rows(seed: int, n: int, *, burst: float, stance: float) -> Rows:
    draw = np.random.default_rng(seed)
    scale = np.zeros((n, len(SCALE)))
    shift = np.zeros((n, len(SHIFT)))
    scale[:, 0] = 1.0
    for name in ("breadth", "burst", "dispersion"):
        scale[:, SCALE.index(name)] = draw.normal(0.3, 0.7, n)
    shift[:, SHIFT.index("stance")] = draw.uniform(-0.5, 0.5, n)
    shift[:, SHIFT.index("event:earnings")] = draw.uniform(-0.2, 0.2, n)
    lean = stance * shift[:, SHIFT.index("stance")]
    up = draw.uniform(0.0, 1.0, n) < 1.0 / (1.0 + np.exp(-lean))
    size = np.abs(draw.normal(0.0, 1.0, n)) * np.exp(burst * scale[:, SCALE.index("burst")])
    return Rows(
        scale=scale,
        shift=shift,
        controls=np.ones((n, 1)),
        z=np.where(up, size, -size),
        size=size,
        group=np.arange(n) // 50,
    )


def test_planted_effects_are_found_and_nothing_else() -> None:
    data = made_rows(1, 8_000, burst=0.3, stance=2.0)
    scale, shift = fit_scale(data), fit_shift(data)
    assert set(scale.weights) == {"present", "burst"}
    assert abs(scale.weights["burst"] - 0.3) < 0.05
    assert set(shift.weights) == {"stance"}
    assert 0.5 < shift.weights["stance"] < 2.0, "found, and pulled towards zero by the ridge"
    assert scale.gain_95[0] > 0.0
    assert shift.gain_95[0] > 0.0


def test_usual_news_moves_nothing_on_average() -> None:
    data = made_rows(2, 8_000, burst=0.3, stance=0.0)
    weights = fit_scale(data).weights
    log_scale = sum(w * data.scale[:, SCALE.index(name)] for name, w in weights.items())
    assert abs(float(np.mean(log_scale))) < 1e-4


def test_a_release_takes_nothing_from_usual_news() -> None:
    data = made_rows(5, 8_000, burst=0.0, stance=0.0)
    is_released = np.arange(8_000) % 16 == 0
    data.scale[:, SCALE.index("release")] = is_released
    louder = np.where(is_released, np.exp(0.8), 1.0)
    fit = fit_scale(msgspec.structs.replace(data, z=data.z * louder, size=data.size * louder))
    assert set(fit.weights) == {"release"}
    assert abs(fit.weights["release"] - 0.8) < 0.15


def test_where_there_is_nothing_the_weights_are_zero_and_the_t_values_stand() -> None:
    data = made_rows(3, 6_000, burst=0.0, stance=0.0)
    scale, shift = fit_scale(data), fit_shift(data)
    assert (scale.weights, shift.weights) == ({}, {})
    assert abs(shift.effects["stance"].t) < 3.0
    assert set(scale.effects) == {"breadth", "burst", "dispersion"}


def test_the_fit_is_the_same_twice_and_serves() -> None:
    one, two = (fit_scale(made_rows(4, 4_000, burst=0.3, stance=0.0)) for _ in range(2))
    assert one == two
    shift = fit_shift(made_rows(4, 4_000, burst=0.3, stance=0.0))
    card = BandCard(rows="made", memory_ns=20 * NS_PER_S, memories_tried={}, scale=one, shift=shift)
    weights = weights_of("made-1", book_band(card), card, card)
    assert EmbeddedReasoner(weights).name == "embedded:made-1"
