"""drm solve sudoku, drm solve maze: answers puzzles of a family with trained weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from drm_jax.commands.devices import import_jax
from drm_jax.errors import InputError, UsageError
from drm_jax.words import counted

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from drm_jax.puzzles.fixed import FixedBoard
    from drm_jax.solve.boards import Answer

FAMILIES = ("sudoku", "maze")
"""What may stand in the place of TASKS: families with weights in the package."""
_PICTURED = 3
"""So many puzzles are shown as boards; of more a line each."""


def solve_boards(
    family: str, puzzles: Sequence[str], weights: str | None, denoise_steps: int | None
) -> int:
    """Answers puzzles and prints what the rules say of the answers.

    Args:
      family: one of `FAMILIES`.
      puzzles: boards, or files with a puzzle a line.
      weights: a file of weights, or a work directory; None: those in the package.

    Returns:
      0, or 1 where an answer breaks a rule.

    Raises:
      InputError, UsageError: a puzzle or the weights can't be used.
    """
    if not puzzles:
        raise UsageError(
            f"drm solve {family}: name a puzzle: its cells in one text, row by row, or a file with "
            "a puzzle a line"
        )
    import_jax()
    from drm_jax.puzzles.exact import name_of
    from drm_jax.runtime.console import open_console
    from drm_jax.runtime.programs import keep_programs
    from drm_jax.solve.boards import Solver
    from drm_jax.solve.weights import find_source

    keep_programs()
    console = open_console()
    source = find_source(weights or family)
    solver = Solver(source, denoise_steps, lambda text: None)
    if name_of(solver.family) != family:
        raise UsageError(f"--from: {source.path}: its puzzles are not those of {family}")
    boards = _read(puzzles, solver.family)
    answers = solver.solve(boards)
    _print(boards, answers, solver.family, console)
    return 0 if all(answer.valid for answer in answers) else 1


def _read(puzzles: Sequence[str], family: "FixedBoard") -> list["np.ndarray"]:
    """The boards of texts, and of files with one puzzle, or one a line."""
    from drm_jax.puzzles.fixed import read_board

    symbols, board = family.vocabulary.symbols, family.board
    boards = []
    for puzzle in puzzles:
        path = Path(puzzle).expanduser()
        lines = _lines_of(path)
        if sum(len(line) == board[0] * board[1] for line in lines) < 2:
            boards.append(read_board(str(path) if lines else puzzle, symbols, board))
            continue
        for number, line in enumerate(lines, 1):
            try:
                boards += [read_board(line, symbols, board)] if line else []
            except InputError as error:
                raise InputError(f"{path}: line {number}: {error}") from error
    return boards


def _lines_of(path: Path) -> list[str]:
    """Of a file; none where there is no such file."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").split("\n")]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8 (byte {error.start})") from error
    except (OSError, ValueError):  # a puzzle, which may be no name that a file can have
        return []


def _print(
    boards: Sequence["np.ndarray"],
    answers: Sequence["Answer"],
    family: "FixedBoard",
    console: "Console",
) -> None:
    from drm_jax.evaluate.pictures import grids_row, terminal_row

    symbols = family.vocabulary.symbols
    pairs = list(zip(boards, answers, strict=True))
    for number, (board, answer) in enumerate(pairs, 1):
        line = "".join(symbols[cell] for cell in answer.grid.reshape(-1))
        if len(pairs) <= _PICTURED:
            title = _verdict(board, answer, family)
            if len(pairs) > 1:
                title = f"puzzle {number}: {title}"
            row = grids_row(title, [("puzzle", board), ("answer", answer.grid)], board, family)
            console.print(terminal_row(row, family, console.width))
            console.print(line, soft_wrap=True)
        else:
            console.print(f"{line} {'solved' if answer.valid else 'breaks a rule'}", soft_wrap=True)
    if len(pairs) > 1:
        solved = sum(answer.valid is True for answer in answers)
        console.print(f"{solved:,} of {counted(len(pairs), 'puzzle')} solved")


def _verdict(board: "np.ndarray", answer: "Answer", family: "FixedBoard") -> str:
    """What the rules say of an answer."""
    if answer.valid:
        said = "solved: every rule is kept, and every clue stands"
    else:
        cells = counted(int(family.conflicts(board, answer.grid).sum()), "cell")
        said = f"not solved: the best answer breaks a rule in {cells}"
    if answer.copies == 1:
        return said
    copies = counted(answer.copies, "symmetric copy", "symmetric copies")
    return f"{said} ({answer.votes} of {copies} gave it)"
