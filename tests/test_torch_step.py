"""The PyTorch step that ours is timed against computes the same: else its time says nothing."""

import jax
import numpy as np
import pytest

from benchmarks.step import case_of, experiment_of, flops_of
from benchmarks.torch_step import best_types, sizes_of
from drm_jax.methods.drm import Drm
from drm_jax.model.backbone import init_params
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer

torch = pytest.importorskip("torch", reason="needs torch: make test-all")
torch_network = pytest.importorskip("benchmarks.torch_network")

SIDE, BATCH = 4, 3
SIZES = torch_network.Sizes(32, 2, 96, cycles=2, inner_steps=2, prefix=3, cells=SIDE**2)
MODEL = Transformer(hidden=32, heads=2, prefix=3, swiglu_multiple=16)
METHOD = Drm(Recursion(cycles=2, inner_steps=2))


def network(dtype: str):
    model = Transformer(hidden=32, heads=2, prefix=3, swiglu_multiple=16, dtype=dtype)
    return model.network(13, [(SIDE, SIDE)], "cpu")


def as_torch(params) -> dict[str, torch.Tensor]:
    """Our weights, or their gradients, as the PyTorch network names and lays them out."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = "/".join(key.key for key in path).removesuffix("/kernel")
        name = name.replace("attention/", "").replace("swiglu/", "")
        array = np.array(leaf)
        found[name] = torch.from_numpy(array if name.startswith("embed") else array.T.copy())
    return found


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    inputs, noised = rng.integers(0, 13, (2, BATCH, SIDE**2))
    target = rng.integers(0, 12, (BATCH, SIDE**2))  # 0 isn't scored
    rows = rng.normal(size=(BATCH, 32)).astype(np.float32)
    return {"inputs": inputs, "noised": noised, "target": target, "rows": rows}


def torch_loss(weights, constants, batch, rows):
    z_init = torch.from_numpy(np.array(constants["z_init"]))
    tokens = [torch.from_numpy(batch[name]) for name in ("inputs", "noised")]
    angles = torch_network.rotary_angles(SIZES.prefix + SIZES.cells, 16)
    found = torch_network.forward(weights, SIZES, angles, *tokens, rows, z_init)
    return torch_network.loss_of(*found, torch.from_numpy(batch["target"]))


def our_loss(params, constants, batch, rows, dtype):
    whole = {**batch, "weight": np.ones(BATCH, np.float32)}
    return METHOD.loss(network(dtype), params, rows, constants, whole, None)[0] / BATCH


def our_gradients(params, constants, batch, dtype):
    """(loss, gradients by PyTorch's names) of ours."""
    gradient = jax.jit(jax.value_and_grad(our_loss, (0, 3)), static_argnums=4)
    loss, (grads, row_grads) = gradient(params, constants, batch, batch["rows"], dtype)
    return float(loss), {**as_torch(grads), "rows": torch.from_numpy(np.array(row_grads))}


def torch_gradients(params, constants, batch, dtype):
    """The same of PyTorch's."""
    weights = {name: w.requires_grad_() for name, w in as_torch(params).items()}
    rows = torch.from_numpy(batch["rows"]).requires_grad_()
    cast = torch_network.cast(weights, getattr(torch, dtype))
    loss = torch_loss(cast, constants, batch, rows)
    loss.backward()
    return loss.item(), {name: w.grad for name, w in (weights | {"rows": rows}).items()}


def test_loss_and_gradients_are_ours(batch):
    given = *init_params(network("float32"), jax.random.key(0)), batch
    loss, expected = our_gradients(*given, "float32")
    theirs, grads = torch_gradients(*given, "float32")
    assert theirs == pytest.approx(loss, rel=1e-6)
    assert grads.pop("embed_answers") is None
    assert not expected.pop("embed_answers").any()
    _, exact = torch_gradients(*given, "float64")
    for name, grad in expected.items():
        # How far float32 is off depends on the processor: ours is hardly more so than theirs.
        theirs_off = (grads[name] - exact[name]).norm()
        assert theirs_off < 2e-5 * exact[name].norm(), name
        assert (grad - exact[name]).norm() < 4 * theirs_off + 1e-6 * exact[name].norm(), name

    # In bfloat16 both are as far from that, by rounding.
    errors = []
    for gradients in (our_gradients, torch_gradients):
        found, of_type = gradients(*given, "bfloat16")
        assert found == pytest.approx(loss, rel=0.02)
        squares = [(of_type[name].float() - grad).norm() ** 2 for name, grad in expected.items()]
        errors.append(sum(squares) ** 0.5)
    assert errors[0] / 2 < errors[1] < errors[0] * 2


def test_as_many_parameters_and_flops():
    case = case_of(size="demo", batch=2)
    sizes, experiment = sizes_of(case), experiment_of(case)
    network = experiment.model.network(13, experiment.data.boards, "cpu")
    params = jax.eval_shape(lambda: init_params(network, jax.random.key(0))[0])
    weights = torch_network.init_weights(sizes)
    assert sum(w.numel() for w in weights.values()) == sum(x.size for x in jax.tree.leaves(params))

    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    step = torch_network.make_step(sizes, 2, torch.float32)
    # As plain products: its fused kernel counts what it computes again for the gradient.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    of_embedding = 2 * sizes.cells * sizes.vocab * sizes.hidden  # PyTorch gathers
    ours = flops_of(experiment, "train") - 3 * of_embedding
    assert counter.get_total_flops() == pytest.approx(2 * ours, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_learns(dtype):
    torch.manual_seed(0)
    step = torch_network.make_step(SIZES, 2, dtype)
    losses = [step() for _ in range(20)]
    assert losses[-1] < losses[0]


def test_each_library_in_its_faster_type():
    seconds = {"PyTorch": (4.0, 2.0), "drm_jax": (1.0, 3.0)}
    results = [
        {"size": "7m", "batch": 2, "library": library, "dtype": dtype, "seconds": s}
        for library, of_types in seconds.items()
        for dtype, s in zip(("float32", "bfloat16"), of_types)
    ]
    (line,) = best_types(results)
    assert "PyTorch 2.0000 s (bfloat16), drm_jax 1.0000 s (float32): 2.00 times" in line
