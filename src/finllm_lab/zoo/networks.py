"""Small networks in torch, fitted the same way each time: a dense one, and a convolution over time.

The dense one reads a row and can be served; the convolution reads the last rows of its session and is
a teacher only. Both learn all horizons at once, and every batch with its mirror image. Torch is loaded
when something is fitted.

Source:
    Bai, Kolter & Koltun (2018), "An empirical evaluation of generic convolutional and recurrent
    networks", for the causal, dilated convolution with residuals.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from finllm.edge.linear import CLIP
from finllm_lab.zoo.graphs import Layers, softmax
from finllm_lab.zoo.parts import Part

Array = NDArray[np.float64]
N_CLASSES: Final = 3
N_BACK: Final = 16
"""Rows of its session that the convolution reads, this one included."""
DILATIONS: Final = (1, 2, 4, 8)


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """How a network is fitted."""

    hidden: tuple[int, ...] = (32,)
    """Units of each hidden layer; the convolution uses the first for its channels."""
    n_epochs: int = 6
    batch: int = 512
    rate: float = 2e-3
    decay: float = 1e-2
    dropout: float = 0.2
    seed: int = 0


class Convolution:
    """A fitted convolution over time: claims of a part's grid points from the rows up to each."""

    def __init__(self, net: Any, scale: tuple[Array, Array]) -> None:
        self._net = net
        self._scale = scale

    def claims(self, part: Part) -> Array:
        """Return class probabilities, float64 [n, H, 3]."""
        import torch

        z = _standardised(part.rows, self._scale)
        with torch.no_grad(), _one_thread():
            said = [
                self._net(torch.from_numpy(z[_back(span, 0)])).numpy()
                for span in np.array_split(np.arange(len(z)), max(1, len(z) // 4_096))
            ]
        return softmax(np.concatenate(said).astype(np.float64).reshape(len(z), -1, N_CLASSES))


def fit_dense(parts: Sequence[Part], odd: NDArray[np.bool_], schedule: Schedule) -> Layers:
    """Return a dense network over single rows."""
    scale = _scale(parts, odd)

    def build(width: int, n_out: int) -> Any:
        from torch import nn

        sizes = [width, *schedule.hidden]
        steps: list[Any] = [nn.Flatten()]
        for a, b in pairwise(sizes):
            steps += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(schedule.dropout)]
        return nn.Sequential(*steps, nn.Linear(sizes[-1], n_out))

    net = _fitted(parts, odd, scale, schedule, build, n_back=1)
    dense = [step for step in net if hasattr(step, "weight")]
    return Layers(
        centre=scale[0],
        spread=scale[1],
        weights=tuple(_rounded(step.weight.detach().numpy().T) for step in dense),
        biases=tuple(_rounded(step.bias.detach().numpy()) for step in dense),
    )


def fit_convolution(
    parts: Sequence[Part], odd: NDArray[np.bool_], schedule: Schedule
) -> Convolution:
    """Return a causal, dilated convolution over the last rows."""
    scale = _scale(parts, odd)

    def build(width: int, n_out: int) -> Any:
        return _convolution(width, schedule.hidden[0], n_out, schedule.dropout)

    return Convolution(_fitted(parts, odd, scale, schedule, build, n_back=N_BACK), scale)


def _convolution(width: int, channels: int, n_out: int, dropout: float) -> Any:
    import torch
    from torch import nn

    class Net(nn.Module):  # type: ignore[misc] # torch may be absent, then its classes are Any
        """Residual blocks of dilated convolutions; the last row also speaks by itself."""

        def __init__(self) -> None:
            super().__init__()
            self.enter = nn.Conv1d(width, channels, 1)
            self.blocks = nn.ModuleList(
                nn.Conv1d(channels, channels, 2, dilation=dilation) for dilation in DILATIONS
            )
            self.drop = nn.Dropout(dropout)
            self.leave = nn.Linear(channels + width, n_out)

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.enter(x.transpose(1, 2)))
            for block, dilation in zip(self.blocks, DILATIONS, strict=True):
                ahead = nn.functional.pad(y, (dilation, 0))
                y = y + self.drop(torch.relu(block(ahead)))
            return self.leave(torch.cat([y[:, :, -1], x[:, -1]], dim=1))

    return Net()


def _scale(parts: Sequence[Part], odd: NDArray[np.bool_]) -> tuple[Array, Array]:
    rows = np.concatenate([part.rows for part in parts])
    centre = np.where(odd, 0.0, rows.mean(axis=0))
    spread = np.sqrt(((rows - centre) ** 2).mean(axis=0))
    return _rounded(centre), _rounded(np.where(spread > 1e-9, np.maximum(spread, 1e-3), 1.0))


def _standardised(rows: Array, scale: tuple[Array, Array]) -> NDArray[np.float32]:
    centre, spread = scale
    return np.clip((rows - centre) / spread, -CLIP, CLIP).astype(np.float32)


def _back(at: NDArray[np.int64], start: int, n_back: int = N_BACK) -> NDArray[np.int64]:
    """Return the last rows up to each, int64 [n, n_back], oldest first; the first stands in before it."""
    back: NDArray[np.int64] = np.maximum(at[:, None] - np.arange(n_back)[::-1], start)
    return back


def _rounded(values: Any) -> Array:
    """Round, so that the last bits of a sum do not show in an artifact's hash."""
    return np.asarray(np.round(values, 5) + 0.0, dtype=np.float64)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Fit or ask on one thread, from a state of chance that nobody else sees."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)


def _fitted(
    parts: Sequence[Part],
    odd: NDArray[np.bool_],
    scale: tuple[Array, Array],
    schedule: Schedule,
    build: Callable[[int, int], Any],
    *,
    n_back: int,
) -> Any:
    import torch
    from torch import nn

    z = torch.from_numpy(np.concatenate([_standardised(p.rows, scale) for p in parts]))
    label = torch.from_numpy(np.concatenate([part.targets.label for part in parts]))
    starts = np.cumsum([0, *(len(part.rows) for part in parts)])
    back = torch.from_numpy(
        np.concatenate([_back(np.arange(a, b), a, n_back) for a, b in pairwise(starts)])
    )
    sign = torch.from_numpy(np.where(odd, -1.0, 1.0).astype(np.float32))
    with _one_thread():
        torch.manual_seed(schedule.seed)
        net = build(z.shape[1], N_CLASSES * label.shape[1])
        pace = torch.optim.AdamW(net.parameters(), lr=schedule.rate, weight_decay=schedule.decay)
        n_steps = schedule.n_epochs * -(-len(z) // schedule.batch)
        slow = torch.optim.lr_scheduler.CosineAnnealingLR(pace, n_steps)
        for _ in range(schedule.n_epochs):
            for at in torch.randperm(len(z)).split(schedule.batch):
                rows, truth = z[back[at]], label[at]
                mirror = torch.where(truth >= 0, 2 - truth, truth)
                said = net(torch.cat([rows, rows * sign])).reshape(-1, N_CLASSES)
                aims = torch.cat([truth, mirror]).reshape(-1)
                loss = nn.functional.cross_entropy(said, aims, ignore_index=-1)
                pace.zero_grad()
                loss.backward()
                pace.step()
                slow.step()
    return net.eval()
