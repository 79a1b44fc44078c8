"""`trm` and `sprm` against numbers of the published PyTorch code, on its weights and draws.

goldens/trm.npz is of TRM's own repository (arXiv 2510.04871), goldens/sprm.npz of the joint code;
every draw is stored and replayed. The joint code never resets latents when a slot is refilled, so
each of its steps is replayed from its own stored state.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_weights import (
    GOLDENS,
    NETWORK,
    RECURSION,
    TRAIN,
    optimizer_step,
    read_params,
    row_step,
    whole_step,
)
from golden_weights import OPTIMIZER as SETTINGS

from drm_jax.methods import carried
from drm_jax.methods.carried import Carry, Halting, empty_carry, leaves_slot
from drm_jax.methods.sprm import Sprm, kept_signal, perturb
from drm_jax.methods.trm import Trm
from drm_jax.model.recursion import forward
from drm_jax.training.optim import network_optimizer
from drm_jax.training.state import TrainState
from drm_jax.training.step import SLOT_IDS, Trained

TRM, SPRM = Trm(RECURSION, Halting(16, 0.1)), Sprm(RECURSION, Halting(16, 0.1))
OPTIMIZER = network_optimizer(SETTINGS, TRM.trains_answers)
take_step = optimizer_step(TRM.trains_answers)
refill = jax.jit(carried.refill)
HALTED_SUMS = {
    "count": "left",
    "accuracy": "left_accuracy",
    "exact_accuracy": "left_exact_accuracy",
    "q_halt_accuracy": "left_halt_accuracy",
    "steps": "left_steps",
}


@pytest.fixture(scope="module")
def trm():
    return np.load(GOLDENS / "trm.npz")


@pytest.fixture(scope="module")
def sprm():
    return np.load(GOLDENS / "sprm.npz")


def example_of(arrays, key: str) -> dict[str, np.ndarray]:
    """The stored examples of three slots; the published code marks unscored cells with -100."""
    labels = arrays[f"{key}/labels"]
    return {
        "inputs": arrays[f"{key}/inputs"].astype(np.uint8),
        "target": np.where(labels == -100, 0, labels).astype(np.uint8),
        "puzzle_id": arrays[f"{key}/puzzle_identifiers"].astype(np.int32),
        "weight": np.ones(3, np.float32),  # the published code counts padding rows
    }


def golden_batch(arrays, run: str, step: int) -> dict[str, np.ndarray]:
    """An arriving batch with the stored draws of exploration, always the last two of a step."""
    keys = sorted(k for k in arrays.files if k.startswith(f"{run}/step{step}/rng/"))
    chance, least_steps = (arrays[key] for key in keys[-2:])
    drawn = np.where(chance < 0.1, least_steps, 0).astype(np.int32)
    return example_of(arrays, f"train/step{step}/batch") | {"least_steps": drawn}


def constants_of(trm) -> dict[str, np.ndarray]:
    return {"y_init": trm["train/init/inner.H_init"], "z_init": trm["train/init/inner.L_init"]}


def stored_carry(arrays, key: str) -> Carry:
    return Carry(
        example=example_of(arrays, f"{key}/data"),
        y=arrays[f"{key}/z_H"],
        z=arrays[f"{key}/z_L"],
        steps=arrays[f"{key}/steps"],
        left=arrays[f"{key}/halted"],
    )


def assert_carry(ours: Carry, arrays, key: str) -> None:
    """Examples, steps and who left bit for bit; latents within rounding."""
    stored = stored_carry(arrays, key)
    jax.tree.map(np.testing.assert_array_equal, ours.example, stored.example)
    np.testing.assert_array_equal(ours.steps, stored.steps)
    np.testing.assert_array_equal(ours.left, stored.left)
    np.testing.assert_allclose(ours.y, stored.y, rtol=0, atol=2e-5)
    np.testing.assert_allclose(ours.z, stored.z, rtol=0, atol=2e-5)


def assert_losses(loss, sums, arrays, key: str) -> None:
    assert float(loss) == pytest.approx(float(arrays[f"{key}/loss"]), abs=5e-6)
    for ours, theirs in (("cell_loss", "lm_loss"), ("halt_loss", "q_halt_loss")):
        assert float(sums[ours]) == pytest.approx(
            float(arrays[f"{key}/metrics/{theirs}"]), abs=5e-6
        )


@jax.jit
def logits_of(params, rows, carry: Carry):
    x = NETWORK.embed(params, carry.example["inputs"], rows)
    return forward(NETWORK, RECURSION, params, x, carry.y, carry.z)


@functools.partial(jax.jit, static_argnums=0)
def loss_of(method, params, rows, constants, batch, carry: Carry):
    return method.loss(NETWORK, params, rows, constants, batch, carry)


# --- trm ---------------------------------------------------------------------------------------
def test_trm_chain(trm):
    """Three steps with frozen weights: reset, halting, exploration and refill of the slots."""
    params, constants = read_params(trm, "train/init/"), constants_of(trm)
    table = trm["train/init/inner.puzzle_emb.weights"]
    carry = empty_carry(NETWORK, 3)
    for step in (1, 2, 3):
        key = f"chain/step{step}"
        carry, batch = refill(carry, golden_batch(trm, "chain", step), constants)
        rows = table[batch["puzzle_id"]]
        logits, q, _ = logits_of(params, rows, carry)
        np.testing.assert_allclose(logits, trm[f"{key}/out/logits"], rtol=0, atol=2e-5)
        np.testing.assert_allclose(q[:, 0], trm[f"{key}/out/q_halt_logits"], rtol=0, atol=2e-5)
        loss, sums, carry = loss_of(TRM, params, rows, constants, batch, carry)
        assert_losses(loss, sums, trm, key)
        assert_carry(carry, trm, f"{key}/carry_out")


@jax.jit
def step_gradients(params, rows, batch, carry, constants):
    def loss(params, rows):
        total, sums, new = TRM.loss(NETWORK, params, rows, constants, batch, carry)
        return total / 3, (total, sums, new)

    return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, rows)


@dataclasses.dataclass
class Follower:
    """Parameters, moments, averages and puzzle rows, taken on by the stored gradients."""

    arrays: np.lib.npyio.NpzFile
    table: np.ndarray

    def __post_init__(self):
        self.params = read_params(self.arrays, "train/init/")
        self.opt_state = jax.jit(OPTIMIZER.init)(self.params)
        self.averages = dict.fromkeys(("0.999", "0.9"), self.params)

    def assert_step(self, step: int, batch, carry: Carry, constants):
        """Logits, loss, gradients at the weights reached; then takes the step. Gives the carry."""
        key, ids = f"train/step{step}", self.arrays[f"train/step{step}/puzzle_emb_local_ids"]
        np.testing.assert_array_equal(batch["puzzle_id"], ids)
        rows = self.table[ids]
        logits, q, _ = logits_of(self.params, rows, carry)
        np.testing.assert_allclose(logits, self.arrays[f"{key}/out/logits"], rtol=0, atol=2e-5)
        stored_q = self.arrays[f"{key}/out/q_halt_logits"]
        np.testing.assert_allclose(q[:, 0], stored_q, rtol=0, atol=2e-5)
        grads, (loss, sums, carry) = step_gradients(self.params, rows, batch, carry, constants)
        assert_losses(loss, sums, self.arrays, key)
        row_grads = self.arrays[f"{key}/grad_puzzle_emb_local"]
        stored = read_params(self.arrays, f"{key}/grad/")
        for ours, theirs in zip(
            jax.tree.leaves(grads), jax.tree.leaves((stored, row_grads)), strict=True
        ):
            assert np.linalg.norm(ours - theirs) <= 1e-4 * np.linalg.norm(theirs)
        for row in np.unique(ids):
            summed = row_grads[ids == row].sum(axis=0)
            self.table[row] = row_step(self.table[row], summed)
        self.params, self.opt_state, self.averages = take_step(
            self.params, self.opt_state, self.averages, stored
        )
        return carry, sums

    def assert_reached(self, table_name: str) -> None:
        """What the golden file holds of the end, within 5e-7."""
        reached = {
            "train/step3/params_after/": self.params,
            "train/step3/adam_m/": self.opt_state.m,
            "train/step3/adam_v/": self.opt_state.v,
            "train/ema0.999/": self.averages["0.999"],
            "train/ema0.9/": self.averages["0.9"],
        }
        for prefix, ours in reached.items():
            if any(name.startswith(prefix) for name in self.arrays.files):
                jax.tree.map(
                    lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=5e-7),
                    ours,
                    read_params(self.arrays, prefix),
                )
        rows = self.arrays[f"train/step3/params_after/{table_name}"]
        np.testing.assert_allclose(self.table, rows, rtol=0, atol=5e-7)


def test_trm_gradients_and_optimizers(trm):
    """Each step's gradients at the weights reached; then the optimisers on stored gradients."""
    constants, table = constants_of(trm), "inner.puzzle_emb.weights"
    follower, carry = Follower(trm, trm[f"train/init/{table}"].copy()), empty_carry(NETWORK, 3)
    for step in (1, 2, 3):
        key = f"train/step{step}"
        carry, batch = refill(carry, golden_batch(trm, "train", step), constants)
        carry, sums = follower.assert_step(step, batch, carry, constants)
        assert_carry(carry, trm, f"{key}/carry_out")
        for theirs, ours in HALTED_SUMS.items():
            assert float(sums[ours]) == pytest.approx(float(trm[f"{key}/metrics/{theirs}"]))
        carry = stored_carry(trm, f"{key}/carry_out")
    follower.assert_reached(table)


def test_trm_three_whole_steps(trm):
    """The compiled step itself, its carry in the state."""
    params = read_params(trm, "train/init/")
    table = np.zeros((4096, 32), np.float32)
    table[:7] = trm["train/init/inner.puzzle_emb.weights"]
    state, train_step = whole_step(
        Trained(TRM, NETWORK, SETTINGS, TRAIN),
        lambda: TrainState(
            step=jnp.zeros([], jnp.int32),
            params=params,
            constants=constants_of(trm),
            opt_state=OPTIMIZER.init(params),
            ema=params,
            table=jnp.asarray(table),
            carry=empty_carry(NETWORK, 3),
        ),
    )
    for step in (1, 2, 3):
        state, sums = train_step(state, golden_batch(trm, "train", step))
        key = f"train/step{step}"
        assert float(sums["loss"]) == pytest.approx(float(trm[f"{key}/loss"]), rel=2e-4)
        np.testing.assert_array_equal(sums[SLOT_IDS], trm[f"{key}/puzzle_emb_local_ids"])
        np.testing.assert_array_equal(state.carry.steps, trm[f"{key}/carry_out/steps"])
        np.testing.assert_array_equal(state.carry.left, trm[f"{key}/carry_out/halted"])
    # AdamATan2 is sign-like: where both gradients are tiny a parameter may differ by 2 lr a step.
    apart = jax.tree.map(
        lambda a, b: np.mean(np.abs(a - b) > 1e-5),
        state.params,
        read_params(trm, "train/step3/params_after/"),
    )
    assert max(jax.tree.leaves(apart)) < 0.02
    rows = trm["train/step3/params_after/inner.puzzle_emb.weights"]
    np.testing.assert_allclose(state.table[:7], rows, rtol=0, atol=1e-6)


def test_trm_evaluation(trm):
    """Sixteen steps of the carried recursion: every predicted grid is the published one."""
    assert int(trm["eval/num_steps"]) == 16
    params, constants = read_params(trm, "train/init/"), constants_of(trm)
    batch = example_of(trm, "eval/batch")
    rows = trm["train/init/inner.puzzle_emb.weights"][batch["puzzle_id"]]
    answers = jax.jit(
        lambda *of: Trm(RECURSION).answer(
            NETWORK, params, constants, *of, None, steps=16, pad_outside=None
        )
    )(batch["inputs"], rows)
    for step in range(16):
        key = f"eval/step{step + 1:02}"
        np.testing.assert_array_equal(answers.step_predicted[step], trm[f"{key}/preds"])
    np.testing.assert_array_equal(answers.predicted, trm["eval/step16/preds"])
    np.testing.assert_allclose(answers.q_halt, trm["eval/step16/q_halt_logits"], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(answers.step_tokens, answers.step_predicted)
    carry, _ = refill(empty_carry(NETWORK, 3), batch, constants)
    for step in (1, 2, 3):  # from the start, then from the stored latents of the step before
        key = f"eval/step{step:02}"
        logits, q, (y, z) = logits_of(params, rows, carry)
        np.testing.assert_allclose(logits, trm[f"{key}/logits"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(q[:, 0], trm[f"{key}/q_halt_logits"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(y, trm[f"{key}/carry_out/z_H"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(z, trm[f"{key}/carry_out/z_L"], rtol=0, atol=1e-4)
        carry = stored_carry(trm, f"{key}/carry_out")


# --- sprm --------------------------------------------------------------------------------------
@pytest.mark.parametrize("step", [1, 2, 3])
def test_sprm_chain(sprm, step):
    """Each step from its stored state: loss, who leaves, and the perturbed latents."""
    params = read_params(sprm, "train/init/")
    before = "chain/initial_carry" if step == 1 else f"chain/step{step - 1}/carry_out"
    key, table = f"chain/step{step}", sprm["train/init/core.puzzle_emb.weights"]
    after = stored_carry(sprm, f"{key}/carry_out")
    # The joint code keeps the latents of a slot that it refills, and resets its steps alone.
    latents = stored_carry(sprm, before)
    steps = np.where(latents.left, 0, latents.steps)
    carry = Carry(after.example, latents.y, latents.z, steps, latents.left)
    batch = golden_batch(sprm, "chain", step) | after.example
    rows = table[batch["puzzle_id"]]
    logits, q, _ = logits_of(params, rows, carry)
    np.testing.assert_allclose(logits, sprm[f"{key}/out/logits"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(q[:, 0], sprm[f"{key}/out/q_halt_logits"], rtol=0, atol=2e-5)
    loss, sums, carry = loss_of(SPRM, params, rows, {}, batch, carry)
    assert_losses(loss, sums, sprm, key)
    np.testing.assert_array_equal(carry.left, after.left)
    np.testing.assert_array_equal(carry.steps, after.steps)
    rng = f"{key}/rng"
    y, z = (
        jax.jit(perturb)(latent, sprm[f"{rng}/{level}_randint"], sprm[f"{rng}/{noise}_randn_like"])
        for latent, level, noise in ((carry.y, "01", "00"), (carry.z, "03", "02"))
    )
    np.testing.assert_allclose(y, after.y, rtol=0, atol=2e-5)
    np.testing.assert_allclose(z, after.z, rtol=0, atol=2e-5)


def test_sprm_gradients_and_optimizers(sprm):
    """As of trm, each step from its stored state."""
    table = "core.puzzle_emb.weights"
    follower = Follower(sprm, sprm[f"train/init/{table}"].copy())
    before = "chain/initial_carry"
    for step in (1, 2, 3):
        key = f"train/step{step}"
        after, latents = stored_carry(sprm, f"{key}/carry_out"), stored_carry(sprm, before)
        steps = np.where(latents.left, 0, latents.steps)
        carry = Carry(after.example, latents.y, latents.z, steps, latents.left)
        batch = golden_batch(sprm, "train", step) | after.example
        carry, _ = follower.assert_step(step, batch, carry, {})
        np.testing.assert_array_equal(carry.left, after.left)
        np.testing.assert_array_equal(carry.steps, after.steps)
        before = f"{key}/carry_out"
    follower.assert_reached(table)


def test_sprm_evaluation(sprm):
    """Sixteen unperturbed steps from the stored start; the joint code begins all masked."""
    params = read_params(sprm, "train/init/")
    carry = stored_carry(sprm, "eval/initial_carry")
    rows = sprm["train/init/core.puzzle_emb.weights"][
        sprm["eval/batch/puzzle_identifiers"].astype(int)
    ]
    carry = carry.replace(example=example_of(sprm, "eval/batch"))
    for step in range(1, int(sprm["eval/num_steps"]) + 1):
        logits, q, (y, z) = logits_of(params, rows, carry)
        key = f"eval/step{step:02}"
        np.testing.assert_array_equal(np.argmax(logits, -1), sprm[f"{key}/preds"])
        if step <= 3:  # from the stored latents of the step before
            np.testing.assert_allclose(logits, sprm[f"{key}/logits"], rtol=0, atol=1e-4)
            np.testing.assert_allclose(q[:, 0], sprm[f"{key}/q_halt_logits"], rtol=0, atol=1e-4)
            np.testing.assert_allclose(y, sprm[f"{key}/carry_out/z_H"], rtol=0, atol=1e-4)
            np.testing.assert_allclose(z, sprm[f"{key}/carry_out/z_L"], rtol=0, atol=1e-4)
            y, z = (sprm[f"{key}/carry_out/{name}"] for name in ("z_H", "z_L"))
        carry = carry.replace(y=y, z=z)


def test_ddpm_schedule():
    golden = np.load(GOLDENS / "schedules.npz")["ddpm/alphas_cumprod"]
    np.testing.assert_allclose(kept_signal(jnp.arange(1000)), golden, rtol=2e-6, atol=1e-9)


def test_who_leaves():
    """q_halt decides, the cap ends it, and exploration keeps an example for longer."""
    q = jnp.array([1.0, -1.0, 1.0, -1.0, 1.0])
    steps, least = jnp.array([1, 1, 3, 16, 16]), jnp.array([0, 0, 5, 0, 16])
    assert leaves_slot(q, steps, least, 16).tolist() == [True, False, False, True, True]
