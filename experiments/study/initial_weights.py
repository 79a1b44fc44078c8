"""Does it matter whether initial weights are drawn by jax or as the published code draws them?

    python -m experiments.study.initial_weights            (needs torch: pip install -e '.[torch]')

The demo's tasks and settings, 420 steps, the same batches and noise for all. Ten seeds of each way;
then jax's worst run again, with one array at a time from the best run of the published way. What is
compared is the halting loss, the mean of the last 50 steps.

Expected time: 8 minutes on 2 cores of an AMD EPYC. It writes nothing; docs/algorithm.md has the
table.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drm_jax.config import Experiment, with_changes
from drm_jax.data.stream import batches_from
from drm_jax.model.backbone import Network, Params, init_params
from drm_jax.parallel.mesh import global_batch, use_cpu_cores
from drm_jax.run.setup import Setup, set_up, training_stream
from drm_jax.training.state import leaf_names
from drm_jax.training.step import compile_train_step
from experiments.demo import experiment

SEEDS = range(10)
STEPS, LAST = 420, 50
Arrays = dict[str, np.ndarray]


def published_draw(shape: tuple[int, ...], std: float, generator: Any) -> np.ndarray:
    """Float32 numbers of a normal distribution that is cut at two of its standard deviations and
    widened so that `std` is that of what is left; uniform numbers of torch through the inverse of
    the error function."""
    import torch

    bound = math.erf(math.sqrt(2))
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    wide = std / math.sqrt(1 - 4 * density / bound)
    x = torch.empty(shape).uniform_(-bound, bound, generator=generator)
    return (torch.erfinv(x) * math.sqrt(2) * wide).clip(-2 * wide, 2 * wide).numpy()


def drawn_by_jax(setup: Setup, seed: int) -> Arrays:
    """The initial params and constants of a seed, by name."""
    return by_name(*_init(setup.network)(jax.random.key(seed)))


@functools.cache
def _init(network: Network) -> Callable[[jax.Array], tuple[Params, Params]]:
    return jax.jit(functools.partial(init_params, network))


def drawn_as_published(setup: Setup, seed: int) -> Arrays:
    """Likewise, each drawn by torch; the kernels lie there as (out, in)."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    arrays = {}
    for name, like in drawn_by_jax(setup, 0).items():
        if name.startswith("params/halt_"):  # zeros and -5 in both
            arrays[name] = like
        elif like.ndim == 1:  # y_init and z_init
            arrays[name] = published_draw(like.shape, 1.0, generator)
        elif "embed" in name:
            arrays[name] = published_draw(like.shape, like.shape[1] ** -0.5, generator)
        else:
            arrays[name] = published_draw(like.shape[::-1], like.shape[0] ** -0.5, generator).T
    return arrays


def by_name(params: Params, constants: Params) -> Arrays:
    named = {"params": params, "constants": constants}
    return dict(zip(leaf_names(named), map(np.array, jax.tree.leaves(named)), strict=True))


def trainer(setup: Setup) -> Callable[[Arrays], float]:
    """Trains from initial arrays, and gives the halting loss at the end."""
    step = compile_train_step(setup.trained, setup.mesh, setup.shardings)
    make_state = jax.jit(setup.make_state, out_shardings=setup.shardings)

    def run(arrays: Arrays) -> float:
        fresh = make_state()
        named = {"params": fresh.params, "constants": fresh.constants}
        leaves = [arrays[name] for name in leaf_names(named)]
        start = jax.tree.unflatten(jax.tree.structure(named), leaves)
        # Added to zeros, for arrays of its own: the first step takes the memory of the state.
        zeros = jax.tree.map(lambda x: x * 0, fresh.replace(opt_state=None, table=None))
        params = jax.tree.map(jnp.add, zeros.params, start["params"])
        ema = jax.tree.map(jnp.add, zeros.ema, start["params"])
        constants = jax.tree.map(jnp.add, zeros.constants, start["constants"])
        state = fresh.replace(params=params, ema=ema, constants=constants)
        losses = []
        batches = batches_from(training_stream(setup), 0)
        for _ in range(STEPS):
            state, sums = step(state, global_batch(next(batches), setup.mesh))
            # Waited for: steps in flight without end can lock the devices of a CPU.
            losses.append(float(sums["halt_loss"]) / float(sums["count"]))
        return float(np.mean(losses[-LAST:]))

    return run


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and its 95% interval, by a bootstrap."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (10_000, len(values))).mean(axis=1)
    return values.mean(), *np.quantile(means, (0.025, 0.975))


def compare(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Mean difference of two groups, and its 95% interval."""
    rng = np.random.default_rng(0)
    means = [rng.choice(x, (10_000, len(x))).mean(axis=1) for x in (a, b)]
    return b.mean() - a.mean(), *np.quantile(means[1] - means[0], (0.025, 0.975))


def swaps(run: Callable[[Arrays], float], base: Arrays, other: Arrays) -> Iterator[str]:
    """A line for each array of `base` that is replaced by that of `other`."""
    for name in base:
        if not np.array_equal(base[name], other[name]):
            yield f"| {name} | {run(base | {name: other[name]}):.3f} |"


def main() -> None:
    settings: Experiment = with_changes(
        experiment(), {"train.steps": STEPS, "evaluate.untrained": False}
    )
    use_cpu_cores()
    setup = set_up(settings)
    run = trainer(setup)
    ways = {"jax": drawn_by_jax, "as published": drawn_as_published}
    ends = {}
    for way, draw in ways.items():
        for seed in SEEDS:
            ends[way, seed] = run(draw(setup, seed))
            print(f"{way}, seed {seed}: halting loss {ends[way, seed]:.3f}", flush=True)
    groups = {way: np.array([ends[way, seed] for seed in SEEDS]) for way in ways}
    print("\n| drawn | mean [95% interval] | least | most |\n|---|---|---|---|")
    for way, values in groups.items():
        mean, low, high = mean_interval(values)
        least, most = values.min(), values.max()
        print(f"| {way} | {mean:.3f} [{low:.3f}, {high:.3f}] | {least:.3f} | {most:.3f} |")
    difference, low, high = compare(*groups.values())
    print(f"\nas published less jax: {difference:+.3f} [{low:+.3f}, {high:+.3f}]")
    worst, best = (int(f(groups[w])) for f, w in ((np.argmax, "jax"), (np.argmin, "as published")))
    print(f"\nFrom jax's seed {worst}, one array of the published way's seed {best} at a time:\n")
    print("| array | halting loss |\n|---|---|")
    for line in swaps(run, drawn_by_jax(setup, worst), drawn_as_published(setup, best)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
