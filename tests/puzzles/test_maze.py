"""Mazes: made from a seed, rules, symmetries, files; the family."""

import numpy as np
import pytest

from drm_jax.errors import InputError, UsageError
from drm_jax.puzzles.dihedral import NUM_TRANSFORMS
from drm_jax.puzzles.maze.family import Maze
from drm_jax.puzzles.maze.generator import Wanted, carve, make_mazes, num_bits
from drm_jax.puzzles.maze.rules import FREE, GOAL, PATH, START, WALL, conflicts, is_solved, moves
from drm_jax.puzzles.maze.symmetries import augment, invariant, undo
from drm_jax.random_bits import draw_bits


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def board(text: str) -> np.ndarray:
    """(1, S) symbols."""
    return np.array([["# SGo".index(c) for c in text.replace("\n", "")]], np.uint8)


QUESTION = board("S  #\n## #\n#  #\n#G  ")
ANSWER = board("Soo#\n##o#\n#oo#\n#G  ")


def distance(question_S: np.ndarray, side: int) -> int:
    """By a plain breadth-first search; 0 where there is no way."""
    grid = question_S.reshape(side, side)
    start = tuple(np.argwhere(grid == START)[0].tolist())
    seen, ring, steps = {start}, [start], 0
    while ring:
        steps += 1
        around = [
            (y + dy, x + dx) for y, x in ring for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        ]
        ring = []
        for y, x in around:
            inside = 0 <= y < side and 0 <= x < side and (y, x) not in seen
            if inside and grid[y, x] != WALL:
                if grid[y, x] == GOAL:
                    return steps
                seen.add((y, x))
                ring.append((y, x))
    return 0


# --- rules ----------------------------------------------------------------------------------------
def test_a_path_is_connected_and_shortest():
    assert moves(QUESTION, QUESTION != WALL, 4).tolist() == [6]
    assert is_solved(QUESTION, ANSWER, 4).all()
    wrong = {
        "cut": "Soo#\n##o#\n# o#\n#G  ",
        "more": "Soo#\n##o#\n#oo#\n#Go ",
        "through a wall": "Soo#\n##o#\n#oo#\noG  ",
        "another goal": "Soo#\n##o#\n#oo#\n# G ",
        "none": "S  #\n## #\n#  #\n#G  ",
    }
    for text in wrong.values():
        assert not is_solved(QUESTION, board(text), 4).any()
    longer = board("Soo#\n##o#\n# o#\n#Goo")  # a way, but not the shortest
    assert not is_solved(QUESTION, longer, 4).any()
    grid = QUESTION.reshape(4, 4)
    assert not conflicts(grid, ANSWER.reshape(4, 4)).any()
    assert np.argwhere(conflicts(grid, board(wrong["cut"]).reshape(4, 4))).tolist() == []
    beyond = board("S  #\n##o#\n#oo#\n#G  ").reshape(4, 4)
    assert conflicts(grid, beyond).sum() == 3  # the start can't reach them
    through = conflicts(grid, board(wrong["through a wall"]).reshape(4, 4))
    assert np.argwhere(through).tolist() == [[3, 0]]


def test_moves_are_those_of_a_plain_search():
    rng = np.random.default_rng(0)
    mazes = np.where(rng.random((300, 36)) < 0.35, WALL, FREE).astype(np.uint8)
    mazes[:, 0], mazes[np.arange(300), rng.integers(1, 36, 300)] = START, GOAL
    found_N = moves(mazes, mazes != WALL, 6)
    assert found_N.tolist() == [distance(maze, 6) for maze in mazes]
    assert 0.1 < (found_N == 0).mean() < 0.9


# --- the generator --------------------------------------------------------------------------------
@pytest.mark.parametrize("side", [3, 8, 11, 30])
def test_mazes_have_one_way(side):
    bits = draw_bits((1,), 0, 40, num_bits(side))
    solved_NxS, moves_N = carve(bits, side, 2)
    assert (moves_N >= 2).all()
    question_NxS = np.where(solved_NxS == PATH, FREE, solved_NxS)
    assert is_solved(question_NxS, solved_NxS, side).all()
    assert moves(question_NxS, question_NxS != WALL, side).tolist() == moves_N.tolist()
    # a tree: every wall between two places that is open joins what nothing else joins
    places = ((side + 1) // 2) ** 2
    assert ((question_NxS != WALL).sum(axis=1) == 2 * places - 1).all()
    again, _ = carve(bits[7:9], side, 2)
    np.testing.assert_array_equal(again, solved_NxS[7:9], strict=True)


def test_the_length_that_is_asked_for(monkeypatch):
    made = make_mazes(Wanted(12, 30, 40), 20, 0)
    assert made.difficulty_N.min() >= 30
    assert made.difficulty_N.max() <= 40
    assert len(np.unique(made.inputs_NxS, axis=0)) == 20
    monkeypatch.setattr("drm_jax.puzzles.made.MOST_MISSES", 1)
    with pytest.raises(InputError, match="only 0 of 5 mazes of this kind were found"):
        make_mazes(Wanted(5, 100, None), 5, 0)


# --- symmetries -----------------------------------------------------------------------------------
def test_symmetries_are_undone_and_keep_the_rules():
    solved_NxS, _ = carve(draw_bits((2,), 0, 8, num_bits(9)), 9, 2)
    question_NxS = np.where(solved_NxS == PATH, FREE, solved_NxS)
    both = np.stack([question_NxS, solved_NxS], axis=1)
    form_N = invariant(question_NxS, 9)
    assert len(set(form_N.tolist())) == 8
    seen = set()
    for which in range(NUM_TRANSFORMS):
        which_N = np.full(8, which)
        changed = augment(both, which_N, 9)
        np.testing.assert_array_equal(undo(changed, which_N, 9), both, strict=True)
        assert is_solved(changed[:, 0], changed[:, 1], 9).all()
        np.testing.assert_array_equal(invariant(changed[:, 0], 9), form_N)
        seen.add(changed[0].tobytes())
    assert len(seen) == NUM_TRANSFORMS


# --- the family -----------------------------------------------------------------------------------
def test_the_family():
    family = Maze(side=8, train_puzzles=6, test_puzzles=3, num_augmentations=7)
    puzzles = family.load(0, {})
    assert (family.vocabulary.size, family.boards) == (6, ((8, 8),))
    assert (len(puzzles.trained), len(puzzles.tests)) == (6, 3)
    example_N, variant_N = np.array([2, 2]), np.array([0, 5])
    rows = puzzles.training_rows(example_N, variant_N, None, (8, 8))
    assert family.verify(rows["inputs"] - np.uint8(1), rows["target"] - np.uint8(1)).all()
    way = family.symmetries(0, example_N, variant_N)[1]
    grid = rows["inputs"][1].reshape(8, 8)
    np.testing.assert_array_equal(family.undo(grid, way), rows["inputs"][0].reshape(8, 8))
    np.testing.assert_array_equal(family.augment(family.undo(grid, way), way), grid)
    assert family.augmentation_name(way) == "t5"
    questions = puzzles.questions(None)
    judge = questions.judge()
    judge.add(np.arange(3), questions.truths(np.arange(3))[0], np.zeros(3), (8, 8))
    scores = judge.scores(np.ones(3))
    assert (scores["exact"], scores["valid"]) == (1, 1)
    with pytest.raises(UsageError, match=r"data.num_augmentations: must be int <= 7, not 8"):
        Maze(num_augmentations=8)
    drawn = "\n".join(
        "".join("# SGo"[c] for c in row) for row in puzzles.tests.inputs_NxS[0].reshape(8, 8)
    )
    (asked,) = [puzzles.ask(drawn, None)]
    np.testing.assert_array_equal(
        asked.candidate(0).question.reshape(-1), puzzles.tests.inputs_NxS[0]
    )


def test_a_csv_of_mazes(tmp_path):
    path = tmp_path / "mazes.csv"
    texts = ["".join("# SGo"[c] for c in x[0]) for x in (QUESTION, ANSWER)]
    path.write_text(f"source,question,answer,rating\nx,{texts[0]},{texts[1]},0\n")
    puzzles = Maze(4, train=(str(path),), evaluate=(str(path),)).load(0, {})
    assert puzzles.trained.difficulty_N.tolist() == [6]
    assert puzzles.notes == ("trained on, up to symmetry: 1 of 1 test puzzle",)
    path.write_text(f"source,question,answer,rating\nx,{texts[0]},{texts[0]},0\n")
    odd = Maze(4, train=(str(path),), test_puzzles=0).load(0, {})
    assert odd.notes == ("data.train: no shortest path in the answer of 1 maze",)
    for wrong, words in (("SS", "must have one start"), ("S#", "has no way from start to goal")):
        path.write_text(f"s,q,a,r\nx,{wrong}{texts[0][2:]},{texts[1]},0\n")
        with pytest.raises(InputError, match=words):
            Maze(4, train=(str(path),), test_puzzles=0).load(0, {})
