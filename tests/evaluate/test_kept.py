"""Which trajectories an evaluation keeps, against what the ballot says in the end."""

import dataclasses

import jax
import numpy as np
import pytest
from answering import denoised

from drm_jax.evaluate.answers import answer_of, unpack
from drm_jax.evaluate.loop import evaluate
from drm_jax.parallel.mesh import make_mesh
from drm_jax.puzzles.arc.augment import augment
from drm_jax.puzzles.arc.tokens import to_tokens
from drm_jax.run.setup import set_up


def is_right(packed, family) -> bool:
    trajectory = unpack(packed)
    return np.array_equal(answer_of(trajectory, family), trajectory.truth)


class State:
    step = 3


@pytest.fixture(scope="module")
def setup(tiny):
    data = dataclasses.replace(tiny.data, num_augmentations=40)
    return set_up(dataclasses.replace(tiny, data=data), make_mesh(jax.devices()[:1]))


def answered(setup, trajectories: str, batch_size: int):
    """An evaluation in which each candidate draws one of some grids, of which one is the truth."""
    puzzles, ids = setup.puzzles, setup.puzzles.ids

    def answer(_, batch):
        predicted = []
        for puzzle_id, row in zip(*(np.asarray(batch[x]).tolist() for x in ("puzzle_id", "row"))):
            truth = puzzles.tasks[ids.task[puzzle_id]].tests[0].output
            rng = np.random.default_rng(row)
            # early candidates draw from many grids, late ones from few: the leaders change
            which = int(rng.integers(0, 12) if row % 41 < 20 else rng.integers(0, 3))
            grid = truth if which == 2 else np.full((1 + which % 3, 1 + which // 3), which % 10)
            way = ids.augmentation(puzzle_id)
            predicted.append(to_tokens(augment(grid.astype(np.uint8), way), 4))
        predicted_BxS, count = np.array(predicted, np.uint8), len(predicted)
        return denoised(predicted_BxS, np.zeros(count), np.asarray(batch["inputs"]))

    evaluation = dataclasses.replace(
        setup.experiment.evaluate, trajectories=trajectories, batch_size=batch_size
    )
    experiment = dataclasses.replace(setup.experiment, evaluate=evaluation)
    return evaluate(experiment, answer, State(), setup.mesh, puzzles)


def wanted(setup, result, also_wrong: bool) -> set[tuple[str, int, int]]:
    """(task, test, puzzle id) of those that `selected` or `failures` names."""
    found, family, puzzles = set(), setup.experiment.data, setup.puzzles
    for k, task in enumerate(puzzles.tasks):
        ids_of_task = puzzles.ids.of_task[k].tolist()
        for t, test in enumerate(result.answers.task(task.id)["tests"]):
            chosen = {ids_of_task[0]}
            right = set()
            for answer in test["answers"]:
                voters = [voter[0] for voter in answer["voters"]]
                if answer["rank"] <= 2 or answer["rank"] == test["rank_of_truth"]:
                    chosen.add(voters[0])
                if answer["rank"] == test["rank_of_truth"]:
                    right = answer["votes"]
            if also_wrong:
                chosen |= {
                    p.puzzle_id
                    for p in result.trajectories
                    if (p.task, p.test) == (task.id, t) and not is_right(p, family)
                }
                kept = [p for p in result.trajectories if (p.task, p.test) == (task.id, t)]
                wrong = sum(not is_right(p, family) for p in kept)
                assert wrong == test["candidates"] - (right or 0)
            found |= {(task.id, t, i) for i in chosen}
    return found


@pytest.mark.parametrize("batch_size", [4, 32, 512])
@pytest.mark.parametrize("mode", ["selected", "failures"])
def test_what_is_kept_does_not_depend_on_batches(setup, mode, batch_size):
    result = answered(setup, mode, batch_size)
    kept = [(p.task, p.test, p.puzzle_id) for p in result.trajectories]
    assert len(kept) == len(set(kept))
    assert set(kept) == wanted(setup, result, mode == "failures")
    whole = answered(setup, mode, 512)
    assert [p.cells for p in whole.trajectories] == [p.cells for p in result.trajectories]


def test_all_and_off(setup):
    every = answered(setup, "all", 32)
    assert len(every.trajectories) == every.metrics["candidates"]
    none = answered(setup, "off", 32)
    assert none.metrics == every.metrics | {"evaluate": none.metrics["evaluate"]}
    assert none.trajectories == none.pictured
    assert len(none.pictured) == len(every.pictured) == 3
