"""canvas=fit: whole runs on windows of the canvas, and what it is refused for."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from answering import denoised
from workdirs import log_lines, quiet, saved

from drm_jax.config import Experiment, from_json, to_json, with_changes
from drm_jax.errors import UsageError
from drm_jax.evaluate.answers import answer_of, unpack
from drm_jax.evaluate.loop import evaluate
from drm_jax.io.files import work_path
from drm_jax.parallel.mesh import global_batch, make_mesh
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.tokens import to_tokens
from drm_jax.run.loop import train
from drm_jax.run.setup import set_up, training_stream
from drm_jax.training.state import make_sharded
from drm_jax.training.step import compile_train_step


@pytest.fixture(scope="module")
def fit(tiny):
    """Grids of 3 to 6 cells along a side."""
    only = ("25d8a9c8", "44f52bb0", "67385a82")
    data = dataclasses.replace(tiny.data, canvas="fit", windows=(4, 6), only=only)
    config = dataclasses.replace(tiny.train, steps=6, checkpoint_every=3)
    evaluation = dataclasses.replace(tiny.evaluate, num_augmentations=1)
    return dataclasses.replace(tiny, data=data, train=config, evaluate=evaluation)


def test_a_run_that_is_made_longer_is_one_that_was_never_stopped(fit, tmp_path):
    straight, stopped = (work_path(tmp_path / name) for name in ("straight", "stopped"))
    console = quiet()
    train(fit, straight, console)
    text = console.file.getvalue()
    assert re.search(r"First step on windows of (4 x 4|6 x 6): ", text)  # both came
    train(dataclasses.replace(fit, train=dataclasses.replace(fit.train, steps=3)), stopped, quiet())
    train(fit, stopped, quiet())
    for a, b in zip(*(jax.tree.leaves(saved(path, fit, 6)) for path in (straight, stopped))):
        np.testing.assert_array_equal(a, b)
    assert log_lines(straight)[-1] == log_lines(stopped)[-1]


def test_one_device_equals_two(fit):
    found = []
    for devices in (1, 2):
        setup = set_up(fit, make_mesh(jax.devices()[:devices]))
        state = make_sharded(setup.make_state, setup.shardings)
        step = compile_train_step(setup.trained, setup.mesh, setup.shardings)
        sides = set()
        stream = training_stream(setup)
        for i in range(8):
            sides.add(stream[i]["inputs"].shape[1])
            state, _ = step(state, global_batch(stream[i], setup.mesh))
        assert sides == {16, 36}
        found.append(jax.device_get(state.opt_state.m))
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(a)


def test_an_answer_that_touches_the_border_is_asked_for_again(fit):
    """On the larger window, and only the last answer votes."""
    setup = set_up(fit, make_mesh(jax.devices()[:1]))
    asked = []
    small, large = np.full((2, 2), 3, np.uint8), np.full((5, 5), 4, np.uint8)

    def answer(state, batch):
        inputs_BxS, row_B = np.asarray(batch["inputs"]), np.asarray(batch["row"])
        side = int(inputs_BxS.shape[1] ** 0.5)
        asked.extend((side, row) for row in row_B.tolist())
        predicted_BxS = np.array(
            [
                to_tokens(small, side) if row % 2 else
                to_tokens(large[:side, :side], side)  # fills the window of side 4
                for row in row_B.tolist()
            ]
        )  # fmt: skip
        return denoised(predicted_BxS, np.zeros(len(row_B)), inputs_BxS)

    class State:
        step = 7

    result = evaluate(fit, answer, State(), setup.mesh, setup.puzzles)
    count = result.metrics["candidates"]
    on = {side: {row for s, row in asked if s == side and row < count} for side in (4, 6)}
    again = on[4] & on[6]
    assert on[4] | on[6] == set(range(count))
    assert again == {row for row in on[4] if row % 2 == 0}
    assert on[6] - on[4]  # a task with grids of 6 cells began on the larger window
    assert len(asked) % fit.evaluate.batch_size == 0
    assert result.metrics["denoised_on_windows"] == {"4": len(on[4]), "6": len(on[6])}
    answers = {}
    for trajectory in map(unpack, result.trajectories):
        shapes = answers.setdefault(trajectory.board[0], set())
        shapes.add(answer_of(trajectory, fit.data).shape)
    assert answers == {4: {(2, 2)}, 6: {(5, 5), (2, 2)}} or answers[6] == {(5, 5)}


@pytest.mark.parametrize("method", ["trm", "sprm"])
def test_fit_is_not_for_methods_that_carry_latents(method):
    with pytest.raises(UsageError, match=r"data\.canvas: fit is not for a method that carries"):
        Experiment("x", data=Arc(canvas="fit"), method=method)


def test_fit_is_not_for_the_token_mixer(fit):
    with pytest.raises(UsageError, match=r"data\.canvas: fit needs a backbone with attention"):
        set_up(with_changes(fit, {"model": "token_mixer"}))


@pytest.mark.parametrize("windows", [(), (8, 8), (12, 8), (1, 8), (8, 31)])
def test_windows_that_cannot_be(windows):
    with pytest.raises(UsageError, match=r"data\.windows: must be"):
        Arc(canvas="fit", windows=windows)
    with pytest.raises(UsageError, match=r"data\.canvas: must be one of fit or int, not 'fitting'"):
        Arc(canvas="fitting")


def test_fit_travels_in_the_config(fit):
    assert from_json(to_json(fit)) == fit
    with pytest.raises(UsageError, match=r"data\.canvas: must be one of fit or int, not 'fat'"):
        from_json(to_json(fit).replace('"fit"', '"fat"'))
