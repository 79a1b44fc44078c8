import json
import math

import pytest

from drm_jax.config import (
    Data,
    Evaluate,
    Experiment,
    Model,
    Noise,
    Optimizer,
    Train,
    from_json,
    to_json,
)
from drm_jax.errors import UsageError


def test_json_round_trip():
    experiment = Experiment("x", seed=3, data=Data(train=("a", "b"), only=("c",)))
    assert from_json(to_json(experiment)) == experiment


def changed(path: str, value) -> str:
    tree = json.loads(to_json(Experiment("x")))
    *rooms, last = path.split(".")
    target = tree
    for room in rooms:
        target = target[room]
    target[last] = value
    return json.dumps(tree)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a configuration"),
        ("[]", "expected an object"),
        ("{}", "name"),
        ("[" * 100_000, "nested too deeply"),
        ('{"name": ' + "[" * 900 + "]" * 900 + "}", r"name: \[+\.\.\.\]+ is not str"),
        (changed("optimizer.ema", 10**400), r"optimizer.ema: 10+\.\.\.0+ is too large"),
        (changed("noise.schedule", ["linear"]), r"noise.schedule: \['linear'\] is not str"),
        (changed("model.two\nlines", 3), r"model.'two\\nlines': unknown field"),
        (changed("model.hiden", 3), "model.hiden: unknown field"),
        (changed("model.hidden", "3"), "model.hidden: '3' is not int"),
        (changed("model.hidden", True), "model.hidden: True is not int"),
        (changed("noise.schedule", "square"), "noise.schedule: 'square' is not one of"),
        (changed("data.only", [1]), "data.only: 1 is not str"),
        (changed("evaluate.num_augmentations", 1.5), "1.5 is not int or NoneType"),
        (changed("model", 3), "model.: expected an object"),
    ],
)
def test_bad_json_names_the_field(text, message):
    with pytest.raises(UsageError, match=message) as error:
        from_json(text)
    assert len(str(error.value).splitlines()) == 1


def test_whole_numbers_are_floats_too():
    assert from_json(changed("optimizer.ema", 0)).optimizer.ema == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Model(heads=3), "model.heads"),
        (lambda: Model(hidden=8, heads=8), "model.heads"),
        (lambda: Model(grad_cycles=4), "model.grad_cycles"),
        (lambda: Noise(all_masked=1.1), "noise.all_masked: must be 0 to 1, not 1.1"),
        (lambda: Experiment("x", objective="trm", noise=Noise(all_masked=0.5)), "noise.all_masked"),
        (
            lambda: Experiment("x", objective="sprm", evaluate=Evaluate(outside="pad")),
            "evaluate.outside: is for the objectives drm and diffusion, not sprm",
        ),
        (
            lambda: Experiment("x", objective="diffusion", evaluate=Evaluate(carry_z=False)),
            "evaluate.carry_z: diffusion has no z",
        ),
        (
            lambda: Experiment(
                "x", supervision="path", noise=Noise(own_answers=0.5), model=Model(grad_cycles=3)
            ),
            "noise.own_answers",
        ),
        (lambda: Model(prefix=0), "model.prefix"),
        (lambda: Data(canvas=1), "data.canvas: must be 2..30"),
        (lambda: Data(train=(), evaluate=()), "data.train"),
        (lambda: Data(num_augmentations=8 * 362_880), "data.num_augmentations: must be 0..2903039"),
        (lambda: Optimizer(ema=1.0), "optimizer.ema"),
        (lambda: Optimizer(beta1=math.nan), "optimizer.beta1"),
        (
            lambda: Optimizer(learning_rate=math.inf),
            "optimizer.learning_rate: must be at most 2.*, not inf",
        ),
        (
            lambda: Optimizer(weight_decay=math.nan),
            "optimizer.weight_decay: must be at least 0, not nan",
        ),
        (lambda: Optimizer(puzzle_weight_decay=-math.inf), "optimizer.puzzle_weight_decay: must"),
        (lambda: Model(expansion=math.inf), "model.expansion"),
        (lambda: Train(batch_size=10**400), "train.batch_size"),
        (lambda: Train(steps=2**31), "train.steps: must be at most 2147483647, not 2147483648"),
        (lambda: Train(batch_size=0), "train.batch_size"),
        (lambda: Experiment("x", seed=-1), "seed"),
    ],
)
def test_impossible_values_name_the_field(make, message):
    with pytest.raises(UsageError, match=message) as error:
        make()
    assert len(str(error.value).splitlines()) == 1


def test_limits_are_allowed():
    assert Data(num_augmentations=8 * 362_880 - 1).num_augmentations == 2_903_039
    assert Train(steps=2**31 - 1).steps == 2**31 - 1
