"""Options read into dataclasses, whatever classes their parts are of."""

import dataclasses
from typing import Any, Literal

import pytest

from drm_jax.commands import experiments
from drm_jax.commands.options import AllOrSome, Steps, parse, parse_changes
from drm_jax.config import Experiment
from drm_jax.errors import UsageError
from drm_jax.methods.drm import Drm
from drm_jax.methods.trm import Trm
from drm_jax.model.recursion import Recursion as Recursions
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.sudoku.family import Sudoku


@dataclasses.dataclass(frozen=True)
class Recursion:
    """Loops of one method."""

    cycles: int = 3
    grad_cycles: int = 1
    """The last cycles, which carry gradient."""

    def __post_init__(self):
        if self.grad_cycles > self.cycles:
            raise UsageError(f"grad_cycles: {self.grad_cycles} is more than {self.cycles}")


@dataclasses.dataclass(frozen=True)
class Mine:
    """A method of one's own."""

    recursion: Recursion = Recursion()
    share: float = 0.5


@dataclasses.dataclass(frozen=True)
class Whole:
    method: Any = Mine()
    name: str | None = None
    side: int | Literal["fit"] = 30
    steps: Steps = None
    num: int | None = None


def changed(*argv: str, default: Whole = Whole(), **options) -> Whole | None:
    return parse_changes(default, argv, "drm x", "Does x.", **options)


def test_options_are_those_of_the_classes_that_parts_have():
    made = changed("--method.recursion.cycles", "5", "--method.share=1e-1", "--side", "fit")
    assert made == Whole(Mine(Recursion(cycles=5), 0.1), side="fit")
    assert type(made.method) is Mine
    made = changed("--num", "all", hints={"num": AllOrSome}, default=Whole(num=3))
    assert made.num is None
    assert changed("--steps", "10,20", "--name", "None").steps == (10, 20)
    assert changed() == Whole()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 3, 0, 1)])
def test_changes_are_checked_together(order):
    argv = ("--method.recursion.cycles", "8", "--method.recursion.grad-cycles", "7")
    assert changed(*(argv[i] for i in order)).method.recursion == Recursion(8, 7)
    with pytest.raises(UsageError, match=r"grad_cycles: 4 is more than 3 \(see drm x --help\)"):
        changed("--method.recursion.grad-cycles", "4")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--method.cycles 3", "--method.cycles: there is no such option; did you mean --method.r"),
        ("--side full", "--side: 'full' is not a whole number and not fit (see drm x --help)"),
        ("--num 1.5", "--num: '1.5' is not a whole number (see"),
        ("--method.share x", "--method.share: 'x' is not a number (see"),
        ("--steps 1,1", "--steps: step 1 is named twice"),
        ("--steps", "Missing value for argument '--steps'"),
        ("more", "unrecognized arguments: more (see"),
    ],
)
def test_wrong_options_get_one_line(argv, message):
    with pytest.raises(UsageError) as raised:
        changed(*argv.split())
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_help_teaches_the_options_of_the_parts(capsys):
    assert changed("--help") is None
    out = capsys.readouterr().out
    for text in (
        "--method.recursion.grad-cycles INT",
        "The last cycles, which carry gradient.",
        "Loops of one method.",
        "Mine: A method of one's own.",
        "(default: 3)",
        "INT|fit",
    ):
        assert text in out


def test_required_positionals():
    @dataclasses.dataclass(frozen=True)
    class Needs:
        config: str

    with pytest.raises(UsageError, match="Missing from drm x: --config STR"):
        parse(Needs, [], "drm x", "")


def test_hints_are_for_one_place_alone():
    hints = {"method.num": AllOrSome}
    with pytest.raises(UsageError, match="--num: 'all' is not a whole number"):
        changed("--num", "all", hints=hints)


def test_what_was_never_checked_is_checked_even_without_changes():
    """As a part that was chosen by name, which may not go with the others."""
    recursion = Recursion()
    object.__setattr__(recursion, "grad_cycles", 4)
    for argv in ((), ("--name", "x")):
        with pytest.raises(UsageError, match="grad_cycles: 4 is more than 3"):
            changed(*argv, default=Whole(Mine(recursion)))


def test_parts_are_chosen_before_other_options_are_read():
    argv = ["--data.only", "a", "--method", "trm", "--seed", "1", "--data=sudoku"]
    base = Experiment("x", method=Drm(Recursions(cycles=5)), data=Arc(num_augmentations=7))
    chosen, rest = experiments.choose_parts(base, argv)
    assert chosen.method == Trm(Recursions(cycles=5))
    assert chosen.data == Sudoku()  # its options mean other things in another family
    assert (chosen.model, base.method) == (base.model, Drm(Recursions(cycles=5)))
    assert rest == ["--data.only", "a", "--seed", "1"]
    for argv in (["--method"], ["--method", "--seed"], ["--method="]):
        with pytest.raises(UsageError, match="--method: name one of drm, trm"):
            experiments.choose_parts(base, argv)


def test_parts_that_do_not_go_together_may_be_put_right_by_other_options():
    argv = ["--method", "trm", "--data.canvas", "30"]
    chosen, rest = experiments.choose_parts(Experiment("x", data=Arc(canvas="fit")), argv)
    assert parse_changes(chosen, rest, "drm x", "").data.canvas == 30
    with pytest.raises(UsageError, match=r"data\.canvas: fit"):
        parse_changes(chosen, [], "drm x", "")
