"""The encoder with an adapter and heads, in torch, as it is trained: all tasks at once.

The pinned weights stay as they are; pairs of thin matrices beside each of them, the token-type
embedding and one linear head per task are learnt. Matrices are multiplied in bf16, which processors
with tile units do tens of times faster than fp32. Attention is written out, because the fused kernel's
backward pass takes a hundred times as long on the CPU.

Source:
    Hu et al. (2021), "LoRA: low-rank adaptation of large language models".
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.narrative.reading.minilm import DIM, N_HEADS, N_LAYERS, Adapter, Weights

MARKS: Final = "embeddings.token_type_embeddings.weight"
_EPSILON: Final = 1e-12
_SETTLED: Final = 0.3
"""Share of the steps after which the running mean begins."""
_TO: Final = 8
"""Batches are padded to a multiple of this, so that few shapes have to be prepared."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One labelled question, as tokens."""

    task: str
    ids: NDArray[np.int64]
    types: NDArray[np.int64]
    label: int
    weight: float = 1.0


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """How the network is trained."""

    rank: int = 32
    n_epochs: int = 4
    batch: int = 32
    rate: float = 1e-3
    head_rate: float = 1e-3
    decay: float = 0.01
    dropout: float = 0.1
    warm_up: float = 0.06
    """Share of the steps over which the rate rises."""
    average: float = 0.995
    """How much of the running mean of the weights each step keeps; that mean is what is kept in the end."""
    swap: float = 0.2
    """Chance that a name is exchanged for another."""
    join: float = 0.25
    """Chance that another text is joined to the one asked about."""
    seed: int = 0


def _pair_class() -> Any:
    import torch
    from torch import nn
    from torch.nn import functional as f

    class Paired(nn.Module):  # type: ignore[misc]
        """A frozen matrix with a thin pair beside it."""

        def __init__(self, weight: Any, bias: Any, rank: int) -> None:
            super().__init__()
            self.register_buffer("weight", weight.to(torch.bfloat16))
            self.register_buffer("bias", bias.to(torch.bfloat16))
            n_out, n_in = weight.shape
            self.down = nn.Parameter(torch.randn(rank, n_in) / math.sqrt(n_in))
            self.up = nn.Parameter(torch.zeros(n_out, rank))

        def forward(self, x: Any) -> Any:
            thin = f.linear(x, self.down.to(x.dtype))
            return f.linear(x, self.weight, self.bias) + f.linear(thin, 2.0 * self.up.to(x.dtype))

    return Paired


class Network:
    """The network in torch.

    Args:
        weights: The pinned ones, fp32.
        n_classes: By task.
        schedule: Rank and dropout.
    """

    def __init__(self, weights: Weights, n_classes: Mapping[str, int], schedule: Schedule) -> None:
        import torch
        from torch import nn

        self._torch: Any = torch
        self._n_dropped = round(256 * schedule.dropout)
        self._chance = np.random.default_rng(schedule.seed)
        torch.manual_seed(schedule.seed)
        paired = _pair_class()
        made = {name: torch.from_numpy(np.ascontiguousarray(w)) for name, w in weights.items()}
        short = {name: made[name].to(torch.bfloat16) for name in made}
        self._words = short["embeddings.word_embeddings.weight"]
        self._places = short["embeddings.position_embeddings.weight"]
        self._norms = {name: short[name] for name in short if "LayerNorm" in name}
        self._pairs: dict[str, Any] = {}
        for name, weight in made.items():
            if name.endswith("weight") and weight.ndim == 2 and ".layer." in name:
                bias = made[name.removesuffix("weight") + "bias"]
                self._pairs[name.removesuffix(".weight")] = paired(weight, bias, schedule.rank)
        self._marks = nn.Parameter(made[MARKS].clone())
        self._first_marks = made[MARKS].numpy().copy()
        self.heads = {task: nn.Linear(3 * DIM, n) for task, n in n_classes.items()}
        for head in self.heads.values():
            nn.init.normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)

    def body_parameters(self) -> list[Any]:
        """Return what is learnt of the encoder."""
        pairs = [p for pair in self._pairs.values() for p in (pair.down, pair.up)]
        return [self._marks, *pairs]

    def head_parameters(self) -> list[Any]:
        """Return what is learnt of the heads."""
        return [p for head in self.heads.values() for p in head.parameters()]

    def adapter(self) -> Adapter:
        """Return what was learnt of the encoder, as it is added to the pinned weights."""
        out = {
            f"{name}.weight": (
                pair.down.detach().numpy().copy(),
                2.0 * pair.up.detach().numpy(),
            )
            for name, pair in self._pairs.items()
        }
        change = self._marks.detach().numpy() - self._first_marks
        out[MARKS] = (change, np.eye(2, dtype=np.float32))
        return out

    def features(self, batch: Sequence[Question], *, is_training: bool) -> Any:
        """Return [n, 3 * DIM]: first token, mean, span (the mean where nothing is marked)."""
        torch = self._torch
        ids, seen, types = (torch.from_numpy(a) for a in _padded(batch))
        x = self._states(ids, seen, types, is_training=is_training).float()
        here = seen[..., None].float()
        mean = (x * here).sum(1) / here.sum(1)
        marked = (types * seen)[..., None].float()
        n = marked.sum(1)
        span = torch.where(n > 0, (x * marked).sum(1) / n.clamp(min=1), mean)
        return torch.cat([x[:, 0], mean, span], 1)

    def logits(self, batch: Sequence[Question], *, is_training: bool) -> Any:
        """Return a batch's logits [n, C]; all its questions are of one task."""
        z = self._dropped(self.features(batch, is_training=is_training), is_training)
        return self.heads[batch[0].task](z)

    def _states(self, ids: Any, seen: Any, types: Any, *, is_training: bool) -> Any:
        torch = self._torch
        x = self._words[ids] + self._places[: ids.shape[1]]
        x = self._norm(x + self._marks.to(torch.bfloat16)[types], "embeddings.LayerNorm")
        x = self._dropped(x, is_training)
        mask = (1.0 - seen[:, None, None, :].to(x.dtype)) * -1e4
        for i in range(N_LAYERS):
            x = self._layer(f"encoder.layer.{i}", x, mask, is_training=is_training)
        return x

    def _layer(self, at: str, x: Any, mask: Any, *, is_training: bool) -> Any:
        gelu = self._torch.nn.functional.gelu
        n, length, _ = x.shape
        q, k, v = (
            self._pairs[f"{at}.attention.self.{part}"](x)
            .view(n, length, N_HEADS, DIM // N_HEADS)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        share = (q * (DIM // N_HEADS) ** -0.5 @ k.transpose(-1, -2) + mask).softmax(-1)
        read = (share @ v).transpose(1, 2).reshape(n, length, DIM)
        read = self._dropped(self._pairs[f"{at}.attention.output.dense"](read), is_training)
        x = self._norm(x + read, f"{at}.attention.output.LayerNorm")
        y = self._pairs[f"{at}.output.dense"](gelu(self._pairs[f"{at}.intermediate.dense"](x)))
        return self._norm(x + self._dropped(y, is_training), f"{at}.output.LayerNorm")

    def _norm(self, x: Any, at: str) -> Any:
        norm = self._torch.nn.functional.layer_norm
        return norm(x, (DIM,), self._norms[f"{at}.weight"], self._norms[f"{at}.bias"], _EPSILON)

    def _dropped(self, x: Any, is_training: bool) -> Any:  # noqa: FBT001 - a flag of the caller's
        if not is_training or not self._n_dropped:
            return x
        # One random byte an element: the library's own draw takes three quarters of a step on the CPU.
        drawn = np.frombuffer(self._chance.bytes(x.numel()), dtype=np.uint8)
        kept = self._torch.from_numpy(drawn >= self._n_dropped).view(x.shape)
        return x * (kept.to(x.dtype) * (256.0 / (256 - self._n_dropped)))


def _padded(batch: Sequence[Question]) -> tuple[NDArray[np.int64], ...]:
    length = -(-max(len(q.ids) for q in batch) // _TO) * _TO
    ids, seen, types = (np.zeros((len(batch), length), dtype=np.int64) for _ in range(3))
    for i, question in enumerate(batch):
        n = len(question.ids)
        ids[i, :n], seen[i, :n], types[i, :n] = question.ids, 1, question.types
    return ids, seen, types


def batches(
    questions: Sequence[Question], size: int, rng: np.random.Generator
) -> list[list[Question]]:
    """Return an epoch: batches of one task and of similar length, in random order."""
    by_task: dict[str, list[Question]] = {}
    for question in questions:
        by_task.setdefault(question.task, []).append(question)
    out = []
    for held in by_task.values():
        mixed = [held[i] for i in rng.permutation(len(held))]
        for start in range(0, len(mixed), 16 * size):
            chunk = sorted(mixed[start : start + 16 * size], key=lambda q: len(q.ids))
            out += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    return [out[i] for i in rng.permutation(len(out))]


def train(
    network: Network,
    questions: Sequence[Question],
    schedule: Schedule,
    changed: Callable[[list[Question]], list[Question]] = list,
    on_step: Callable[[int, int, float], None] | None = None,
) -> None:
    """Train a network on labelled questions; it ends as the running mean of what it was.

    Args:
        network: Changed in place.
        questions: Of the network's tasks.
        schedule: Rates, epochs, batches.
        changed: Makes of a batch the one that is learnt from.
        on_step: Told steps done, steps in all and the step's loss.
    """
    import torch

    rng = np.random.default_rng(schedule.seed)
    body, heads = network.body_parameters(), network.head_parameters()
    rates = (schedule.rate, schedule.head_rate)
    optimiser = torch.optim.AdamW(
        [{"params": body, "lr": rates[0]}, {"params": heads, "lr": rates[1]}],
        weight_decay=schedule.decay,
        betas=(0.9, 0.98),
    )
    steps = [
        batch for _ in range(schedule.n_epochs) for batch in batches(questions, schedule.batch, rng)
    ]
    n_warm = max(1, int(schedule.warm_up * len(steps)))
    mean = _RunningMean([*body, *heads], schedule.average)
    with one_thread():
        for i, batch in enumerate(steps):
            share = min((i + 1) / n_warm, (len(steps) - i) / max(1, len(steps) - n_warm))
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * share
            loss = _loss(network, changed(batch))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(body, 1.0)
            optimiser.step()
            if i >= _SETTLED * len(steps):
                mean.take()
            if on_step is not None:
                on_step(i + 1, len(steps), float(loss.detach()))
    mean.give()


class _RunningMean:
    """The exponentially weighted mean of a network's parameters.

    Source:
        Polyak & Juditsky (1992), "Acceleration of stochastic approximation by averaging".
    """

    def __init__(self, parameters: Sequence[Any], keep: float) -> None:
        self._parameters = parameters
        self._keep = keep
        self._mean: list[Any] = []

    def take(self) -> None:
        """Take the parameters as they are."""
        now = [p.detach() for p in self._parameters]
        if not self._mean:
            self._mean = [p.clone() for p in now]
        for mean, p in zip(self._mean, now, strict=True):
            mean.lerp_(p, 1.0 - self._keep)

    def give(self) -> None:
        """Put the mean in the parameters' place."""
        for p, mean in zip(self._parameters, self._mean, strict=True):
            p.data.copy_(mean)


def _loss(network: Network, batch: Sequence[Question]) -> Any:
    import torch

    label = torch.tensor([q.label for q in batch])
    weight = torch.tensor([q.weight for q in batch], dtype=torch.float32)
    z = network.logits(batch, is_training=True)
    return (torch.nn.functional.cross_entropy(z, label, reduction="none") * weight).mean()


def read_out(network: Network, questions: Sequence[Question]) -> NDArray[np.float64]:
    """Return what the heads make of questions of one task: log probabilities [n, C]."""
    import torch

    order = sorted(range(len(questions)), key=lambda i: len(questions[i].ids))
    out: list[NDArray[np.float64]] = [np.zeros(0)] * len(questions)
    with torch.no_grad(), one_thread():
        for start in range(0, len(order), 64):
            picked = order[start : start + 64]
            z = network.logits([questions[i] for i in picked], is_training=False)
            said = z.log_softmax(1).numpy().astype(np.float64)
            for i, row in zip(picked, said, strict=True):
                out[i] = row
    return np.array(out)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums in one order, and a core left for others."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
