"""The source rearc with a stand-in for the generators, and once with the real ones."""

import collections
import dataclasses
import importlib.util
import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest
from fake_rearc import install_fake_rearc

from drm_jax.errors import InputError, UsageError
from drm_jax.puzzles.arc import rearc, rearc_worker
from drm_jax.puzzles.arc.augment import Augmentation, augment, puzzle_ids
from drm_jax.puzzles.arc.describe import describe_sources, find_task
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.leaks import trained_digests
from drm_jax.puzzles.arc.rearc import Rearc, made_pairs, parse_name
from drm_jax.puzzles.arc.roles import load_tasks
from drm_jax.puzzles.arc.tasks import load_source, training_pairs

GOOD = ["007bbfb7", "00d62c1b", "045e512c"]
NAME = "rearc:pairs=12,side=10"


@pytest.fixture
def package(tmp_path, monkeypatch):
    return install_fake_rearc(tmp_path, monkeypatch)


def lists(found) -> dict[str, list]:
    return {k: [tuple(g.tolist() for g in pair) for pair in pairs] for k, pairs in found.items()}


def made(name: str, **options) -> dict[str, list]:
    return lists(made_pairs(name, "data.train", **options))


def files(tmp_path) -> list:
    folder = tmp_path / "cache/drm_jax/puzzles"
    return sorted(folder.iterdir()) if folder.exists() else []


# --- the name ------------------------------------------------------------------------------------
def test_names_and_their_options():
    assert parse_name("rearc", "data.train") == Rearc(100, 30, 0)
    assert parse_name("rearc:side=10,seed=3,pairs=7", "data.train") == Rearc(7, 10, 3)
    known = ("rearc", "rearc:", "rearc:x")
    assert [rearc.is_rearc(name) for name in (*known, "rearc/", "./rearc", "arc1")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rearc:", "data.train rearc:: '': behind the colon stand pairs=N, side=N and seed=N"),
        ("rearc:size=3", "data.train rearc:size=3: 'size=3': behind the colon"),
        ("rearc:tasks", "data.train rearc:tasks: 'tasks': behind the colon"),
        ("rearc:side=-3", "data.train rearc:side=-3: 'side=-3': behind the colon"),
        ("rearc:side=4,side=5", "data.train rearc:side=4,side=5: 'side=5': behind the colon"),
        ("rearc:side=31", "rearc.side: must be int <= 30, not 31"),
        ("rearc:pairs=2", "rearc.pairs: must be int >= 3, not 2"),
        ("rearc:seed=9999999999", "rearc.seed: must be int <= 2147483647"),
    ],
)
def test_names_that_can_not_be(name, words):
    for use in (lambda: Arc((name,), ()), lambda: load_tasks((name,), ())):
        with pytest.raises(UsageError) as error:
            use()
        assert str(error.value).startswith(words)


def test_it_is_for_training_alone():
    with pytest.raises(UsageError, match=r"^data\.evaluate: rearc has no tests: name it under"):
        Arc((), ("rearc",))


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(rearc.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError) as error:
        load_tasks(("rearc",), ())
    assert str(error.value) == (
        "rearc: needs RE-ARC's generators, which the package reasoning-gym has: "
        "pip install --no-deps reasoning-gym==0.1.25"
    )


# --- what is made --------------------------------------------------------------------------------
def test_pairs_are_distinct_confirmed_and_fit(package):
    said = []
    found = made(NAME, say=said.append)
    assert list(found) == GOOD
    assert said == [
        f"{NAME}: left out 2 tasks of which fewer than 3 pairs could be made: 017c7c7b, 025d127b"
    ]
    for task_id in GOOD:
        inputs = [str(grid) for grid, _ in found[task_id]]
        assert len(set(inputs)) == len(inputs) == 12
        assert max(len(grid[0]) for grid, _ in found[task_id]) <= 10
    for task_id in GOOD[:2]:
        assert all(output == [row[::-1] for row in grid] for grid, output in found[task_id])
        assert all(output != grid for grid, output in found[task_id])
    widths = {len(grid[0]) for grid, _ in found[GOOD[0]]}
    assert min(widths) <= 4 < 7 <= max(widths)  # easy ones and hard ones
    assert "reasoning_gym" not in sys.modules


def test_reasons_are_counted(package):
    generators, verifiers = rearc_worker.load_rearc(package)
    reasons = {}
    for task_id in ("00d62c1b", "017c7c7b", "025d127b"):
        functions = (getattr(m, f"{v}_{task_id}") for v, m in (("generate", generators),
                                                               ("verify", verifiers)))  # fmt: skip
        found, rejected = rearc_worker.make_pairs(task_id, *functions, 100, 10, 0)
        reasons[task_id] = {why for why, count in rejected.items() if count > len(found) / 10}
    tries = rearc_worker.MOST_TRIES * rearc_worker.HOPELESS
    assert rejected == collections.Counter({"an exception": tries})  # then the task is given up
    assert reasons == {
        "00d62c1b": {rearc_worker.TOO_LARGE, "not confirmed by the verifier"},
        "017c7c7b": {rearc_worker.TOO_LARGE}, "025d127b": {"an exception"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "example",
    [
        {"input": (), "output": ((1,),)},
        {"input": ((1,), (1, 2)), "output": ((1,),)},
        {"input": ((10,),), "output": ((1,),)},
        {"input": ((True,),), "output": ((0,),)},
    ],
)
def test_what_is_no_grid_is_rejected(example):
    found, rejected = rearc_worker.make_pairs("x", lambda *_: example, lambda g: g, 3, 30, 0)
    assert (found, set(rejected)) == ([], {"not a grid"})


def test_an_endless_generator_is_stopped_by_a_count(monkeypatch):
    monkeypatch.setattr(rearc_worker, "MOST_NUMBERS", 100)

    def generate(rng, least, largest):
        while rng.choice([1, 2]):
            rng.random()

    found, rejected = rearc_worker.make_pairs("x", generate, None, 3, 30, 0)
    assert (found, set(rejected)) == ([], {"too many random numbers"})
    ours, plain = rearc_worker.BoundedRandom("s"), random.Random("s")
    for draw in (lambda r: r.random(), lambda r: r.sample(range(50), 5), lambda r: r.randint(0, 9)):
        assert draw(ours) == draw(plain)


def test_the_same_pairs_whatever_else_is_made_and_on_any_machine(package, tmp_path, monkeypatch):
    whole = made(NAME)
    for cores, hash_seed in (({0}, "1"), ({0, 1, 2}, "2")):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: cores)
        monkeypatch.setenv("PYTHONHASHSEED", hash_seed)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / hash_seed))
        assert made(NAME) == whole
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "few"))
    assert made(NAME, only=["00d62c1b", "x"]) == {"00d62c1b": whole["00d62c1b"]}
    longer = made("rearc:pairs=15,side=10", only=GOOD)
    assert {task_id: pairs[:12] for task_id, pairs in longer.items()} == whole
    other = made(f"{NAME},seed=1", only=GOOD)
    assert other[GOOD[0]] != whole[GOOD[0]]


# --- the cache, and processes --------------------------------------------------------------------
def test_pairs_are_made_once(package, tmp_path, monkeypatch):
    whole = made(NAME)
    (file,) = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", None)
        assert made("rearc:side=10,pairs=12") == whole  # the same options
        assert made(NAME, only=GOOD[:1]) == {GOOD[0]: whole[GOOD[0]]}
    file.write_bytes(file.read_bytes()[:200])  # damaged
    assert made(NAME) == whole
    code = package / "helpers.py"
    code.write_text(code.read_text().replace("randint(0, 9)", "randint(1, 2)"))
    assert made(NAME) != whole
    assert len(files(tmp_path)) == 2


def test_an_interrupt_leaves_neither_a_file_nor_a_process(package, tmp_path, monkeypatch):
    started = []

    def interrupt(workers, *_, **arrays):
        started.extend([] if arrays else workers)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rearc, "_answers", interrupt)
        with pytest.raises(KeyboardInterrupt):
            made(NAME)
    assert started
    assert all(worker.returncode is not None for worker in started)
    assert files(tmp_path) == []
    monkeypatch.setattr(np, "savez_compressed", interrupt)
    with pytest.raises(KeyboardInterrupt):
        made("rearc:pairs=3", only=GOOD[:1])
    assert files(tmp_path) == []


def test_a_process_that_dies_is_told(package):
    text = "def generate_007bbfb7(rng, a, b):\n    import os\n    os._exit(3)\n"
    (package / "generators.py").write_text(text)
    with pytest.raises(InputError, match=r"task 007bbfb7: a process .* ended, with exit code 3$"):
        made(NAME)


# --- in a run ------------------------------------------------------------------------------------
def test_made_pairs_join_the_training_task_and_leave_its_ids_alone(package):
    plain = load_tasks(("arc1/training",), (), only=GOOD[:2])
    joined = load_tasks(("arc1/training", NAME, NAME), (), only=GOOD[:2])
    assert [task.id for task in joined] == [task.id for task in plain]
    for before, after in zip(plain, joined, strict=True):
        assert [len(of_one.pairs) for of_one in after.made] == [12]
        own = [pair.key for pair in training_pairs(before)]
        assert [pair.key for pair in training_pairs(after)][: len(own)] == own
        assert (after.source, after.named) == ("arc1/training", "arc1/training")
    ids = [puzzle_ids(tasks, 50, 0) for tasks in (plain, joined)]
    np.testing.assert_array_equal(ids[0].colours, ids[1].colours)
    assert trained_digests(plain) == trained_digests(joined)
    (alone,) = load_tasks((NAME, f"{NAME},seed=1"), (), only=GOOD[:1])
    assert (alone.demonstrations, alone.tests, alone.source) == ((), (), NAME)
    assert [of_one.source for of_one in alone.made] == [NAME, f"{NAME},seed=1"]
    assert len(puzzle_ids([alone], 50, 0)) == 52
    (first,) = load_tasks((NAME,), (), only=GOOD[:1])
    assert trained_digests([first]) == trained_digests(plain[:1])  # of the task with that rule


SHOWN = {"input": [[7, 7, 1, 2, 3, 4]], "output": [[7]]}
ASKED = {"input": [[7, 6, 1, 2, 3, 4, 4]], "output": [[7]]}
"""Pairs of no task of ARC."""


def test_a_rule_that_is_evaluated_is_refused(package):
    message = (
        rf"^{NAME}: pairs of task 007bbfb7 would be trained on, whose rule is that of evaluation "
        r"task 007bbfb7 \(1 such\): evaluate on other tasks, choose tasks with data\.only, or set "
        r"data\.leaks=drop to train without such tasks$"
    )
    with pytest.raises(InputError, match=message):
        load_tasks((NAME,), ("arc1/training",), only=GOOD[:1])


@pytest.mark.parametrize("part", ["id", "demonstration", "hidden test"])
def test_a_rule_that_is_evaluated_is_dropped(package, tmp_path, part):
    """Also where it is known under another id, turned and in other colours."""
    original = next(task for task in load_source("arc1/training") if task.id == GOOD[0])
    change = Augmentation(5, np.array([0, 2, 3, 1, 5, 4, 6, 9, 8, 7], np.uint8))
    pair = original.tests[0] if part == "hidden test" else original.demonstrations[0]
    grid, output = (augment(g, change).tolist() for g in (pair.input, pair.output))
    tasks = {
        "id": (GOOD[0], [SHOWN], ASKED),
        "demonstration": ("e", [SHOWN, {"input": grid, "output": output}], ASKED),
        "hidden test": ("e", [SHOWN], {"input": grid}),
    }
    task_id, shown, test = tasks[part]
    (tmp_path / f"{task_id}.json").write_text(json.dumps({"train": shown, "test": [test]}))
    only, said = [*GOOD[:2], task_id], []
    tasks = load_tasks(
        (NAME,), (str(tmp_path / f"{task_id}.json"),), only, leaks="drop", say=said.append
    )
    assert [task.id for task in tasks if task.made] == [GOOD[1]]
    assert [task.id for task in tasks if task.role == "evaluate"] == [task_id]
    assert said == [
        f"data.leaks: left out 1 task of {NAME} whose rule is that of an evaluation task: 007bbfb7"
    ]


def test_a_made_pair_that_is_a_test_is_a_leak_like_any_other(package, tmp_path):
    (task,) = load_tasks((NAME,), (), only=GOOD[:1])
    pair = task.made[0].pairs[3]
    test = {"input": pair.input.tolist(), "output": pair.output.tolist()}
    (tmp_path / "e.json").write_text(json.dumps({"train": [SHOWN], "test": [test]}))
    sources = (NAME,), (str(tmp_path / "e.json"),), [GOOD[0], "e"]
    with pytest.raises(
        InputError, match=r"^task 007bbfb7 would train on a test pair of evaluation"
    ):
        load_tasks(*sources)
    kept, _ = load_tasks(*sources, leaks="drop")
    assert len(kept.made[0].pairs) == 11


def test_pairs_larger_than_the_canvas_are_unfit(package):
    with pytest.raises(
        InputError, match=r"more than data\.canvas 5 .* leave it out with data\.unf"
    ):
        Arc((NAME,), (), only=tuple(GOOD[:1]), canvas=5).load(0, {})
    puzzles = Arc((NAME,), (), only=tuple(GOOD[:1]), canvas=5, unfit="drop_pairs").load(0, {})
    assert 0 < puzzles.examples_G.sum() < 12


def test_a_run_has_the_mix_it_asks_for(package):
    family = Arc(("arc1/training", NAME), (), only=("007bbfb7", "00d62c1b"), num_augmentations=3)
    once = family.load(0, {})
    assert (once.visits_G.tolist(), once.notes) == ([1] * 8, ())
    assert once.describe() == "2 tasks (0 with held-out tests), 24 made pairs, 8 puzzle ids"
    mixed = dataclasses.replace(family, mix=("arc1=3", "rearc=1")).load(0, {})
    assert mixed.visits_G.tolist() == [9, 1, 1, 1] * 2
    assert mixed.notes == (
        "data.mix: visits of a group in an epoch, and share of all visits: arc1/training 9 (75.0%)"
        f", {NAME} 1 (25.0%)",
    )
    assert mixed.training_digest() != once.training_digest()
    assert mixed.tests_digest() == once.tests_digest()


def test_people_can_look_at_it(package):
    said = []
    assert describe_sources([NAME], said.append) == 0
    assert f"{NAME}\n  3 tasks, 36 demonstrations, 0 test inputs\n" in said[0]
    assert "left out 2 tasks of which fewer than 3 pairs could be made" in said[0]
    shown = find_task("007bbfb7", [NAME])
    assert (shown["source"], len(shown["demonstrations"])) == (NAME, 12)


@pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None,
    reason=f"pip install --no-deps {rearc.PACKAGE}",
)
def test_the_real_generators(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    originals = {task.id: task for task in load_source("arc1/training")}
    with pytest.MonkeyPatch.context() as patch:
        wanted = []
        patch.setattr(rearc, "keep", lambda name, make: wanted.extend(make.args[2]) or EMPTY)
        made("rearc")
    assert wanted == sorted(originals)
    name = "rearc:pairs=5,side=12"
    few = ("0d3d703e", "25d8a9c8", "67a3c6ac")
    found = made(name, only=few)
    assert {task_id: len(pairs) for task_id, pairs in found.items()} == dict.fromkeys(few, 5)
    for grid, output in found["67a3c6ac"]:
        assert output == [row[::-1] for row in grid]
    start = time.perf_counter()
    assert made(name, only=few) == found
    assert time.perf_counter() - start < 1


EMPTY = {
    "id_K": np.array([], np.str_), "count_K": np.zeros(0, np.int64),
    "size_Gx2": np.zeros((0, 2), np.uint8), "cells": np.zeros(0, np.uint8),
}  # fmt: skip
