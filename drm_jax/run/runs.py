"""`drm runs`: the work directories below a folder, what became of them, and their scores."""

import contextlib
import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath
from rich.console import Console
from rich.table import Table
from rich.text import Text

from drm_jax.errors import InputError, one_line
from drm_jax.evaluate.files import evaluations
from drm_jax.io import checkpoint, lock
from drm_jax.io.files import reaching
from drm_jax.io.metrics import read_metrics
from drm_jax.run.differences import differing_options
from drm_jax.run.history import read_history, unreadable_logs
from drm_jax.run.workdir import holds_scores_alone, read_config

_DEPTH = 3
_COLOURS = {"running": "green", "finished": "", "failed": "red", "damaged": "red"}


def list_runs(folder: epath.Path, console: Console) -> None:
    """Prints a line for each work directory in a folder and those up to three levels below it, and
    the options in which they differ.

    Raises:
      InputError: there is no such folder, or no work directory in it.
    """
    with reaching(folder):
        found = sorted(_work_directories(folder, _DEPTH)) if folder.is_dir() else []
    if not found:
        raise InputError(
            f"{folder}: holds no work directory; name the folder that --workdir was in"
        )
    table = Table(title=f"Runs in {folder}")
    table.add_column("run", overflow="fold")
    for name in ("status", "step", "of", "loss", "score", "best", "last line"):
        left = name == "status"
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    reasons, names = [], {}
    for workdir in found:
        name = workdir.name if workdir == folder else str(workdir.relative_to(folder))
        name = names[workdir] = one_line(name)
        status, why, *cells = _row(workdir)
        table.add_row(Text(name), Text(status, style=_COLOURS.get(status, "")), *cells)
        reasons += [f"{name}: {status}: {one_line(why)}"] if why else []
        reasons += [one_line(text) for text in unreadable_logs(workdir)]
    console.print(table)
    for reason in reasons:
        console.print(reason, soft_wrap=True)
    _print_differing(names, console)


def _print_differing(names: Mapping[epath.Path, str], console: Console) -> None:
    """A table of the options in which these work directories differ, if they do in any."""
    experiments = {}
    for workdir, name in names.items():
        with contextlib.suppress(InputError):  # a damaged one was told of
            experiments[name] = read_config(workdir)
    differing = differing_options(list(experiments.values()))
    if not differing:
        return
    table = Table(title="Options that differ")
    for title in ("run", "options"):
        table.add_column(title, overflow="fold")
    for i, name in enumerate(experiments):
        has = [f"{option} {of[i]}" for option, of in differing.items() if of[i] != "–"]
        table.add_row(Text(name), Text(one_line("; ".join(has))))
    console.print(table)


def _work_directories(folder: epath.Path, depth: int) -> Iterator[epath.Path]:
    if (folder / "config.json").exists():
        yield folder
    elif depth:
        found: list[epath.Path] = []
        with contextlib.suppress(OSError):  # deleted meanwhile, or not ours to look into
            found = [path for path in folder.iterdir() if path.is_dir()]
        for path in found:
            yield from _work_directories(path, depth - 1)


def _row(workdir: epath.Path) -> list[str]:
    """Status, why, step, steps asked for, loss, last and best score, when it last wrote.

    The score is the family's headline: pass@2 for ARC.
    """
    try:
        experiment = read_config(workdir)
    except InputError as error:
        return ["damaged", str(error), *[""] * 6]
    lines, history = read_metrics(workdir), read_history(workdir)
    steps = experiment.train.steps
    losses = [line["loss"] for line in lines if line.get("loss") is not None]
    headline = experiment.data.headline
    scores = {
        line["step"]: (line.get(headline), line.get("tests"))
        for line in lines
        if line["kind"] == "eval"
    }
    scores |= _scored_later(workdir, headline)
    known = [of for _, of in sorted(scores.items()) if of[0] is not None]
    # Scores on other tests than the newest say another thing: the best is of those on the same.
    passed = [score for score, tests in known if tests in (None, known[-1][1])]
    saved = checkpoint.steps_in(checkpoint.checkpoint_folder(workdir))
    step = max([*saved, *scores, *(line["step"] for line in lines)], default=0)
    of_run = status(lock.is_alive(workdir), lines, history, steps, max(saved, default=None))
    return [
        *(("scores alone", "") if holds_scores_alone(workdir) else of_run),
        f"{step:,}",
        f"{steps:,}",
        f"{losses[-1]:.3f}" if losses else "",
        f"{passed[-1]:.1%}" if passed else "",
        f"{max(passed):.1%}" if passed else "",
        _when(workdir),
    ]


def _scored_later(workdir: epath.Path, headline: str) -> dict[int, tuple[float | None, str | None]]:
    """Score and tests of the steps that `drm eval` or training has scored, from what they wrote."""
    found = {}
    for step, folder in evaluations(workdir).items():
        with contextlib.suppress(ValueError, AttributeError, TypeError, RecursionError, OSError):
            metrics = json.loads((folder / "metrics.json").read_bytes())
            score = metrics.get(headline)
            found[step] = (None if score is None else float(score), metrics.get("tests"))
    return found


def status(
    running: bool,
    lines: Sequence[Mapping[str, Any]],
    history: Sequence[Mapping[str, Any]],
    steps: int,
    saved: int | None,
) -> tuple[str, str]:
    """What became of a run, in a word, and why, where it failed.

    Args:
      running: whether somebody holds its lock.
      lines: of metrics.jsonl.
      history: of history.jsonl.
      steps: that it is to train.
      saved: the step of the newest checkpoint; None where there is none.
    """
    if running:
        return "running", ""
    last = history[-1] if history else {}
    if last.get("event") == "end" and last.get("how") in ("failed", "stopped", "preempted"):
        return last["how"], str(last.get("why")) if last["how"] == "failed" else ""
    if any(line["kind"] == "eval" and line["step"] >= steps for line in lines):
        return "finished", ""
    if last.get("event") in ("start", "change", "anew"):
        return "killed", ""
    if last.get("event") == "import":
        return "imported", ""
    if not lines and saved is None:
        return ("finished" if last.get("how") == "finished" else "not begun"), ""
    # Where the log was not copied with the run, its checkpoints say how far it came.
    return ("finished" if not lines and saved >= steps else "stopped"), ""


def _when(workdir: epath.Path) -> str:
    found = []
    for name in ("metrics.jsonl", "config.json"):
        with contextlib.suppress(FileNotFoundError):
            found.append((workdir / name).stat().mtime or 0)
    if not any(found):
        return ""
    return datetime.datetime.fromtimestamp(max(found)).strftime("%m-%d %H:%M")
