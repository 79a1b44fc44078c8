"""What is refused before a run begins: a method that can't be trained, an uneven split."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from drm_jax.config import Experiment, with_changes
from drm_jax.errors import UsageError
from drm_jax.methods.drm import Drm
from drm_jax.parallel import processes
from drm_jax.parallel.mesh import BATCH_AXES, make_mesh
from drm_jax.run import setup
from drm_jax.run.checks import check_method
from drm_jax.run.dry_run import _numbers
from drm_jax.run.setup import check_split, set_up, trained_parts
from drm_jax.run.start import target_of_other
from drm_jax.run.together import check_same_start


def check(experiment: Experiment) -> None:
    data = experiment.data
    check_method(trained_parts(experiment, "cpu"), data.boards, data.vocabulary.mask)


@pytest.mark.parametrize(
    "changes",
    [
        {"method.recursion.grad_cycles": 1},
        {"method.recursion.grad_cycles": 2},
        {"method.recursion.grad_cycles": 2, "method.supervision": "path"},
        {"method.noise.own_answers": 0.5},
        {"method": "diffusion"},
        {"method": "trm"},
        {"method": "trm", "method.mask_token": False, "model": "token_mixer"},
        {"method": "sprm"},
        {"data.canvas": "fit", "data.windows": (4, 6)},
    ],
    ids=str,
)
def test_built_in_methods_are_accepted(tiny, changes):
    check(with_changes(tiny, changes))


def test_equal_parts_are_checked_once_in_a_process(tiny, monkeypatch):
    checked = []
    monkeypatch.setattr(setup, "_checked", set())
    monkeypatch.setattr(setup, "check_method", lambda *given: checked.append(given))
    for changes in (
        {}, {"seed": 1, "train.steps": 9}, {"method.noise.schedule": "linear"},
        {"model.hidden": 32}, {"train.batch_size": 16}, {"data.canvas": 7},
    ):  # fmt: skip
        set_up(with_changes(tiny, changes))
    assert len(checked) == 5
    monkeypatch.setattr(setup, "check_method", check_method)
    refused = dataclasses.replace(tiny, method=NoCarry())
    for _ in range(2):  # what is refused is refused again
        with pytest.raises(UsageError, match="must return the loss"):
            set_up(refused)


class NoCarry(Drm):
    def loss(self, *arguments):
        return super().loss(*arguments)[:2]


class OtherCarry(Drm):
    def loss(self, *arguments):
        return *super().loss(*arguments)[:2], {"steps": jnp.zeros(4)}


class Steps(Drm):
    """Carries a number for each slot."""

    def empty_carry(self, network, batch_size):
        return {"steps": jnp.zeros(batch_size, jnp.int32)}


class CarryOfAnotherType(Steps):
    def loss(self, *arguments):
        return *super().loss(*arguments)[:2], {"steps": jnp.zeros(4)}


class CarryOfNoSlots(Steps):
    def empty_carry(self, network, batch_size):
        return {"steps": jnp.zeros((), jnp.int32)}


class WithSums(Drm):
    """Its sums with some changes."""

    def changed(self, sums, batch):
        raise NotImplementedError

    def loss(self, *arguments):
        loss, sums, carry = super().loss(*arguments)
        return loss, self.changed(dict(sums), arguments[4]), carry


class NoCount(WithSums):
    def changed(self, sums, batch):
        del sums["count"]
        return sums


class TakesFinite(WithSums):
    def changed(self, sums, batch):
        return sums | {"finite": sums["loss"]}


class VectorSum(WithSums):
    def changed(self, sums, batch):
        return sums | {"mine": batch["weight"]}


class TextSum(WithSums):
    def changed(self, sums, batch):
        return sums | {"mine": "four"}


class NoDict(WithSums):
    def changed(self, sums, batch):
        return sums["loss"]


class VectorLoss(Drm):
    def loss(self, *arguments):
        return arguments[4]["weight"], *super().loss(*arguments)[1:]


class SaysUntrained(Drm):
    trains_answers = False


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (NoCarry, "its loss must return the loss, a dict of sums for the log, and the carry$"),
        (NoDict, "its loss must return the loss, a dict of sums for the log, and the carry$"),
        (OtherCarry, "the carry that its loss returns is not like the one it was given$"),
        (CarryOfAnotherType, r"steps of the carry is int32 \(4,\), but float32 \(4,\) after its"),
        (CarryOfNoSlots, r"empty_carry gives steps of shape \(\): it must have a row for each of "),
        (NoCount, "the sums lack 'count'; needed are loss, exact_accuracy, count$"),
        (TakesFinite, "the log has a 'finite' of its own; use another name$"),
        (VectorSum, "'mine' must be one number, summed over the batch, not "),
        (TextSum, "its loss must return jax arrays: "),
        (VectorLoss, "the loss must be one float, summed over the batch, not "),
    ],
)
def test_a_method_that_cannot_be_trained_is_refused(tiny, cls, text):
    method = cls(tiny.method.recursion)
    with pytest.raises(UsageError, match=f"^method {cls.__name__}: {text}") as refused:
        check(dataclasses.replace(tiny, method=method))
    assert "\n" not in str(refused.value)


def test_a_gradient_of_the_answer_table_must_not_be_lost(tiny):
    """Said to have none, it would never be updated; where there is none indeed, that is right."""
    short, whole = (dataclasses.replace(tiny.method.recursion, grad_cycles=n) for n in (1, 2))
    check(dataclasses.replace(tiny, method=SaysUntrained(short)))
    with pytest.raises(
        UsageError, match=r"^method SaysUntrained: trains_answers is false, but its"
    ):
        check(dataclasses.replace(tiny, method=SaysUntrained(whole)))


@pytest.mark.parametrize("name", ["trm", "sprm"])
def test_methods_that_never_embed_answers_say_so(tiny, name):
    assert not with_changes(tiny, {"method": name}).method.trains_answers


# --- devices -------------------------------------------------------------------------------------
@pytest.fixture
def two_by_two() -> Mesh:
    """Two devices along the data axis, and two along another."""
    devices = np.array(jax.devices()[:4]).reshape(2, 1, 2)
    return Mesh(devices, (*BATCH_AXES, "model"), axis_types=(AxisType.Auto,) * 3)


def test_only_the_data_axis_splits_batches(tiny, two_by_two):
    """6 examples are 3 for each of 2 parts of the data axis; 4 devices could not share them."""
    experiment = with_changes(tiny, {"train.batch_size": 6, "evaluate.batch_size": 6})
    assert set_up(experiment, two_by_two).mesh is two_by_two
    with pytest.raises(UsageError, match=r"train\.batch_size: 6 examples can't be split over 4"):
        set_up(experiment, make_mesh(jax.devices()[:4]))
    with pytest.raises(UsageError, match=r"the 3 examples of a device can't be split into 2"):
        check_split(with_changes(experiment, {"train.accumulate": 2}).train, tiny.evaluate, 2)


def test_slots_of_another_run_are_split_over_the_data_axis(two_by_two):
    def spec(slots: int, mesh: Mesh):
        record = {"shapes": {"carry/y": ((slots, 3), "float32")}}
        return target_of_other(mesh, record)["carry"]["y"].sharding.spec

    assert spec(6, two_by_two)[0] == BATCH_AXES
    assert spec(5, two_by_two) == P()
    assert spec(6, make_mesh(jax.devices()[:4])) == P()


def test_a_dry_run_counts_the_parts_of_the_data_axis(tiny, two_by_two):
    """The table is split in two, not in four."""
    lines = []
    for mesh in (make_mesh(jax.devices()[:2]), two_by_two):
        setup = set_up(with_changes(tiny, {"method": "trm"}), mesh)
        lines.append(_numbers(setup, jax.eval_shape(setup.make_state), candidates=12))
    assert lines[0] == lines[1]
    assert any("of which the puzzle table 393 kB, the carried slots" in line for line in lines[0])


# --- processes -----------------------------------------------------------------------------------
def test_processes_must_agree_on_the_kinds_of_parts(tiny, monkeypatch):
    """Two kinds may have the same options."""
    agreed = []
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "agree", agreed.append)
    for method in (tiny.method, SaysUntrained(tiny.method.recursion)):
        check_same_start(dataclasses.replace(tiny, method=method), "runs/x", strict=False)
    one, other = agreed
    assert (one["method"], other["method"]) == ("drm", f"{__name__}:SaysUntrained")
    assert (one["data"], one["model"], one["strict"]) == ("arc", "transformer", "False")
    assert {name for name in one if one[name] != other[name]} == {"method"}
