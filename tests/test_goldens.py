"""Our functions against numbers of the published PyTorch code, on its weights and draws.

goldens/*.npz and *.json are selections of arrays that the published code of DRM (arXiv 2604.18839)
produced on a CPU in float32; the draws it made are stored with them and replayed here.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden_weights import (
    GOLDENS,
    MASK,
    NETWORK,
    OPTIMIZER,
    RECURSION,
    TRAIN,
    optimizer_step,
    read_params,
    row_step,
    whole_step,
)

from drm_jax.corruption.masking import blur_line, correlated_uniform, corrupt
from drm_jax.corruption.remasking import remask_confidence, remask_uniform
from drm_jax.corruption.schedules import denoising_levels, ratio_table
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import forward
from drm_jax.puzzles.arc import augment, identifiers
from drm_jax.puzzles.arc.tokens import crop, to_tokens
from drm_jax.puzzles.dihedral import dihedral
from drm_jax.training.optim import adam_atan2, network_optimizer
from drm_jax.training.state import TrainState
from drm_jax.training.step import Trained

METHOD = Drm(RECURSION)


@pytest.fixture(scope="module")
def drm():
    return np.load(GOLDENS / "drm.npz")


# --- grids, votes, noise -----------------------------------------------------------------------
def test_crop():
    golden = np.load(GOLDENS / "crop.npz")
    for tokens, grid, (h, w) in zip(golden["tokens"], golden["grids"], golden["shapes"]):
        np.testing.assert_array_equal(crop(tokens), grid[:h, :w])


def test_tokens_and_augmentations():
    golden = np.load(GOLDENS / "data_arc.npz")
    for task in golden["tasks"]:
        for i in range(int(golden[f"tok/{task}/num_examples"])):
            for side in ("input", "output"):
                grid = golden[f"tok/{task}/{i}/{side}_grid"]
                offset = tuple(golden[f"tok/{task}/{i}/pad"])
                expected = golden[f"tok/{task}/{i}/{side}_tokens"]
                np.testing.assert_array_equal(to_tokens(grid, 30, offset), expected)
                unmoved = to_tokens(grid, 30)
                expected = golden[f"tok/{task}/{i}/{side}_tokens_nopad"]
                np.testing.assert_array_equal(unmoved, expected)
                np.testing.assert_array_equal(crop(unmoved), grid)
        source = golden[f"aug/{task}/source_grid"]
        for k in range(8):
            np.testing.assert_array_equal(dihedral(source, k), golden[f"dihedral/{task}/{k}"])
        for j in range(4):
            name, expected = str(golden[f"aug/{task}/{j}/name"]), golden[f"aug/{task}/{j}/grid"]
            (task_id,), (transform,), (colours,) = identifiers.parse_names([name], "golden")
            augmentation = augment.Augmentation(int(transform), colours)
            assert augment.augmented_name(task_id, augmentation) == name
            np.testing.assert_array_equal(augment.augment(source, augmentation), expected)
            np.testing.assert_array_equal(augment.undo(expected, augmentation), source)


def test_schedules():
    golden = np.load(GOLDENS / "schedules.npz")
    for schedule in ("linear", "cosine", "sigmoid"):
        ratio = ratio_table(schedule)
        assert ratio.dtype == np.float32
        np.testing.assert_allclose(ratio, golden[f"mask_ratio/{schedule}"], rtol=0, atol=1.3e-7)
    for steps in (4, 8, 16, 20, 32):
        np.testing.assert_array_equal(denoising_levels(steps), golden[f"timesteps/{steps}"])
    kernel = np.outer(blur_line(), blur_line())
    np.testing.assert_allclose(kernel, golden["correlated/kernel"][0, 0], atol=1e-8)
    for normal, uniform in zip(golden["correlated/iid_normal"], golden["correlated/uniform"]):
        np.testing.assert_allclose(correlated_uniform(normal[0]), uniform, rtol=0, atol=5e-7)


# --- training ----------------------------------------------------------------------------------
def golden_batch(drm, step: int) -> dict[str, np.ndarray]:
    """Batch of a stored step, corrupted by our own code with the stored draws."""
    labels = drm[f"train/step{step}/batch/labels"]
    target = np.where(labels == -100, 0, labels).astype(np.uint8)
    noise, level = drm[f"train/step{step}/rng/00_rand"], drm[f"train/step{step}/rng/01_randint"]
    assert level.min() > 0  # level 0 is exactly clean here
    noised = [corrupt(t, n, int(v), "cosine", MASK) for t, n, v in zip(target, noise, level)]
    return {
        "inputs": drm[f"train/step{step}/batch/inputs"].astype(np.uint8),
        "target": target,
        "noised": np.stack(noised),
        "puzzle_id": drm[f"train/step{step}/batch/puzzle_identifiers"].astype(np.int32),
        "weight": np.ones(3, np.float32),  # the published code counts padding rows
    }


def constants_of(drm) -> dict[str, np.ndarray]:
    return {
        "y_init": drm["train/init/core.decode_init"],
        "z_init": drm["train/init/core.scratchpad_init"],
    }


def assert_trees_close(ours, theirs, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), ours, theirs)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_forward_and_loss(drm, step):
    """The three chain steps: frozen weights, each batch with its own stored draws."""
    params, constants = read_params(drm, "train/init/"), constants_of(drm)
    batch, key = golden_batch(drm, step), f"chain/step{step}"
    rows = drm["train/init/core.puzzle_emb.weights"][batch["puzzle_id"]]
    assert_forward(params, rows, constants, batch, drm, key)
    loss, sums, _ = loss_of(params, rows, constants, batch)
    assert_losses(loss, sums, drm, key)


@jax.jit
def forward_of(params, rows, constants, batch):
    x = NETWORK.embed(params, batch["inputs"], rows)
    y = NETWORK.embed(params, batch["noised"], rows, answers=True)
    z = jnp.broadcast_to(constants["z_init"], x.shape)
    return forward(NETWORK, RECURSION, params, x, y, z)


@jax.jit
def loss_of(params, rows, constants, batch):
    return METHOD.loss(NETWORK, params, rows, constants, batch, None)


def assert_forward(params, rows, constants, batch, drm, key: str) -> None:
    """Logits and latents of a training step."""
    logits, q, (y, z) = forward_of(params, rows, constants, batch)
    np.testing.assert_allclose(logits, drm[f"{key}/out/logits"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(q[:, 0], drm[f"{key}/out/q_halt_logits"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(y, drm[f"{key}/carry_out/z_H"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(z, drm[f"{key}/carry_out/z_L"], rtol=0, atol=2e-5)


def assert_losses(loss, sums, drm, key: str) -> None:
    assert float(loss) == pytest.approx(float(drm[f"{key}/loss"]), abs=5e-6)
    for ours, theirs in (("cell_loss", "lm_loss"), ("halt_loss", "q_halt_loss")):
        stored = float(drm[f"{key}/metrics/{theirs}"])
        assert float(sums[ours]) == pytest.approx(stored, abs=5e-6)


def test_gradients_and_optimizers(drm):
    """Each step's gradients at the weights reached; then the optimisers on stored gradients."""
    params, constants = read_params(drm, "train/init/"), constants_of(drm)
    table = drm["train/init/core.puzzle_emb.weights"].copy()
    take_step, shadows = optimizer_step(METHOD.trains_answers), {"0.999": params}
    opt_state = network_optimizer(OPTIMIZER, METHOD.trains_answers).init(params)

    @jax.jit
    def step_gradients(params, rows, batch):
        def loss(params, rows):
            total, sums, _ = loss_of(params, rows, constants, batch)
            return total / 3, (total, sums)

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, rows)

    for step in (1, 2, 3):
        key, batch = f"train/step{step}", golden_batch(drm, step)
        ids = drm[f"{key}/puzzle_emb_local_ids"]
        assert_forward(params, table[ids], constants, batch, drm, key)
        grads, (loss, sums) = step_gradients(params, table[ids], batch)
        assert_losses(loss, sums, drm, key)
        row_grads, stored = drm[f"{key}/grad_puzzle_emb_local"], read_params(drm, f"{key}/grad/")
        for ours, theirs in zip(
            jax.tree.leaves(grads), jax.tree.leaves((stored, row_grads)), strict=True
        ):
            assert np.linalg.norm(ours - theirs) <= 1e-4 * np.linalg.norm(theirs)
        for row in np.unique(ids):
            table[row] = row_step(table[row], row_grads[ids == row].sum(axis=0))
        params, opt_state, shadows = take_step(params, opt_state, shadows, stored)
    expected = read_params(drm, "train/step3/params_after/")
    assert_trees_close(params, expected, rtol=0, atol=5e-7)
    np.testing.assert_allclose(
        table, drm["train/step3/params_after/core.puzzle_emb.weights"], rtol=0, atol=5e-7
    )
    assert_trees_close(shadows["0.999"], read_params(drm, "train/ema0.999/"), rtol=0, atol=5e-7)


def test_three_whole_steps(drm):
    """The compiled step itself: loss of each step, and the parameters after the third."""
    params = read_params(drm, "train/init/")
    table = np.zeros((4096, 32), np.float32)
    table[:7] = drm["train/init/core.puzzle_emb.weights"]
    state, train_step = whole_step(
        Trained(METHOD, NETWORK, OPTIMIZER, TRAIN),
        lambda: TrainState(
            step=jnp.zeros([], jnp.int32),
            params=params,
            constants=constants_of(drm),
            opt_state=network_optimizer(OPTIMIZER, METHOD.trains_answers).init(params),
            ema=params,
            table=jnp.asarray(table),
        ),
    )
    for step in (1, 2, 3):
        state, sums = train_step(state, golden_batch(drm, step))
        expected = float(drm[f"train/step{step}/loss"])
        assert float(sums["loss"]) == pytest.approx(expected, rel=2e-4)
    # AdamATan2 is sign-like: where both gradients are tiny a parameter may differ by 2 lr a step.
    expected = read_params(drm, "train/step3/params_after/")
    assert_trees_close(state.params, expected, rtol=0, atol=6e-4)
    apart = [
        np.mean(np.abs(a - b) > 1e-5)
        for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected), strict=True)
    ]
    assert max(apart) < 0.02
    np.testing.assert_array_equal(state.params["embed_answers"], params["embed_answers"])
    np.testing.assert_allclose(
        state.table[:7], drm["train/step3/params_after/core.puzzle_emb.weights"], atol=1e-6
    )


# --- denoising ---------------------------------------------------------------------------------
@pytest.mark.parametrize("remask", ["uniform", "confidence"])
def test_denoising_steps(drm, remask):
    """Each of the 16 steps from its own stored start."""
    run = f"eval_{remask}"
    params = read_params(drm, "train/init/")
    ids = drm[f"{run}/batch/puzzle_identifiers"]
    rows = drm["train/init/core.puzzle_emb.weights"][ids]
    x = NETWORK.embed(params, drm[f"{run}/batch/inputs"], rows)
    step_forward = jax.jit(lambda y, z: forward(NETWORK, RECURSION, params, x, y, z))
    prefix, table = drm[f"{run}/puzzle_prefix"], params["embed_answers"]
    y, z = (drm[f"{run}/initial_carry/{name}"] for name in ("z_H", "z_L"))
    for step in range(1, 17):
        here = f"{run}/step{step:02}"
        logits, q, (new_y, new_z) = step_forward(y, z)
        np.testing.assert_array_equal(np.argmax(logits, -1), drm[f"{here}/preds"])
        np.testing.assert_allclose(q[:, 0], drm[f"{here}/q_halt_logits"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(logits, drm[f"{here}/logits"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(new_z, drm[f"{here}/z_L"], rtol=0, atol=1e-4)
        if step in (1, 8, 16):  # kept of these alone
            np.testing.assert_allclose(new_y, drm[f"{here}/z_H"], rtol=0, atol=1e-4)
        # The stored start of the next step, which the published code embeds without sqrt(D).
        y = np.concatenate([prefix, table[drm[f"{here}/remask/y_tokens"]]], axis=1)
        if f"{here}/remask/z_H" in drm.files:
            np.testing.assert_array_equal(y, drm[f"{here}/remask/z_H"])
        z = drm[f"{here}/z_L"]


def test_start_of_denoising_is_all_masked(drm):
    rows = drm["train/init/core.puzzle_emb.weights"][drm["eval_uniform/batch/puzzle_identifiers"]]
    params = read_params(drm, "train/init/")
    y = NETWORK.embed(params, np.full((3, 64), MASK), rows, answers=True)
    np.testing.assert_allclose(y, drm["eval_uniform/initial_carry/z_H"], rtol=0, atol=1e-6)


def test_remask_uniform(drm):
    levels = drm["eval_uniform/timesteps"]
    for step in range(1, 17):
        here = f"eval_uniform/step{step:02}"
        draw = drm[f"{here}/remask/rng/00_rand"]
        tokens = remask_uniform(drm[f"{here}/preds"], draw, levels[step - 1], MASK)
        np.testing.assert_array_equal(tokens, drm[f"{here}/remask/y_tokens"])


def test_remask_confidence(drm):
    levels = drm["eval_confidence/timesteps"]
    for step in range(1, 17):
        here = f"eval_confidence/step{step:02}"
        predicted, logits = drm[f"{here}/preds"], drm[f"{here}/logits"]
        confidence = np.asarray(jax.nn.softmax(logits, axis=-1).max(axis=-1))
        priority = np.ones(predicted.shape, np.float32)
        draws = [drm[k] for k in sorted(drm.files) if k.startswith(f"{here}/remask/rng/")]
        masks_any = [
            np.floor(np.float32(levels[step - 1] / 1000) * np.float32((row != 0).sum())) > 0
            for row in predicted
        ]
        for row, permutation in zip(np.flatnonzero(masks_any), draws, strict=True):
            priority[row] = published_priority(
                predicted[row], confidence[row], permutation, int(levels[step - 1])
            )
        tokens = remask_confidence(predicted, confidence, priority, levels[step - 1], MASK)
        np.testing.assert_array_equal(tokens, drm[f"{here}/remask/y_tokens"])


def published_priority(predicted, confidence, permutation, level) -> np.ndarray:
    """The published code permutes the cells not yet taken, in ascending order of confidence."""
    cells = np.flatnonzero(predicted != 0)
    cells = cells[np.argsort(confidence[cells], kind="stable")]
    not_taken = cells[len(cells) - len(permutation) :]
    priority = np.ones(predicted.shape, np.float32)
    priority[not_taken[permutation]] = np.arange(len(permutation)) / len(permutation)
    return priority


def test_adam_atan2_formula():
    """Two steps of one number, by hand."""
    optimizer = adam_atan2(lambda count: 0.1, 0.9, 0.95, 0.5, lambda params: False)
    p, state, update = jnp.array(2.0), optimizer.init(jnp.array(2.0)), jax.jit(optimizer.update)
    m = v = 0.0
    expected = 2.0
    for t, g in ((1, 3.0), (2, -1.0)):
        changes, state = update(jnp.array(g), state, p)
        p = optax.apply_updates(p, changes)
        m, v = m + 0.1 * (g - m), v + 0.05 * (g * g - v)
        direction = np.arctan2(m, np.sqrt(v) / np.sqrt(1 - 0.95**t)) / (1 - 0.9**t)
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * direction
    assert float(p) == pytest.approx(expected, rel=1e-6)
