"""Options of a command line, which tyro reads into a frozen dataclass; wrong use gets one line."""

import contextlib
import dataclasses
import inspect
import io
import os
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from drm_jax.commands.help_text import HELP, explanations, fitted, short_help
from drm_jax.errors import UsageError
from drm_jax.references import did_you_mean

Options = TypeVar("Options")
_POSITIONAL = typing.get_args(tyro.conf.Positional[str])[1]
_FIXED = typing.get_args(tyro.conf.Fixed[str])[1]


def parse(
    options: type[Options],
    argv: Sequence[str],
    prog: str,
    description: str,
    *,
    default: Any = None,
    known: Sequence[str] = (),
) -> Options | None:
    """What a command line says of the fields of a dataclass; dataclasses in it are groups.

    Args:
      prog: the command, such as "drm eval", for messages.
      description: what the command does, with examples; the head of its help.
      default: one of `options`, where fields that are not given come from.
      known: names of options that were taken out of `argv` before.

    Returns:
      None where help was asked for, and printed.

    Raises:
      UsageError: an unknown option, with the nearest there is, or a value that doesn't fit.
    """
    _check_names(argv, [*known, *option_names(options), *HELP], prog)
    asks_for_help = not set(HELP).isdisjoint(argv)
    said, helped = io.StringIO(), io.StringIO()
    try:
        with (
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(helped),
            _columns(None if asks_for_help else 10_000),
        ):
            parsed, rest = tyro.cli(
                _explained(options) if default is None else options,
                args=["--help"] if asks_for_help else argv,
                default=tyro.MISSING_NONPROP if default is None else default,
                prog=prog,
                description="",
                return_unknown_args=True,
                registry=_REGISTRY,
            )
    except SystemExit as stop:
        if not stop.code:
            usage, _, boxes = helped.getvalue().partition("\n\n")
            print(f"{usage}\n\n{fitted(description.strip())}\n\n{_plain_boxes(boxes).strip()}")
            return None
        raise UsageError(f"{_text_of(said.getvalue())} (see {prog} --help)") from None
    if rest:
        raise UsageError(f"unrecognized arguments: {' '.join(rest)} (see {prog} --help)")
    if default is not None:
        return parsed
    return options(
        **{field.name: getattr(parsed, field.name) for field in dataclasses.fields(options)}
    )


def _check_names(argv: Sequence[str], names: Sequence[str], prog: str) -> None:
    """Raises UsageError where a word of a command line is an option of no such name."""
    for word in argv:
        name = word.split("=")[0].replace("_", "-")
        if re.match("--|-[A-Za-z]", name) and name not in names:
            # tyro writes --train.no-x where other tools write --no-train.x
            turned = re.sub(r"^--no-(.*\.)", r"--\1no-", name)
            meant = did_you_mean((turned if turned in names else name).lower(), names)
            raise UsageError(f"{name}: there is no such option{meant} (see {prog} --help)")


def _plain_boxes(boxes: str) -> str:
    """tyro's lists of options without defaults that say nothing, such as None, and without a remark
    that their titles make."""
    boxes = re.sub(r"\s*\(default:\s*(None)?\s*\)", "", boxes)
    boxes = re.sub(r"\n.*At most one argument can be overridden\.\s*-+", "", boxes)
    return "\n".join(line.rstrip() for line in boxes.split("\n"))


def parse_changes(
    default: Options,
    argv: Sequence[str],
    prog: str,
    description: str,
    *,
    hints: Mapping[str, Any] | None = None,
    known: Sequence[str] = (),
    common: tuple[str, Sequence[str]] | None = None,
) -> Options | None:
    """A dataclass with the changes of a command line; see `parse`.

    The options are those of the classes that its parts really have, which annotations need not say.
    All changes are made before anything is checked, so that their order does not matter.

    Args:
      hints: types of some fields, instead of those that they are annotated with; by their dotted
        names, such as "experiment.seed".
      common: what --help shows, where --help-all shows `description` and every option: a
        description, and names of options.
    """
    if common is not None and not {"-h", "--help"}.isdisjoint(argv):
        print(short_help(default, common[1], prog, common[0]))
        return None
    plain = _unchecked(default, hints or {})
    parsed = parse(type(plain), argv, prog, description, default=plain, known=known)
    if parsed is None:
        return None
    try:
        return _with_values_of(default, parsed)
    except UsageError as error:
        raise UsageError(f"{error} (see {prog} --help)") from error


def _unchecked(part: Any, hints: Mapping[str, Any], prefix: str = "") -> Any:
    """An instance of a subclass without checks, annotated with the classes of its parts.

    A part that may be of any class is explained by what its own class says of itself.
    """
    cls, fields, values, texts = type(part), [], {}, explanations(type(part))
    annotated, bare = typing.get_type_hints(cls, include_extras=True), typing.get_type_hints(cls)
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        hint = hints.get(f"{prefix}{field.name}", bare[field.name])
        marks = getattr(annotated[field.name], "__metadata__", ())
        if dataclasses.is_dataclass(value):
            if hint is Any and not marks:
                marks = (tyro.conf.arg(help=f"{type(value).__name__}: {_summary(type(value))}"),)
            value = _unchecked(value, hints, f"{prefix}{field.name}.")
            hint = type(value)
        elif field.name in texts:
            marks = (*marks, tyro.conf.arg(help=texts[field.name]))
        for mark in marks:
            hint = Annotated[hint, mark]
        fields.append((field.name, hint))
        values[field.name] = value
    namespace = {"__doc__": cls.__doc__, "__post_init__": lambda self: None}
    plain = dataclasses.make_dataclass(
        cls.__name__, fields, bases=(cls,), namespace=namespace, frozen=True, kw_only=True
    )
    return plain(**values)


def _explained(options: type) -> type:
    """A subclass whose fields are explained in one line each: tyro breaks the lines once more."""
    hints = typing.get_type_hints(options, include_extras=True)
    texts = explanations(options)
    again = {name: Annotated[hints[name], tyro.conf.arg(help=text)] for name, text in texts.items()}
    namespace = {"__annotations__": again, "__doc__": options.__doc__}
    return dataclasses.dataclass(frozen=True)(type(options.__name__, (options,), namespace))


def _summary(cls: type) -> str:
    """The first paragraph of a class's docstring, in one line."""
    return " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())


def _with_values_of(part: Options, parsed: Any) -> Options:
    """Made anew, and so checked, even where nothing is changed."""
    values = {}
    for field in dataclasses.fields(part):
        old, new = getattr(part, field.name), getattr(parsed, field.name)
        values[field.name] = _with_values_of(old, new) if dataclasses.is_dataclass(old) else new
    return dataclasses.replace(part, **values)


def option_names(options: type, prefix: str = "") -> Iterator[str]:
    """--data.train and the like, as tyro names the fields of nested dataclasses."""
    annotated, bare = (
        typing.get_type_hints(options, include_extras=True),
        typing.get_type_hints(options),
    )
    for field in dataclasses.fields(options):
        hint = bare[field.name]
        metadata = getattr(annotated[field.name], "__metadata__", ())
        named = [name for mark in metadata if (name := getattr(mark, "name", None))]
        written = (named or [field.name])[0].replace("_", "-")
        if dataclasses.is_dataclass(hint):
            flat = any(getattr(mark, "name", None) == "" for mark in metadata)
            yield from option_names(hint, prefix if flat else f"{prefix}{written}.")
        elif _POSITIONAL not in metadata and _FIXED not in metadata:
            yield f"--{prefix}{written}"
            if hint is bool:
                yield f"--{prefix}no-{written}"


@contextlib.contextmanager
def _columns(number: int | None) -> Iterator[None]:
    """As in a terminal of so many columns: tyro breaks its messages into lines of that width."""
    before = os.environ.get("COLUMNS")
    if number is not None:
        os.environ["COLUMNS"] = str(number)
    try:
        yield
    finally:
        if number is not None:
            os.environ.pop("COLUMNS")
            os.environ.update({} if before is None else {"COLUMNS": before})


def _text_of(box: str) -> str:
    """What tyro says in a box, up to its first rule or empty line, as one line.

    tyro has no public way to its messages but to print them: its hook for errors is internal.
    """
    lines = [line.strip("│|+ ") for line in box.splitlines()[1:]]
    rules = [i for i, line in enumerate(lines) if not line.strip("─-╰╯")]
    start = 1 if rules and rules[0] == 0 else 0  # in ASCII, a rule follows the title
    end = next((i for i in rules if i > start), len(lines))
    return " ".join(lines[start:end]).removeprefix("Error parsing ").removesuffix(".")


# --- how values are read ------------------------------------------------------------------------
_REGISTRY = ConstructorRegistry()


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        shown = text if len(text) < 40 else f"…{text[-40:]}"
        raise ValueError(f"{shown!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


_READERS: dict[type, tuple[str, Callable[[str], Any]]] = {
    int: ("INT", whole_number),
    float: ("FLOAT", _number),
    str: ("STR", str),
    Path: ("PATH", Path),
}


def one_value(metavar: str, read: Callable[[str], Any], none: str = "None") -> Any:
    """How tyro reads an option of one word; `none` is the word for None."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: True,
        str_from_instance=lambda value: [none if value is None else str(value)],
    )


@_REGISTRY.primitive_rule
def _number_or_word(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Numbers; and numbers or texts that certain words may stand for, such as int | None."""
    is_union = typing.get_origin(info.type) in (types.UnionType, typing.Union)
    kinds = typing.get_args(info.type) if is_union else (info.type,)
    words = {word: word for kind in kinds if typing.get_origin(kind) is Literal
             for word in typing.get_args(kind)}  # fmt: skip
    words |= {"None": None} if types.NoneType in kinds else {}
    inner = [kind for kind in kinds if kind in _READERS]
    others = len(kinds) - len(inner) - sum(typing.get_origin(kind) is Literal for kind in kinds)
    if len(inner) != 1 or others != (types.NoneType in kinds) or info.type in (str, Path):
        return None
    metavar, read = _READERS[inner[0]]

    def read_word(text: str) -> Any:
        if text in words:
            return words[text]
        try:
            return read(text)
        except ValueError as error:
            named = [word for word, value in words.items() if value is not None]
            raise ValueError(" and not ".join([str(error), *named])) from None

    shown = [metavar, *(word for word, value in words.items() if value is not None)]
    return one_value("|".join(shown), read_word)


def _step(text: str) -> int:
    step = whole_number(text)
    if step < 0:
        raise ValueError(f"a step is at least 0, not {step}")
    return step


def _steps(text: str) -> tuple[int, ...]:
    steps: list[int] = []
    for word in text.split(","):
        try:
            step = _step(word)
        except ValueError as error:
            raise ValueError(f"{error}; give steps as in 1000,2000") from None
        if step in steps:
            raise ValueError(f"step {step} is named twice; leave one out")
        steps.append(step)
    return tuple(steps)


Step = Annotated[int | None, one_value("N", _step)]
"""A step of a checkpoint."""
Steps = Annotated[tuple[int, ...] | None, one_value("N,M,…", _steps)]
"""Several steps in one word, such as 1000,2000."""
AllOrSome = Annotated[
    int | None,
    one_value("N|all", lambda text: None if text == "all" else whole_number(text), "all"),
]
"""A number, or all of them, which is None."""
