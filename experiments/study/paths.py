"""Where a test goes wrong, and whether it recovers: what each of its passes has answered."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from drm_jax.evaluate.answers import Packed, Trajectory, augmented, unpack
from drm_jax.evaluate.marks import given_in
from drm_jax.evaluate.pictures import Frame, Row, image, png
from drm_jax.puzzles.family import PAD, Family

SHOWN = (1, 2, 3, 4, 8, 16, 32)
"""Passes whose answers are shown of an example."""
_EARLY = 8
"""The pass at which an example that recovers has the most wrong cells."""
KINDS = {"recovers": "recovers", "lost": "was right, and is lost", "wrong": "stays wrong"}
"""Examples: why each is shown."""


@dataclasses.dataclass(frozen=True, eq=False)
class Answered:
    """What the passes of one candidate have answered."""

    trajectory: Trajectory
    wrong_NxC: np.ndarray  # bool, of the C cells that are scored
    right_N: np.ndarray  # bool, whether all cells are


def summary(packed: Iterable[Packed], family: Family) -> dict[str, Any]:
    """What the passes of all candidates have answered, for a row.

    Returns:
      By pass: `right`, the share of candidates without a wrong cell; `wrong`, the share of wrong
      cells, all candidates pooled; `mended`, of those wrong then the share that is right in the
      end; `spoiled`, of those right then the share that is wrong in the end (None: there are none).
      Of all candidates: `lost`, the share that was right after a pass and is not in the end. Of
      those wrong, and of those right in the end: `sure_wrong`, `sure_right`, the share whose
      halting score says that they are right. Of those wrong in the end: `moving`, the share whose
      answer the last pass has changed; `wrong_cells`, their mean number. And `examples`.
    """
    all_R = [_answered(unpack(one), family) for one in packed]
    wrong_NxC = np.concatenate([one.wrong_NxC for one in all_R], axis=1)
    right_RxN = np.stack([one.right_N for one in all_R])
    right_R, wrong_C = right_RxN[:, -1], wrong_NxC[-1]
    sure_R = np.array([one.trajectory.q_halt_N[-1] > 0 for one in all_R])
    moving_R = np.array([_moves(one.trajectory) for one in all_R])
    cells_R = np.array([one.wrong_NxC[-1].sum() for one in all_R])
    return {
        "right": _rounded(right_RxN.mean(axis=0)),
        "wrong": _rounded(wrong_NxC.mean(axis=1)),
        "mended": [_share(~wrong_C, wrong_C_of) for wrong_C_of in wrong_NxC],
        "spoiled": [_share(wrong_C, ~wrong_C_of) for wrong_C_of in wrong_NxC],
        "lost": round(float((right_RxN.any(axis=1) & ~right_R).mean()), 4),
        "sure_wrong": _share(sure_R, ~right_R),
        "sure_right": _share(sure_R, right_R),
        "moving": _share(moving_R, ~right_R),
        "wrong_cells": None if right_R.all() else round(float(cells_R[~right_R].mean()), 2),
        "examples": examples(all_R, family),
    }


def _answered(trajectory: Trajectory, family: Family) -> Answered:
    truth = augmented(trajectory.truth, trajectory.augmentation_A, family)
    truth_S = family.to_tokens(truth, trajectory.board).reshape(-1)
    wrong_NxC = (trajectory.predicted_NxS != truth_S)[:, truth_S != PAD]
    return Answered(trajectory, wrong_NxC, ~wrong_NxC.any(axis=1))


def _moves(trajectory: Trajectory) -> bool:
    """Whether the last pass has changed the answer."""
    return bool((trajectory.predicted_NxS[-1] != trajectory.predicted_NxS[-2]).any())


def _rounded(shares: np.ndarray) -> list[float]:
    return [round(float(share), 4) for share in shares]


def _share(part: np.ndarray, of: np.ndarray) -> float | None:
    """Of those in `of`, how many are in `part` too; both bool."""
    return round(float(part[of].mean()), 4) if of.any() else None


# --- examples -------------------------------------------------------------------------------------
def examples(all_R: Sequence[Answered], family: Family) -> dict[str, dict[str, Any]]:
    """One of each of KINDS, if there is one, among candidates without augmentation: of those that
    are right in the end the one with the most wrong cells after pass 8, the first that was right
    and is lost, and of those that were never right the middle one by its wrong cells in the end.

    Boards are strings, a character a cell: its token, as a digit of base 36.
    """
    plain = [x for x in all_R if not family.augmentation_name(x.trajectory.augmentation_A)]
    right = [one for one in plain if one.right_N[-1]]
    lost = [one for one in plain if one.right_N.any() and not one.right_N[-1]]
    wrong = [one for one in plain if not one.right_N.any()]
    found = {}
    if right:
        early = min(_EARLY, len(right[0].right_N)) - 1
        found["recovers"] = max(right, key=lambda one: one.wrong_NxC[early].sum())
    if lost:
        found["lost"] = lost[0]
    if wrong:
        wrong.sort(key=lambda one: one.wrong_NxC[-1].sum())
        found["wrong"] = wrong[len(wrong) // 2]
    return {kind: _example(one, family) for kind, one in found.items()}


def _example(one: Answered, family: Family) -> dict[str, Any]:
    trajectory = one.trajectory
    question, truth = (
        family.to_tokens(grid, trajectory.board).reshape(-1)
        for grid in (trajectory.question, trajectory.truth)
    )
    return {
        "board": list(trajectory.board),
        "question": _written(question),
        "truth": _written(truth),
        "answers": {
            str(n): _written(trajectory.predicted_NxS[n - 1])
            for n in SHOWN
            if n <= len(trajectory.predicted_NxS)
        },
        "wrong_cells": one.wrong_NxC.sum(axis=1).tolist(),
    }


def _written(tokens_S: np.ndarray) -> str:
    return "".join(np.base_repr(token, 36).lower() for token in tokens_S.tolist())


def _read(text: str, board: Sequence[int]) -> np.ndarray:
    return np.array([int(token, 36) for token in text], np.uint8).reshape(board)


def gallery(found: Mapping[str, Mapping[str, Any]], family: Family) -> bytes:
    """A PNG of examples: the puzzle, what some passes have answered, with wrong cells outlined, and
    the truth."""
    return png(image([example_row(kind, of, family) for kind, of in found.items()], family, 16))


def example_row(kind: str, example: Mapping[str, Any], family: Family) -> Row:
    """The frames of one example."""
    board = tuple(example["board"])
    question, truth = (_read(example[name], board) for name in ("question", "truth"))
    given = given_in(family.to_grid(question.reshape(-1), board), board, family)
    unmarked = np.zeros(board, bool)
    frames = [Frame("puzzle", question, given, unmarked)]
    for passes, text in example["answers"].items():
        answer = _read(text, board)
        caption = f"pass {passes}\n{example['wrong_cells'][int(passes) - 1]} wrong"
        frames.append(Frame(caption, answer, given, (answer != truth) & (truth != PAD)))
    return KINDS[kind], [*frames, Frame("truth", truth, given, unmarked)]
