"""What `drm solve sudoku` and `drm solve maze` solve, by kind of puzzle and by how many symmetric
copies it takes.

    python -m experiments.study.solving_boards sudoku
    python -m experiments.study.solving_boards maze

New puzzles, of another seed than those that the weights were trained on; 2 minutes on one core.
"""

import sys
import time

import numpy as np

from drm_jax.puzzles.maze import generator as mazes
from drm_jax.puzzles.sudoku import generator as sudokus
from drm_jax.runtime.programs import keep_programs
from drm_jax.solve.boards import COPIES, Solver
from drm_jax.solve.weights import find_source

_SEED = 987_654
KINDS = {
    "sudoku": {
        "34 clues, singles": (sudokus.Wanted(9, "singles", 34, 0, None), 128),
        "27 clues, as trained": (sudokus.Wanted(9, "search", 27, 0, None), 256),
        "minimal": (sudokus.Wanted(9, "search", 0, 0, None), 128),
    },
    "maze": {
        "2 to 9 moves": (mazes.Wanted(9, 2, 9), 256),
        "10 to 18 moves": (mazes.Wanted(9, 10, 18), 256),
        "19 to 30 moves": (mazes.Wanted(9, 19, 30), 256),
        "more than 30 moves": (mazes.Wanted(9, 31, None), 256),
    },
}
MAKERS = {"sudoku": sudokus.make_puzzles, "maze": mazes.make_mazes}


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in KINDS:
        print(f"usage: python -m experiments.study.solving_boards {'|'.join(KINDS)}")
        return 2
    name = sys.argv[1]
    keep_programs()
    solver = Solver(find_source(name), None, print)
    copies = " | ".join(f"with {n} copies" for n in COPIES[1:])
    print(f"| puzzles | as they are | {copies} | s a puzzle |\n|---|{'---|' * len(COPIES)}---|")
    for kind, (wanted, count) in KINDS[name].items():
        puzzles = MAKERS[name](wanted, count, _SEED)
        boards = [board_S.reshape(solver.family.board) for board_S in puzzles.inputs_NxS]
        start = time.perf_counter()
        answers = solver.solve(boards)
        seconds = (time.perf_counter() - start) / count
        right = np.array([
            np.array_equal(answer.grid.reshape(-1), output_S)
            for answer, output_S in zip(answers, puzzles.outputs_NxS, strict=True)
        ])  # fmt: skip
        taken = np.array([answer.copies for answer in answers])
        solved = " | ".join(f"{100 * (right & (taken <= n)).mean():.1f}%" for n in COPIES)
        print(f"| {kind} ({count}) | {solved} | {seconds:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
