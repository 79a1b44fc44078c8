"""Which puzzles a published checkpoint is of: their family, their board and their sources."""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from drm_jax.errors import InputError, UsageError
from drm_jax.fields import MAX_NUMBER
from drm_jax.published.options import Options
from drm_jax.published.weights import Published
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.tasks import MAX_SIDE
from drm_jax.puzzles.arc.tokens import MASK
from drm_jax.puzzles.dihedral import NUM_TRANSFORMS
from drm_jax.puzzles.fixed import PUZZLE_ID
from drm_jax.puzzles.maze.family import Maze
from drm_jax.puzzles.sudoku.family import Sudoku
from drm_jax.puzzles.sudoku.solver import BOXES
from drm_jax.words import counted

Data = Arc | Sudoku | Maze
FamilyName = Literal["arc", "sudoku", "maze"]
Sources = tuple[tuple[str, ...], tuple[str, ...]]
"""To train on, and to test."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A family, and how its published checkpoints are known."""

    family: FamilyName
    pattern: str  # of the names of its datasets
    tokens: Sequence[int]  # numbers of tokens, with MASK and without
    rows: Callable[[int], bool]  # whether a puzzle table can have so many
    words: str  # these two in words
    make: Callable[[int], Data]  # the data of boards of such a side
    cells: Callable[[Options, Published], list[tuple[str, int]]]  # see `_known_cells`
    sources: Callable[[Sequence[str]], Sources | None]  # those that data_paths names
    asked: str  # what to name where it names none
    with_sources: Callable[[Data, Sequence[str], Sources], tuple[Data, list[str]]]


# --- the family -----------------------------------------------------------------------------------
def find_kind(options: Options, published: Published, given: FamilyName | None) -> Kind:
    """The family that was given, that data_paths names, or the only one with such a vocabulary.

    Raises:
      InputError: the checkpoint is of none, or not of the one that is named.
      UsageError: several could be meant.
    """
    fitting = [
        kind
        for kind in KINDS.values()
        if published.vocab in kind.tokens and kind.rows(published.num_ids)
    ]
    names = ", ".join(_dataset_names(options))
    named = [kind for kind in KINDS.values() if re.search(kind.pattern, names)]
    has = f"{counted(published.vocab, 'token')} and {counted(published.num_ids, 'puzzle row')}"
    if given is None and len(named) != 1:
        families = [kind.family for kind in fitting]
        if len(fitting) > 1:
            raise UsageError(
                f"{published.path}: has {has}, as {' and '.join(families)} have, and "
                f"{options.path}: data_paths doesn't tell which: say --data {' or '.join(families)}"
            )
        if not fitting:
            everything = "; ".join(kind.words for kind in KINDS.values())
            raise InputError(f"{published.path}: has {has}, as no family has: {everything}")
        return fitting[0]
    kind = named[0] if given is None else KINDS[given]
    if kind not in fitting:
        source = f"{options.path}: data_paths, {names}" if given is None else f"--data {given}"
        other = f"; say --data {fitting[0].family} if it is of that" if fitting else ""
        raise InputError(
            f"{published.path}: has {has}, and is not of {kind.family} ({source}): "
            f"{kind.words}{other}"
        )
    return kind


def _dataset_names(options: Options) -> list[str]:
    """Last parts of data_paths, in lower case with - for _."""
    paths = options.names("data_paths")
    return [Path(path).name.lower().replace("_", "-") for path in paths]


def first_row(data: Any) -> int | None:
    """Which row of our puzzle table the first published one becomes; None: none is kept.

    Rows that have names are those of `identifiers`; else there is one for all puzzles.
    """
    if not names_rows(data):
        return PUZZLE_ID
    return None if data.identifiers is None else 0


def names_rows(data: Any) -> bool:
    """Whether puzzles have rows of their own."""
    return hasattr(data, "identifiers")


# --- the board ------------------------------------------------------------------------------------
_METADATA = Path("train/dataset.json")
"""Of a published dataset, beside its identifiers.json."""
_ARC_DATASETS = ("arc1concept-aug-1000", "arc2concept-aug-1000")
"""What the published READMEs build; the canvas is 30x30."""


def find_side(
    options: Options,
    published: Published,
    kind: Kind,
    given: int | None,
    identifiers: str | None,
) -> tuple[int, list[str]]:
    """Cells along a side, and a note where they are only supposed.

    The tensors of a Transformer don't tell it, and published runs keep it with their data alone.
    """
    if given is not None and not 2 <= given <= MAX_SIDE:
        raise UsageError(f"--canvas: must be a whole number from 2 to {MAX_SIDE}, not {given}")
    known = _known_cells(options, published, identifiers) + kind.cells(options, published)
    known += [] if given is None else [("--canvas squared", given**2)]
    names = _dataset_names(options)
    if not known and names and set(names) <= set(_ARC_DATASETS):
        note = f"Canvas: {MAX_SIDE}x{MAX_SIDE}, that of {names[0]}; say --canvas if it was another"
        return MAX_SIDE, [note]
    if not known:
        raise UsageError(
            f"{options.path}: doesn't tell the canvas (arch.seq_len), nor does {_METADATA} beside "
            "identifiers.json: name its side with --canvas (30 for the published ARC and mazes)"
        )
    source, cells = known[0]
    for other, number in known[1:]:
        if number != cells:
            kind = UsageError if other.startswith("--") else InputError
            raise kind(f"{other} is {number}, but {source} is {cells}: both are the canvas's cells")
    side = math.isqrt(max(cells, 0))
    if side * side != cells:
        raise InputError(f"{source} is {cells}: only a square canvas can be imported")
    return side, []


def _known_cells(
    options: Options, published: Published, identifiers: str | None
) -> list[tuple[str, int]]:
    """(where it stands, cells of the canvas) of each place that tells it."""
    known = []
    if published.tokens is not None:
        prefix = options.get("arch.puzzle_emb_len", int) or 1
        source = f"{published.path}: {published.tokens} tokens less arch.puzzle_emb_len"
        known.append((source, published.tokens - prefix))
    if options.find("arch.seq_len") is not None:
        known.append((f"{options.path}: arch.seq_len", options.get("arch.seq_len", int)))
    metadata = None if identifiers is None else Path(identifiers).parent / _METADATA
    if metadata is not None and metadata.exists():
        known.append((f"{metadata}: seq_len", Options(metadata).get("seq_len", int)))
    return known


# --- the sources ----------------------------------------------------------------------------------
def with_sources(
    data: Data,
    options: Options,
    kind: Kind,
    train: Sequence[str] | None,
    evaluate: Sequence[str] | None,
) -> tuple[Data, list[str]]:
    """The data with its sources, and notes on them.

    Args:
      train, evaluate: as given; None: those that data_paths names.

    Raises:
      UsageError: they are not given, and data_paths doesn't tell them.
    """
    paths = options.names("data_paths")
    default = kind.sources(paths)
    if default is None and (train is None or evaluate is None):
        raise UsageError(
            f"{options.path}: data_paths is {', '.join(paths) or 'missing'}, which doesn't tell "
            f"{kind.asked}"
        )
    sources = (
        default[0] if train is None else tuple(train),
        default[1] if evaluate is None else tuple(evaluate),
    )
    return kind.with_sources(data, paths, sources)


def _augmentations(paths: Sequence[str], default: int) -> int:
    found = re.search(r"aug-(\d{1,6})", " ".join(paths))
    return int(found[1]) if found else default


def _with_tasks(data: Arc, paths: Sequence[str], sources: Sources) -> tuple[Arc, list[str]]:
    number = _augmentations(paths, Arc.num_augmentations)
    train, evaluate = sources
    return dataclasses.replace(
        data, train=train, evaluate=evaluate, leaks="drop", num_augmentations=number
    ), []


def _with_boards(
    most: int, data: Sudoku | Maze, paths: Sequence[str], sources: Sources
) -> tuple[Sudoku | Maze, list[str]]:
    """Of how many puzzles are trained on, the dataset's name tells the thousands, as 1k.

    Args:
      most: symmetric copies that a puzzle can have.
    """
    train, evaluate = sources
    thousands = re.search(r"(?<![a-z\d])(\d{1,5})k(?![a-z\d])", " ".join(paths).lower())
    count = 1000 * int(thousands[1]) if thousands else MAX_NUMBER  # all
    notes = []
    if thousands and not all(Path(source).is_dir() for source in train):
        notes.append(
            f"Trained on, {counted(count, 'puzzle is', 'puzzles are')} drawn from "
            f"{', '.join(train)}; which the published run had is known only from its dataset's "
            "folder"
        )
    return dataclasses.replace(
        data,
        train=train,
        evaluate=evaluate,
        train_puzzles=count,
        num_augmentations=min(_augmentations(paths, 0), most),
    ), notes


def _folder_source(paths: Sequence[str]) -> Sources | None:
    """The folder of the dataset, where it is here."""
    if len(paths) == 1 and Path(paths[0]).is_dir():
        return (paths[0],), (paths[0],)
    return None


def _arc_sources(data_paths: Sequence[str]) -> Sources | None:
    """(train, evaluate) sources of a published dataset's name; None where it tells none."""
    known = {"arc1": r"arc-?(agi-?)?1(?!\d)", "arc2": r"arc-?(agi-?)?2(?!\d)"}
    text = " ".join(data_paths).lower().replace("_", "-")
    found = [source for source, pattern in known.items() if re.search(pattern, text)]
    if len(found) != 1:
        return None
    return (f"{found[0]}/training",), (f"{found[0]}/evaluation",)


# --- all families ---------------------------------------------------------------------------------
_SUDOKU_SIDE = {side + 2 + mask: side for side in BOXES for mask in (0, 1)}
"""The side of Sudoku by the number of tokens: PAD, blank, a digit for each cell of a side, MASK."""
_MAZE_TOKENS = Maze().vocabulary.size


def _sudoku_cells(options: Options, published: Published) -> list[tuple[str, int]]:
    source = f"{published.path}: {published.vocab} tokens, the board of such a Sudoku"
    return [(source, _SUDOKU_SIDE[published.vocab] ** 2)]


def _maze_cells(options: Options, published: Published) -> list[tuple[str, int]]:
    found = re.search(r"(?<!\d)(\d{1,2})x\1(?!\d)", " ".join(_dataset_names(options)))
    return [(f"{options.path}: data_paths", int(found[1]) ** 2)] if found else []


_ASKED = (
    "the puzzles: name them with --train and --evaluate, CSV files or the folder of the dataset"
)
KINDS = {
    kind.family: kind
    for kind in (
        Kind(
            family="arc",
            pattern=r"(?<![a-z])arc",
            tokens=(MASK, MASK + 1),
            rows=lambda rows: rows > 1,
            words=f"ARC has {MASK} tokens, or {MASK + 1} with MASK, and a row for each puzzle",
            make=lambda side: Arc(canvas=side),
            cells=lambda options, published: [],
            sources=_arc_sources,
            asked="the tasks: name them with --train and --evaluate",
            with_sources=_with_tasks,
        ),
        Kind(
            family="sudoku",
            pattern="sudoku",
            tokens=tuple(_SUDOKU_SIDE),
            rows=lambda rows: rows == 1,
            words="Sudoku of side N has N + 2 tokens, or N + 3 with MASK, and one row",
            make=Sudoku,
            cells=_sudoku_cells,
            sources=_folder_source,
            asked=_ASKED,
            with_sources=functools.partial(_with_boards, MAX_NUMBER),
        ),
        Kind(
            family="maze",
            pattern="maze",
            tokens=(_MAZE_TOKENS, _MAZE_TOKENS + 1),
            rows=lambda rows: rows == 1,
            words=f"a maze has {_MAZE_TOKENS} tokens, or {_MAZE_TOKENS + 1} with MASK, and one row",
            make=Maze,
            cells=_maze_cells,
            sources=_folder_source,
            asked=_ASKED,
            with_sources=functools.partial(_with_boards, NUM_TRANSFORMS - 1),
        ),
    )
}
