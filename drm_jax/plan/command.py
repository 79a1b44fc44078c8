"""`drm plan`: the arithmetic of a run, and with --compile the compiler's own figures."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable

from jax.sharding import Mesh
from rich.console import Console

from drm_jax.config import Experiment
from drm_jax.parallel.mesh import MeshShape
from drm_jax.plan import ahead
from drm_jax.plan.chips import Topology
from drm_jax.plan.plan import Plan, make_plan
from drm_jax.plan.show import describe_advice, describe_program, say, show

_COMPILERS = {"training step": ahead.compile_step, "evaluation": ahead.compile_evaluation}


def plan(
    experiment: Experiment,
    topology: Topology,
    shape: MeshShape,
    console: Console,
    *,
    compiles: bool,
    as_json: bool,
) -> int:
    """Prints a plan; returns the exit code: 1 where a compiled program doesn't fit.

    Raises:
      UsageError, InputError: see `make_plan` and `ahead.absent_mesh`.
    """
    # What fails at once comes first.
    mesh = ahead.absent_mesh(topology, shape) if compiles else None
    made = make_plan(experiment, topology, shape)
    tell = functools.partial(say, Console(quiet=True) if as_json else console)
    if not as_json:
        show(made, console)
    programs, advice = [], None
    if mesh is not None:
        with contextlib.nullcontext() if as_json else console.status(""):
            programs, advice = _compiled(experiment, made, mesh, tell)
    if as_json:
        found = [dataclasses.asdict(program) for program in programs]
        whole = dataclasses.asdict(made) | {"programs": found}
        whole["advice"] = None if advice is None else dataclasses.asdict(advice)
        print(json.dumps(whole, indent=2))
    elif advice is not None:
        for line in describe_advice(advice, experiment):
            tell(line)
    return 0 if all(program.fits for program in programs) else 1


def _compiled(
    experiment: Experiment, made: Plan, mesh: Mesh, tell: Callable[[str], None]
) -> tuple[list[ahead.Program], ahead.Advice | None]:
    """What the compiler says of both programs; and what would fit, where the first one doesn't."""
    programs, num_ids = [], made.puzzle_ids + 1
    for name, compiler in _COMPILERS.items():
        tell(f"Compiling the {name} for {made.topology}")
        programs.append(compiler(experiment, num_ids, mesh))
        for line in describe_program(programs[-1], made):
            tell(line)
    if programs[0].fits:
        return programs, None
    return programs, ahead.advise(experiment, num_ids, mesh, programs[0], tell)
