"""The report: one HTML file that needs nothing else. Its bytes follow from files of runs alone."""

import base64
import dataclasses
import hashlib
import importlib.resources
import itertools
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from drm_jax.errors import InputError
from drm_jax.evaluate.answers import Trajectory
from drm_jax.evaluate.curves import Curve
from drm_jax.evaluate.tables import is_shown, passes, score_words, shares
from drm_jax.puzzles.family import Family
from drm_jax.report.collect import (
    NOT_SHARES,
    Run,
    curves,
    described_tasks,
    outcomes,
    overview,
    path_cells,
    unpacked,
)
from drm_jax.report.curves import curve, dash
from drm_jax.run.differences import differing_options

BUDGET = 9_000_000
"""Bytes of a page beyond which fewer trajectories are put into it."""


def single_page(run: Run) -> str:
    """The report of one run: overview, tasks, denoising."""
    trajectories = unpacked(run)
    tasks = described_tasks(run, trajectories)
    chunks = _chunks(tasks, trajectories, run.experiment.data)
    steps = run.answers.steps
    ensemble_of = steps[-1] if len(steps) > 1 else None  # whose denoising was kept
    return _render("run", [run], {"tasks": tasks, "ensemble_of": ensemble_of}, chunks, {})


def comparison_page(runs: Sequence[Run]) -> str:
    """Several runs side by side: scores, the options that differ, curves over each other, which
    tasks each one solves.

    Raises:
      InputError: they are of different families of puzzles.
    """
    if any(run.experiment.data.vocabulary != runs[0].experiment.data.vocabulary for run in runs):
        raise InputError("runs of different families of puzzles can't be compared on one page")
    names = _names(runs)
    tasks: dict[str, dict[str, Any]] = {}
    for name, run in zip(names, runs, strict=True):
        for task in described_tasks(run, unpacked(run)):
            asked = [{k: test[k] for k in _ASKED if k in test} for test in task["tests"]]
            # Tasks of the same id with other tests are other tasks: ARC-AGI-1 and 2 share some.
            key = f"{task['id']} {json.dumps(asked)}"
            wanted = ("id", "source", "demos", "side", "difficulty")
            shown = {k: task[k] for k in wanted if k in task} | {"tests": asked}
            here = tasks.setdefault(key, shown | {"runs": {}})
            tests = [_first(test, run.experiment.data.attempts) for test in task["tests"]]
            here["runs"][name] = {"tests": tests, "outcome": task["outcome"]}
    listed = [tasks[key] for key in sorted(tasks)]
    seen: dict[str, int] = {}
    for task in listed:
        count = seen[task["id"]] = seen.get(task["id"], 0) + 1
        if count > 1:
            task["id"] += f" ({count})"
    differing = differing_options([run.experiment for run in runs])
    return _render("compare", runs, {"tasks": listed, "runs": names}, [], differing)


_ASKED = ("input", "output", "given", "input_conflicts", "output_conflicts")
"""What of a test has nothing to do with its answers."""


def _first(test: Mapping[str, Any], attempts: int) -> dict[str, Any]:
    wanted = ("rank", "grid", "votes", "right", "valid", "conflicts")
    answers = [{k: a[k] for k in wanted if k in a} for a in test["answers"][:attempts]]
    return {"answers": answers, "rank": test["rank"], "candidates": test["candidates"]}


def _names(runs: Sequence[Run]) -> list[str]:
    """A distinct name for each run: that of its folder, numbered where two are alike."""
    names: list[str] = []
    for run in runs:
        tries = itertools.chain([run.name], (f"{run.name} ({i})" for i in itertools.count(2)))
        names.append(next(name for name in tries if name not in names))
    return names


def _chunks(
    tasks: Sequence[dict[str, Any]],
    trajectories: Mapping[str, Sequence[Trajectory]],
    family: Family,
) -> list[str]:
    """The cells of each task's trajectories, deflated, as base64; "" where it has none.

    Where all of them are too much for a page, those that come last of each test input are left
    out, of the task as well.
    """
    of_task = {
        task["id"]: [
            path_cells(trajectory, path, family)
            for trajectory, path in zip(
                trajectories.get(task["id"], []), task["paths"], strict=True
            )
        ]
        for task in tasks
    }
    for most in (1000, 16, 8, 4, 3, 2, 1):
        for task in tasks:
            kept = _first_of_each_test(task["paths"], most)
            task["paths"] = [task["paths"][i] for i in kept]
            of_task[task["id"]] = [of_task[task["id"]][i] for i in kept]
        packed = [zlib.compress(b"".join(of_task[task["id"]]), 9) for task in tasks]
        chunks = [
            base64.b64encode(x).decode() if of_task[task["id"]] else ""
            for task, x in zip(tasks, packed, strict=True)
        ]
        if sum(map(len, chunks)) <= BUDGET:
            break
    return chunks


def _first_of_each_test(paths: Sequence[Mapping[str, Any]], most: int) -> list[int]:
    counts: dict[int, int] = {}
    kept = []
    for i, path in enumerate(paths):
        counts[path["test"]] = counts.get(path["test"], 0) + 1
        if counts[path["test"]] <= most:
            kept.append(i)
    return kept


def _render(
    mode: str,
    runs: Sequence[Run],
    data: Mapping[str, Any],
    chunks: Sequence[str],
    differing: Mapping[str, Sequence[str]],
) -> str:
    """Args: differing: of a comparison, the options that differ, what each run has of them."""
    names = _names(runs)
    charts = {}
    lines = [curves(run) for run in runs]
    for title in lines[0]:
        series = {name: of[title] for name, of in zip(names, lines, strict=True)}
        chart = curve(series, percent=title not in NOT_SHARES)
        if chart:
            charts[title] = chart
    family = runs[0].experiment.data
    vocabulary, words = family.vocabulary, outcomes(family)
    data = {
        "mode": mode,
        "attempts": family.attempts,
        "outcomes": list(words.items()),
        "vocabulary": dataclasses.asdict(vocabulary) | {"written": vocabulary.written},
        "blocks": family.blocks,
        "difficulty": family.difficulty,
        **data,
    }
    files = importlib.resources.files("drm_jax.report") / "page"
    style, grids, script = (
        (files / name).read_text(encoding="utf-8")
        for name in ("report.css", "grids.js", "report.js")
    )
    script = grids + script
    return _template(files, words).render(
        mode=mode,
        runs=[overview(run) | {"name_here": name} for name, run in zip(names, runs, strict=True)],
        attempts=family.attempts,
        differing=differing,
        unscored=[name for name, run in zip(names, runs, strict=True) if not run.answers.steps],
        has_colours=bool(vocabulary.colours),
        has_safe_colours=bool(vocabulary.safe_colours),
        writes_digits=all(map(str.isdigit, vocabulary.symbols)),
        marks_given=any("given" in test for task in data["tasks"] for test in task["tests"]),
        difficulty=family.difficulty if any("difficulty" in x for x in data["tasks"]) else "",
        columns=_score_columns(runs),
        charts=charts,
        thinking=_thinking(runs, names),
        tasks=data["tasks"],
        style=jinja2.utils.markupsafe.Markup(style),
        script=jinja2.utils.markupsafe.Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=_json_for_html(data),
        chunks=chunks,
    )


def _thinking(runs: Sequence[Run], names: Sequence[str]) -> dict[str, Any]:
    """Charts of scores by passes and by rollouts: of one run all of its scores, of several the
    headline of each."""
    charts = {}
    for kind, title in (("depth", "by passes"), ("breadth", "by rollouts")):
        named = zip(names, runs, strict=True)
        drawn = {name: run.thinking[kind] for name, run in named if kind in run.thinking}
        if not drawn:
            continue
        at = sorted({point.at for of in drawn.values() for point in of.points})
        headline = score_words(next(iter(drawn.values())).headline)
        if len(runs) == 1:
            (of,) = drawn.values()
            scores = dict.fromkeys(name for point in of.points for name in point.scores)
            series = {score_words(score): _line(of, score, at) for score in scores}
            what = "scores" if kind == "depth" else f"{headline} by choice,"
        else:
            score = next(iter(drawn.values())).headline if kind == "depth" else "votes"
            # Of each run, though it has no curve: a line has the number of its run.
            series = {
                name: _line(drawn[name], score, at) if name in drawn else [] for name in names
            }
            what = headline
        chart = curve(series, percent=True, places=[f"{x}" for x in at])
        if chart:
            charts[f"{what} {title}"] = chart
    return charts


def _line(of: Curve, score: str, at: Sequence[int]) -> list[tuple[int, float]]:
    points = (point for point in of.points if score in point.scores)
    return [(at.index(point.at), point.scores[score]) for point in points]


def _template(files: Any, words: Mapping[str, str]) -> jinja2.Template:
    """The page's, from the folder that has it; `words`: the outcomes."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files / name).read_text(encoding="utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"in_words": words.__getitem__, "dash": dash}
    return environment.get_template("report.html.jinja")


def _score_columns(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The scores of each run in words, by what they are called; none where nothing was scored."""
    metrics = [run.metrics for run in runs]
    if not any(run.answers.steps for run in runs):
        return {}
    ks, columns = passes(metrics), {}
    if ks:
        columns["solved with 2 attempts"] = [
            f"{of['solved@2']} of {of['test_inputs']}" if "solved@2" in of else "–"
            for of in metrics
        ]
    names = [f"pass@{k}" for k in ks] or [x for x in shares(metrics) if x != "cell_accuracy"]
    for name in [*names, "cell_accuracy"]:
        columns[score_words(name)] = [
            f"{of[name]:.1%}" if is_shown(name, of) else "–" for of in metrics
        ]
    return columns


def _hash(text: str) -> str:
    """As a Content-Security-Policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json_for_html(data: Any) -> jinja2.utils.markupsafe.Markup:
    """JSON that can stand in a script element, whatever strings it holds."""
    text = json.dumps(data, separators=(",", ":"), sort_keys=True)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return jinja2.utils.markupsafe.Markup(text)
