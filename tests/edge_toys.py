"""A small artifact with a network that says something, for the edge's tests."""

import numpy as np
from numpy.typing import NDArray

from finllm.domain.instrument import Horizon
from finllm.domain.spec import Feature, FeatureSpec
from finllm.edge.artifact import Card, HorizonPrior, Learning, Manifest, RegimeRule
from finllm.edge.linear import Network

COLUMNS = ("obi_1", "sigma", "a", "b", "c")
NORMAL = (-1.28, -0.67, 0.0, 0.67, 1.28)
HORIZONS = tuple(
    Horizon(name=f"{s:g}s", ns=int(s * 1e9), nominal_s=s, band="half_spread" if s <= 1 else "sigma")
    for s in (0.5, 1.0, 10.0)
)


def spec_of(*names: str) -> FeatureSpec:
    features = tuple(Feature(name=name, unit="1", source="toy") for name in names)
    return FeatureSpec(name="toy", version=1, features=features)


def rule_of() -> RegimeRule:
    """Return a rule that goes by the size of moves alone."""
    shares = ((0.70, 0.29, 0.009, 0.001), (0.4, 0.5, 0.09, 0.01), (0.1, 0.2, 0.4, 0.3))
    sizes = tuple(tuple(share[k] / 10 for share in shares) for k in range(4))
    return RegimeRule(
        row_s=0.0, fast_s=5.0, slow_s=60.0, least_n=100.0,
        wait_s=1.0, step_bps=1.0, prior_s=0.0, small=1.5, large=4.0, confirm=0.95,
        chain=((0.99, 0.008, 0.002), (0.005, 0.99, 0.005), (0.002, 0.008, 0.99)),
        table=sizes * 20,
    )  # fmt: skip


def manifest_of(spec: FeatureSpec) -> Manifest:
    priors = tuple(
        HorizonPrior(
            horizon=horizon,
            tilt_c=1.0,
            climatology=(0.2, 0.6, 0.2),
            climatology_q=NORMAL,
            baseline_logit=(-1.0, -1.0, -1.0, 1.0),
            ewma_scale=1.0,
        )
        for horizon in HORIZONS
    )
    return Manifest(
        format=1,
        name="toy",
        version="",
        spec_hash=spec.hash,
        columns=tuple(spec.columns),
        sigma_column="sigma",
        baseline_column="obi_1",
        priors=priors,
        learning=Learning(
            refit_ns=20 * 10**9, grid_s=0.1, prior_n=5.0, baseline_prior_n=5.0, half_life_n=0.0
        ),
        regime=rule_of(),
        card=Card(data=(), licence_class="A", splits="", scores=(), limits=()),
        model_sha256="",
    )


def prior_network(
    n_features: int, probabilities: NDArray[np.float64], quantiles: NDArray[np.float64]
) -> Network:
    """Return a network that says the same of every row: class frequencies and quantiles.

    Args:
        n_features: Columns of a row.
        probabilities: float64 [H, 3].
        quantiles: float64 [H, 5], scale-free.
    """
    bias = np.concatenate([np.log(probabilities), quantiles], axis=1).reshape(-1)
    return Network(
        centre=np.zeros(n_features),
        spread=np.ones(n_features),
        weights=np.zeros((2 * n_features, len(bias))),
        bias=bias,
        dead_zone=np.zeros(len(bias)),
    )


def network_of(spec: FeatureSpec, seed: int = 0) -> Network:
    flat = prior_network(
        len(spec), np.array([(0.2, 0.6, 0.2)] * len(HORIZONS)), np.array([NORMAL] * len(HORIZONS))
    )
    rng = np.random.default_rng(seed)
    return Network(
        centre=flat.centre,
        spread=flat.spread,
        weights=rng.normal(0.0, 0.1, flat.weights.shape),
        bias=flat.bias,
        dead_zone=flat.dead_zone,
    )
