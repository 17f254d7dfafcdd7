"""The two networks, learnt by contrast: numpy, gradients written out, minutes on one core.

Source:
    van den Oord, Li & Vinyals (2018), "Representation learning with contrastive predictive coding"
    (InfoNCE); Radford et al. (2021), the symmetric form over two kinds of input.
"""

from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from finllm.narrative.alignment.anomalies import BEFORE
from finllm.narrative.alignment.space import N_TEXT_EXTRAS, Projection, market_features
from finllm_lab.alignment.cases import Array, Example, masked

DIM: Final = 24
N_HIDDEN: Final = 64
HEAT: Final = 0.1
"""Temperature of the contrast."""
DROP: Final = 0.25
"""Share of a text's features left out of a step."""
BLIND: Final = 0.4
"""Share of texts whose embedding is left out of a step."""


class Pairs(msgspec.Struct, frozen=True, kw_only=True):
    """Windows with the text that belongs to each, and texts that do not."""

    markets: tuple[Array, ...]
    """Variants of [n, M]: the same windows, whole and with parts masked."""
    texts: npt.NDArray[np.float32]
    """[n, 1 + k, F], the right one first; rows of NaN fill up."""


def pairs_of(found: list[Example], rng: np.random.Generator) -> Pairs:
    """Return examples as pairs; each window also as bars would show it, and as of an early instant."""
    k = max(len(one.texts) for one in found)
    texts = np.full((len(found), k, found[0].texts.shape[1]), np.nan, dtype=np.float32)
    n_markets = max(len(one.windows) for one in found)
    variants: list[list[Array]] = [[] for _ in range(2 * n_markets)]
    for i, one in enumerate(found):
        texts[i, : len(one.texts)] = one.texts
        for j in range(n_markets):
            window, ts = one.windows[j % len(one.windows)]
            variants[2 * j].append(market_features(window, ts))
            early = BEFORE + int(rng.integers(1, 8)) if rng.random() < 0.5 else None
            seen = masked(window, channels=(2, 3, 4) if rng.random() < 0.6 else (), after=early)
            variants[2 * j + 1].append(market_features(seen, ts))
    return Pairs(markets=tuple(np.array(v) for v in variants), texts=texts)


class _Net:
    """A network with its gradients and Adam's moments."""

    def __init__(self, x: Array, rng: np.random.Generator) -> None:
        self.shift = x.mean(axis=0)
        spread = x.std(axis=0)
        self.scale = np.where(spread > 1e-6, 1.0 / np.maximum(spread, 1e-6), 0.0)
        n_in = x.shape[1]
        self.arrays = [
            rng.normal(0.0, (2.0 / n_in) ** 0.5, (n_in, N_HIDDEN)),
            np.zeros(N_HIDDEN),
            rng.normal(0.0, N_HIDDEN**-0.5, (N_HIDDEN, DIM)),
            np.zeros(DIM),
        ]
        self._first = [np.zeros_like(a) for a in self.arrays]
        self._second = [np.zeros_like(a) for a in self.arrays]
        self._n = 0

    def forward(self, x: Array, keep: Array | None = None) -> Array:
        self._x = (x - self.shift) * self.scale
        if keep is not None:
            self._x = self._x * keep
        w1, b1, w2, b2 = self.arrays
        self._h = np.maximum(self._x @ w1 + b1, 0.0)
        y = self._h @ w2 + b2
        self._length = np.sqrt((y * y).sum(axis=1, keepdims=True)) + 1e-12
        self._u = y / self._length
        return np.asarray(self._u)

    def backward(self, du: Array, *, rate: float, decay: float) -> None:
        dy = (du - self._u * (du * self._u).sum(axis=1, keepdims=True)) / self._length
        w2 = self.arrays[2]
        dh = (dy @ w2.T) * (self._h > 0.0)
        grads = [self._x.T @ dh, dh.sum(axis=0), self._h.T @ dy, dy.sum(axis=0)]
        self._n += 1
        for i, grad in enumerate(grads):
            self._first[i] += 0.1 * (grad - self._first[i])
            self._second[i] += 0.001 * (grad * grad - self._second[i])
            up = self._first[i] / (1.0 - 0.9**self._n)
            by = np.sqrt(self._second[i] / (1.0 - 0.999**self._n)) + 1e-8
            self.arrays[i] -= rate * (up / by + (decay * self.arrays[i] if i in {0, 2} else 0.0))

    def projection(self) -> Projection:
        w1, b1, w2, b2 = self.arrays
        arrays = (self.shift, self.scale, w1, b1, w2, b2)
        return Projection(*(np.asarray(a, dtype="<f4").astype(np.float64) for a in arrays))


def learn(
    pairs: list[tuple[Pairs, float]],
    *,
    seed: int = 7,
    epochs: int = 24,
    batch: int = 32,
    rate: float = 2e-3,
    decay: float = 3e-3,
    say: Callable[[str], None] | None = None,
) -> tuple[Projection, Projection]:
    """Return the text's and the market's network.

    Args:
        pairs: Sets of pairs, each with its weight; a batch holds pairs of one set.
        seed: Of the first weights and the order.
        epochs: Times that every pair is seen.
        batch: Pairs in a step.
        rate: Adam's, falling to nothing by a cosine.
        decay: Weight decay.
        say: Is told how it goes.
    """
    rng = np.random.default_rng(seed)
    flat = [p.texts.reshape(-1, p.texts.shape[2]) for p, _ in pairs]
    texts = np.concatenate([f[~np.isnan(f[:, 0])] for f in flat]).astype(np.float64)
    text = _Net(texts, rng)
    market = _Net(np.concatenate([m for p, _ in pairs for m in p.markets]), rng)
    steps = [
        (which, start)
        for which, (p, _) in enumerate(pairs)
        for start in range(0, len(p.texts), batch)
    ]
    total, step = epochs * len(steps), 0
    for epoch in range(epochs):
        orders = [rng.permutation(len(p.texts)) for p, _ in pairs]
        losses = []
        for at in rng.permutation(len(steps)):
            which, start = steps[int(at)]
            p, weight = pairs[which]
            rows = orders[which][start : start + batch]
            variant = p.markets[int(rng.integers(len(p.markets)))]
            pace = 0.5 * rate * (1.0 + np.cos(np.pi * step / total))
            step += 1
            if len(rows) > 2:
                given = p.texts[rows].astype(np.float64)
                losses.append(
                    _step(text, market, given, variant[rows], (float(pace), decay, weight), rng)
                )
        if say is not None and epoch % 4 == 3:
            say(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}")
    return text.projection(), market.projection()


def _step(
    text: _Net,
    market: _Net,
    given: Array,
    windows: Array,
    pace: tuple[float, float, float],
    rng: np.random.Generator,
) -> float:
    """Take one step; `pace` is the rate, the decay and the weight of these pairs."""
    weight = pace[2]
    n, k, width = given.shape
    flat = given.reshape(n * k, width)
    real = ~np.isnan(flat[:, 0])
    keep = (rng.random((int(real.sum()), width)) >= DROP) / (1.0 - DROP)
    # Now and then a text is read without its words: what was understood of it must do.
    keep[rng.random(len(keep)) < BLIND, : width - N_TEXT_EXTRAS] = 0.0
    u = np.zeros((n * k, DIM))
    u[real] = text.forward(flat[real], keep)
    v = market.forward(windows)
    own = u.reshape(n, k, DIM)
    # Each window against its own candidates and the other windows' texts.
    near = np.einsum("nd,nkd->nk", v, own) / HEAT
    near[~real.reshape(n, k)] = -np.inf
    far = v @ own[:, 0].T / HEAT
    np.fill_diagonal(far, -np.inf)
    p, loss = _softmax(np.concatenate([near, far], axis=1), np.zeros(n, dtype=np.int64))
    # Each text against the windows.
    q, back = _softmax(own[:, 0] @ v.T / HEAT, np.arange(n))
    p_near, p_far = p[:, :k] / HEAT, p[:, k:] / HEAT
    q /= HEAT
    scale = weight / (2.0 * n)
    dv = np.einsum("nk,nkd->nd", p_near, own) + p_far @ own[:, 0] + q.T @ own[:, 0]
    du = p_near[:, :, None] * v[:, None, :]
    du[:, 0] += p_far.T @ v + q @ v
    text.backward(du.reshape(n * k, DIM)[real] * scale, rate=pace[0], decay=pace[1])
    market.backward(dv * scale, rate=pace[0], decay=pace[1])
    return 0.5 * (loss + back)


def _softmax(logits: Array, right: npt.NDArray[np.int64]) -> tuple[Array, float]:
    """Return the gradient of the mean log loss times n, [n, m], and the loss."""
    logits = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(p))
    loss = -float(np.log(np.maximum(p[rows, right], 1e-30)).mean())
    p[rows, right] -= 1.0
    return p, loss
