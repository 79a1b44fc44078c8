"""What `drm solve sudoku` solves, by kind of puzzle and by how many symmetric copies it takes.

    python -m experiments.study.solving_sudoku

New puzzles, of another seed than those that the weights were trained on; 2 minutes on one core.
"""

import sys
import time

import numpy as np

from drm_jax.puzzles.sudoku.generator import Wanted, make_puzzles
from drm_jax.runtime.programs import keep_programs
from drm_jax.solve.boards import COPIES, Solver
from drm_jax.solve.weights import find_source

KINDS = {
    "34 clues, singles": (Wanted(9, "singles", 34, 0, None), 128),
    "27 clues, as trained": (Wanted(9, "search", 27, 0, None), 256),
    "minimal": (Wanted(9, "search", 0, 0, None), 128),
}
_SEED = 987_654


def main() -> int:
    keep_programs()
    solver = Solver(find_source("sudoku"), None, print)
    copies = " | ".join(f"with {n} copies" for n in COPIES[1:])
    print(f"| puzzles | as they are | {copies} | s a puzzle |\n|---|{'---|' * len(COPIES)}---|")
    for kind, (wanted, count) in KINDS.items():
        puzzles = make_puzzles(wanted, count, _SEED)
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
