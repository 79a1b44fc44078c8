"""Sudoku and mazes against numbers of TRM's published PyTorch code, on its weights and draws.

Three networks: the token mixer and attention on 9x9 boards of Sudoku, and attention on mazes, of
8x8 and 30x30. All puzzles share one id: the published row 0, which is row 1 of ours. What the files
hold is compared whole, or at every 29th number where an array has more than 4,096.
"""

import dataclasses
import functools
import json

import jax
import numpy as np
import optax
import pytest
from golden_weights import GOLDENS

from drm_jax.config import Optimizer, Train
from drm_jax.data.stream import BatchOrder, VisitOrder
from drm_jax.methods.carried import Halting, empty_carry, refill
from drm_jax.methods.loss import score_examples, weighted_sums
from drm_jax.methods.trm import Trm
from drm_jax.model.recursion import Recursion, read_out
from drm_jax.model.transformer import TokenMixer, Transformer, TransformerNetwork
from drm_jax.parallel.mesh import make_mesh
from drm_jax.published.weights import TRM, parameter_names, parameter_tree
from drm_jax.puzzles.fixed import PUZZLE_ID
from drm_jax.training.optim import average, network_optimizer, sign_sgd
from drm_jax.training.state import TrainState, state_shardings
from drm_jax.training.step import SLOT_IDS, Trained, make_train_step

MODELS = ("trm_sudoku_mlp", "trm_sudoku_att", "trm_maze")
STRIDE, LARGEST = 29, 4096
EVAL_STEPS = 16
QUICK: dict[str, bool | int] = {"xla_backend_optimization_level": 0}
"""These programs run a few times: to compile them takes longer."""
if jax.__version_info__ < (0, 12):  # which has no such option
    QUICK["xla_cpu_use_fusion_emitters"] = False
_SUMS = {"lm_loss": "cell_loss", "q_halt_loss": "halt_loss"}
_SUMS_OF_LEFT = {
    "count": "left",
    "accuracy": "left_accuracy",
    "exact_accuracy": "left_exact_accuracy",
    "q_halt_accuracy": "left_halt_accuracy",
    "steps": "left_steps",
}


# --- what a file holds --------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Golden:
    """A file, and the network and method that its options say."""

    arrays: np.lib.npyio.NpzFile

    @functools.cached_property
    def options(self) -> dict:
        return json.loads(str(self.arrays["meta/config"]))

    @functools.cached_property
    def optimizer(self) -> Optimizer:
        said = json.loads(str(self.arrays["meta/hparams"]))
        return Optimizer(
            learning_rate=said["lr"],
            weight_decay=said["weight_decay"],
            beta1=said["beta1"],
            beta2=said["beta2"],
            puzzle_learning_rate=said["puzzle_emb_lr"],
            puzzle_weight_decay=said["puzzle_emb_weight_decay"],
            warmup_steps=0,
            ema=0.999,
        )

    @functools.cached_property
    def method(self) -> Trm:
        said = self.options
        halting = Halting(said["halt_max_steps"], said["halt_exploration_prob"])
        return Trm(Recursion(said["H_cycles"], said["L_cycles"]), halting, mask_token=False)

    @functools.cached_property
    def network(self) -> TransformerNetwork:
        return self.network_of(int(self.options["seq_len"] ** 0.5))

    def network_of(self, side: int) -> TransformerNetwork:
        said = self.options
        sizes = {
            "hidden": said["hidden_size"],
            "layers": said["L_layers"],
            "prefix": said["puzzle_emb_len"],
            "expansion": float(said["expansion"]),
        }
        heads = said["num_heads"]
        model = TokenMixer(**sizes) if said["mlp_t"] else Transformer(heads=heads, **sizes)
        return model.network(said["vocab_size"], [(side, side)], "cpu")

    @functools.cached_property
    def names(self) -> dict[str, str]:
        mixer = "mlp" if self.options["mlp_t"] else "attention"
        return parameter_names(TRM, self.options["L_layers"], mixer)

    @functools.cached_property
    def params(self) -> dict:
        """Before step 1; TRM has no table of answers."""
        tree = parameter_tree(self.names, lambda name: self.arrays[f"train/init/{name}"])
        return tree | {"embed_answers": np.zeros_like(tree["embed_inputs"])}

    @functools.cached_property
    def constants(self) -> dict[str, np.ndarray]:
        return {
            "y_init": self.arrays["train/init/inner.H_init"],
            "z_init": self.arrays["train/init/inner.L_init"],
        }

    @functools.cached_property
    def table(self) -> np.ndarray:
        """Ours, of two rows: the blank one and the published one."""
        row = self.arrays[f"train/init/{TRM.table}"]
        return np.concatenate([np.zeros_like(row), row])

    def example(self, key: str) -> dict[str, np.ndarray]:
        """The stored examples of the slots; the published code marks unscored cells with -100."""
        labels = self.arrays[f"{key}/labels"]
        return {
            "inputs": self.arrays[f"{key}/inputs"].astype(np.uint8),
            "target": np.where(labels == -100, 0, labels).astype(np.uint8),
            "puzzle_id": self.arrays[f"{key}/puzzle_identifiers"].astype(np.int32) + PUZZLE_ID,
            "weight": np.ones(len(labels), np.float32),  # padding rows count there
        }

    def batch(self, run: str, step: int) -> dict[str, np.ndarray]:
        """An arriving batch with the stored draws of exploration."""
        chance = self.arrays[f"{run}/step{step}/rng/00_rand_like"]
        least_steps = self.arrays[f"{run}/step{step}/rng/01_randint_like"]
        explores = chance < self.method.halting.exploration
        drawn = np.where(explores, least_steps, 0).astype(np.int32)
        return self.example(f"train/step{step}/batch") | {"least_steps": drawn}

    def by_published_name(self, tree: dict) -> dict[str, np.ndarray]:
        """Parameters as the published code lays them out, thinned like the files."""
        flat = {}
        for ours, theirs in self.names.items():
            leaf = functools.reduce(lambda branch, key: branch[key], ours.split("/"), tree)
            array = np.asarray(leaf)
            flat[theirs] = thinned(array.T if theirs.endswith(".weight") else array)
        return flat

    def stored(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays of the network's parameters behind a prefix, by published name; may be none."""
        keys = {name: f"{prefix}/{name}" for name in self.names.values()}
        return {n: thinned(self.arrays[key]) for n, key in keys.items() if key in self.arrays}

    def joined(self, run: str) -> dict[str, np.ndarray]:
        """All parameters in one row of numbers, of each kind that is stored of a run or step."""
        kinds = ("init", "grad", "params_after", "adam_m", "adam_v", "ema0.999")
        found = {kind: self.stored(f"{run}/{kind}") for kind in kinds}
        return {
            kind: np.concatenate([array.ravel() for array in arrays.values()])
            for kind, arrays in found.items()
            if arrays
        }


def thinned(array: jax.Array | np.ndarray) -> np.ndarray:
    """Every 29th number of a large array; a smaller one whole, as is one that was thinned."""
    array = np.asarray(array)
    return array.reshape(-1)[::STRIDE] if array.size > LARGEST else array


def assert_close(ours, theirs, tolerance: float, what: str) -> None:
    np.testing.assert_allclose(thinned(ours), thinned(theirs), rtol=0, atol=tolerance, err_msg=what)


def assert_same_direction(ours: dict, theirs: dict) -> None:
    """Gradients, each array by itself."""
    for name, stored in theirs.items():
        assert np.linalg.norm(ours[name] - stored) <= 1e-5 * np.linalg.norm(stored), name


def assert_all_close(ours: dict, theirs: dict, tolerance: float) -> None:
    for name, array in theirs.items():
        assert_close(ours[name], array, tolerance, name)


@pytest.fixture(scope="module", params=MODELS)
def golden(request) -> Golden:
    return Golden(np.load(GOLDENS / f"{request.param}.npz"))


# --- training -----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def one_step(golden):
    """See `program_of`."""
    return program_of(golden, golden.network, QUICK)


def program_of(golden: Golden, network: TransformerNetwork, options: dict | None = None):
    """(params, table, batch, carry) -> logits, q, loss, sums and the next carry."""

    def step(params, table, batch, carry):
        carry, batch = refill(carry, batch, golden.constants)
        rows = table[batch["puzzle_id"]]
        results = golden.method.loss(network, params, rows, golden.constants, batch, carry)
        return *read_out(network, params, results[-1].y), *results

    return jax.jit(step, compiler_options=options)


def assert_step(golden: Golden, key: str, logits, q, loss, sums, carry) -> None:
    """What a training step gives, and what it carries on."""
    arrays = golden.arrays
    assert_close(logits, arrays[f"{key}/out/logits"], 1e-5, "logits")
    assert_close(q[:, 0], arrays[f"{key}/out/q_halt_logits"], 1e-5, "q")
    assert float(loss) == pytest.approx(float(arrays[f"{key}/loss"]), abs=1e-5)
    for theirs, ours in (_SUMS | _SUMS_OF_LEFT).items():
        if f"{key}/metrics/{theirs}" in arrays:
            stored = float(arrays[f"{key}/metrics/{theirs}"])
            assert float(sums[ours]) == pytest.approx(stored, abs=1e-5), theirs
    stored = golden.example(f"{key}/carry_out/data")
    jax.tree.map(np.testing.assert_array_equal, carry.example, stored)
    np.testing.assert_array_equal(carry.steps, arrays[f"{key}/carry_out/steps"])
    np.testing.assert_array_equal(carry.left, arrays[f"{key}/carry_out/halted"])
    for theirs, latents in (("z_H", carry.y), ("z_L", carry.z)):
        if f"{key}/carry_out/{theirs}" in arrays:
            assert_close(latents, arrays[f"{key}/carry_out/{theirs}"], 1e-5, theirs)


def test_chain(golden, one_step):
    """Three steps with frozen weights: reset, halting, exploration and refill of the slots."""
    carry = empty_carry(golden.network, 3)
    for step in (1, 2, 3):
        results = one_step(golden.params, golden.table, golden.batch("chain", step), carry)
        assert_step(golden, f"chain/step{step}", *results)
        carry = results[-1]


def test_three_whole_steps(golden, one_step):
    """The compiled training step, and the logits at the weights that it has reached.

    The gradients follow from the first moments. AdamATan2 is sign-like: where a gradient is as
    small as its rounding, a weight could part by twice the rate. None in these files does.
    """
    trained = Trained(golden.method, golden.network, golden.optimizer, Train(batch_size=3))
    mesh, beta1 = make_mesh(jax.devices()[:1]), golden.optimizer.beta1
    state = TrainState(
        step=np.zeros([], np.int32),
        params=golden.params,
        constants=golden.constants,
        opt_state=trained.transformation().init(golden.params),
        ema=golden.params,
        table=golden.table,
        carry=empty_carry(golden.network, 3),
    )
    state = jax.device_put(state, state_shardings(state, mesh))
    train_step = jax.jit(make_train_step(trained, mesh), compiler_options=QUICK)
    for step in (1, 2, 3):
        key, batch = f"train/step{step}", golden.batch("train", step)
        logits, q, *_ = one_step(state.params, state.table, batch, state.carry)
        moments = golden.by_published_name(state.opt_state.m)
        state, sums = train_step(state, batch)
        assert_step(golden, key, logits, q, sums["loss"], sums, state.carry)
        ids = golden.arrays[f"{key}/puzzle_emb_local_ids"] + PUZZLE_ID
        np.testing.assert_array_equal(sums[SLOT_IDS], ids)
        grads = {
            name: (moment - beta1 * moments[name]) / (1 - beta1)
            for name, moment in golden.by_published_name(state.opt_state.m).items()
        }
        assert_same_direction(grads, golden.stored(f"{key}/grad"))
        params = golden.by_published_name(state.params)
        assert_all_close(params, golden.stored(f"{key}/params_after"), 1e-6)
        if f"{key}/params_after/{TRM.table}" in golden.arrays:
            row = golden.arrays[f"{key}/params_after/{TRM.table}"]
            assert_close(state.table[PUZZLE_ID:], row, 1e-7, "the row of the puzzle")
        assert not np.any(state.table[0])
    ema = golden.by_published_name(state.ema)
    assert_all_close(ema, golden.stored("train/ema0.999"), 1e-6)


def test_gradients_of_the_puzzle_s_row():
    """One for each slot, the padding row's too where there is one; of the mixer."""
    golden = Golden(np.load(GOLDENS / "trm_sudoku_mlp.npz"))
    carry, batch = refill(
        empty_carry(golden.network, 3), golden.batch("train", 1), golden.constants
    )

    def loss(rows):
        given = golden.network, golden.params, rows, golden.constants, batch, carry
        return golden.method.loss(*given)[0] / len(rows)

    gradients = jax.jit(jax.grad(loss), compiler_options=QUICK)
    stored = golden.arrays["train/step1/grad_puzzle_emb_local"]
    ours = gradients(golden.table[batch["puzzle_id"]])
    assert_same_direction(dict(enumerate(ours)), dict(enumerate(stored)))


def test_optimizers_on_stored_gradients(golden):
    """Weights, moments and average; the puzzle's row moves by the sign of its summed gradient."""
    settings = golden.optimizer
    optimizer = network_optimizer(settings, golden.method.trains_answers)
    stored = {step: golden.joined(f"train/step{step}") for step in (1, 2, 3)}
    params = {"all": golden.joined("train")["init"]}
    opt_state, ema = optimizer.init(params), params

    @jax.jit
    def take(grads, opt_state, params, ema):
        changes, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, changes)
        return opt_state, params, average(ema, params, settings.ema)

    for step in (1, 2, 3):
        if "grad" not in stored[step]:
            return
        grads = {"all": stored[step]["grad"]}
        opt_state, params, ema = take(grads, opt_state, params, ema)
        ours = {"params_after": params, "adam_m": opt_state.m, "adam_v": opt_state.v}
        for name, tree in ours.items():
            if name in stored[step]:
                assert_close(tree["all"], stored[step][name], 2e-7, f"{name} of step {step}")
    assert_close(ema["all"], golden.joined("train")["ema0.999"], 2e-7, "ema")


def test_the_puzzle_s_row_follows_the_sign_of_its_summed_gradient(golden):
    row, settings = golden.table[PUZZLE_ID:], golden.optimizer
    for step in (1, 2, 3):
        summed = golden.arrays[f"train/step{step}/grad_puzzle_emb_local"].sum(axis=0)
        rate, decay = settings.puzzle_learning_rate, settings.puzzle_weight_decay
        row = np.asarray(sign_sgd(row, summed, rate, decay))
        key = f"train/step{step}/params_after/{TRM.table}"
        if key in golden.arrays:
            assert_close(row, golden.arrays[key], 1e-7, key)


# --- evaluation ---------------------------------------------------------------------------------
def steps_of(golden: Golden, key: str, program):
    """Logits, q, sums and carry of each evaluation step; no slot is left before the last."""
    batch = golden.example(f"{key}/batch")
    batch["least_steps"] = np.full(len(batch["weight"]), EVAL_STEPS, np.int32)
    side = int(batch["inputs"].shape[1] ** 0.5)
    carry = empty_carry(golden.network_of(side), len(batch["weight"]))
    for _ in range(int(golden.arrays[f"{key}/num_steps"])):
        logits, q, _, sums, carry = program(golden.params, golden.table, batch, carry)
        yield np.asarray(logits), np.asarray(q), sums, carry


def tolerance(golden: Golden, step: int) -> float:
    """The mixer's rounding grows with each step, to nearly 1e-3 after 16."""
    return 1e-5 * 1.35**step if golden.options["mlp_t"] else 3e-5


def assert_predicted(predicted, logits, stored) -> None:
    """Equal wherever the two highest logits are apart."""
    second, first = np.moveaxis(np.sort(logits, axis=-1)[..., -2:], -1, 0)
    apart = first - second > 1e-2
    assert apart.mean() > 0.95
    np.testing.assert_array_equal(predicted[apart], stored[apart])


def test_evaluation(golden, one_step):
    batch, arrays = golden.example("eval/batch"), golden.arrays
    rows = golden.table[batch["puzzle_id"]]

    def answer(params, inputs):
        return golden.method.answer(
            golden.network, params, golden.constants, inputs, rows, None,
            steps=EVAL_STEPS, pad_outside=None,
        )  # fmt: skip

    program = jax.jit(answer, compiler_options=QUICK)
    answered = jax.tree.map(np.asarray, program(golden.params, batch["inputs"]))
    results = list(steps_of(golden, "eval", one_step))
    assert len(results) == EVAL_STEPS
    for step, (logits, q, _, carry) in enumerate(results, 1):
        key, allowed = f"eval/step{step:02}", tolerance(golden, step)
        assert_predicted(answered.step_predicted[step - 1], logits, arrays[f"{key}/preds"])
        stored_q = arrays[f"{key}/q_halt_logits"]
        for ours in (q[:, 0], answered.step_q_halt[step - 1]):
            assert_close(ours, stored_q, allowed, f"q of step {step}")
        if f"{key}/logits" in arrays:
            assert_close(logits, arrays[f"{key}/logits"], allowed, f"logits of step {step}")
        for theirs, ours in (("z_H", carry.y), ("z_L", carry.z)):
            if f"{key}/carry_out/{theirs}" in arrays:
                assert_close(ours, arrays[f"{key}/carry_out/{theirs}"], allowed, theirs)
    np.testing.assert_array_equal(answered.predicted, answered.step_predicted[-1])
    assert_last_sums(golden, "eval", results[-1][2])


def assert_last_sums(golden: Golden, key: str, sums) -> None:
    """What the loss head makes of the last step, where all halt."""
    for theirs, ours in (_SUMS | _SUMS_OF_LEFT).items():
        stored = float(golden.arrays[f"{key}/metrics/{theirs}"])
        # The losses follow from the logits; the others count cells and boards.
        allowed = tolerance(golden, EVAL_STEPS) if theirs.endswith("loss") else 1e-6
        assert float(sums[ours]) == pytest.approx(stored, abs=allowed), theirs


def test_evaluation_of_30x30_mazes():
    """The weights of the 8x8 mazes on 900 cells: positions up to 903."""
    golden = Golden(np.load(GOLDENS / "trm_maze.npz"))
    program, arrays = program_of(golden, golden.network_of(30)), golden.arrays
    here = arrays["eval900/logit_positions"]
    results = list(steps_of(golden, "eval900", program))
    assert len(results) == EVAL_STEPS
    for step, (logits, q, *_) in enumerate(results, 1):
        key = f"eval900/step{step:02}"
        assert_predicted(logits.argmax(axis=-1), logits, arrays[f"{key}/preds"])
        assert_close(q[:, 0], arrays[f"{key}/q_halt_logits"], 1e-5, f"q of step {step}")
        assert_close(logits[:, here], arrays[f"{key}/logits"], 1e-5, f"logits of step {step}")
    assert_last_sums(golden, "eval900", results[-1][2])


# --- the loss head, and the order of examples ---------------------------------------------------
@pytest.fixture(scope="module")
def facts():
    return np.load(GOLDENS / "sampling_metrics.npz")


@pytest.mark.parametrize("family", ["sudoku", "maze"])
def test_sums_of_the_loss_head(facts, family):
    """All cells count, givens and walls too; accuracies are of boards that halt with a label."""
    stored = {
        key.removeprefix(f"metrics/{family}/"): facts[key]
        for key in facts.files
        if key.startswith(f"metrics/{family}/")
    }
    target = np.where(stored["labels"] == -100, 0, stored["labels"])
    q = np.stack([stored["q_halt_logits"], np.zeros_like(stored["q_halt_logits"])], axis=1)
    examples = jax.jit(score_examples)(stored["logits"], q, target, target != 0)
    sums = weighted_sums(examples, np.ones(len(q)))
    assert float(sums["loss"]) == pytest.approx(float(stored["loss"]), rel=1e-6)
    counted = stored["halted"] & (target != 0).any(axis=-1)
    of_left = weighted_sums(examples | {"steps": stored["steps"]}, counted)
    sums |= {f"left_{name}": value for name, value in of_left.items()}
    for theirs, ours in (_SUMS | _SUMS_OF_LEFT | {"count": "left_count"}).items():
        assert float(sums[ours]) == pytest.approx(float(stored[f"out/{theirs}"]), rel=1e-6), theirs


TAGS = {"s0": "sudoku", "s0_epi4": "sudoku", "s7_epi5": "sudoku", "m": "maze8"}


@pytest.mark.parametrize("tag", TAGS)
def test_facts_of_the_published_order(facts, tag):
    """What `assert_order` asks of our stream holds for what the published code drew."""
    groups = facts[f"{TAGS[tag]}/train/all__group_indices"]
    for iteration in (1, 2, 3):
        key = f"sampling/{tag}/iter{iteration}"
        drawn, rows = facts[f"{key}/draws"], facts[f"{key}/batch_rows"]
        group_N = np.searchsorted(groups, drawn, side="right") - 1
        np.testing.assert_array_equal(group_N, facts[f"{key}/group_order"])
        assert_order(group_N, drawn - groups[group_N], len(groups) - 1, np.diff(groups)[0])
        np.testing.assert_array_equal(rows.ravel(), drawn[: rows.size])  # across epochs


def assert_order(group_N, version_N, num_groups: int, versions: int) -> None:
    """Each epoch visits each group once; a visit draws one of its versions."""
    for epoch_G in group_N.reshape(-1, num_groups):
        assert sorted(epoch_G) == list(range(num_groups))
    assert 0 <= version_N.min() <= version_N.max() < versions


def test_our_order_keeps_these_facts():
    num_groups, versions, epochs, batch_size = 5, 4, 2000, 3
    order = VisitOrder(np.ones(num_groups, np.int64), np.full(num_groups, versions), seed=7)
    group_N, version_N = order.at(np.arange(epochs * num_groups))
    assert_order(group_N, version_N, num_groups, versions)
    # Each version as often as any other, the unaugmented one (0) too: 2,500 times, give or take 4
    # standard deviations; and each of all orders of the groups occurs.
    assert np.abs(np.bincount(version_N) - 2500).max() < 4 * np.sqrt(10_000 * 3 / 16)
    assert len(np.unique(group_N.reshape(-1, num_groups), axis=0)) == 120
    batches = BatchOrder(order, np.zeros(num_groups, np.int64), batch_size)
    for batch in (0, 1, 2, 700):  # the second is cut from two epochs
        board, first = batches[batch]
        places = batches.places(board, np.arange(first, first + batch_size))
        np.testing.assert_array_equal(places, batch * batch_size + np.arange(batch_size))
