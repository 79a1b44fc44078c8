"""drm plan: memory, time and traffic on accelerators that are not yet rented."""

import dataclasses
import os
from typing import Annotated

import tyro

from drm_jax.commands.devices import import_jax
from drm_jax.commands.experiments import (
    PART_OPTIONS,
    PARTS_HELP,
    check_first,
    choose_parts,
    read_experiment,
)
from drm_jax.commands.help_text import HELP
from drm_jax.commands.options import parse_changes
from drm_jax.commands.train import EXPERIMENT_OPTIONS, HINTS
from drm_jax.config import Experiment
from drm_jax.errors import UsageError

_WHAT = """\
What a run would need on accelerators, and how long it would take. Nothing is trained, and no
accelerator is needed.

Examples:
  drm plan experiments/arc1_drm_7m.py --topology v5e:4x4
  drm plan experiments/arc1_drm_7m.py --topology 8xH100 --train.batch-size 384 --model.remat none
  drm plan runs/demo --topology v5e:2x2 --compile
  drm plan experiments/arc1_drm_7m.py --topology T4 --train.batch-size 32 --compile

Topologies: a slice of TPUs, such as v5e:4x4, v6e:2x4, v4:2x2x4, v5p:2x2x4; or GPUs, such as 8xH100.
Known are v4, v5e, v5p, v6e, A100, L4, H100, H200, B200, T4, V100, P100.
"""
_DESCRIPTION = f"""\
{_WHAT}
All fields of the experiment are options too. Three of its parts are of many kinds, each with
options of its own:
{PARTS_HELP}"""
_COMMON = _WHAT, ("--topology", "--mesh", "--compile", "--json", "--model.remat",
                  "--train.accumulate", *EXPERIMENT_OPTIONS)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PlanOptions:
    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    topology: str = ""
    """A slice of TPUs, such as v5e:4x4, or GPUs, such as 8xH100."""
    mesh: str = ""
    """data=8,fsdp=4 or fsdp=4: fsdp devices share the weights, their moments and their average; see
    drm train."""
    compile: bool = False
    """Compile the real programs for those devices, without any of them: what the compiler needs of
    memory, what travels; and if it doesn't fit, what would. Needs libtpu (pip install -e '.[tpu]')
    or, for GPUs, jax's plugin for CUDA (pip install -e '.[gpu]'), and a minute or more a
    program."""
    json: bool = False
    """Print one JSON object, for programs."""


def run(argv: list[str]) -> int:
    if argv and argv[0] in HELP:
        example, prog = PlanOptions(Experiment("NAME")), "drm plan FILE|WORKDIR"
        parse_changes(example, argv[:1], prog, _DESCRIPTION, hints=HINTS, common=_COMMON)
        return 0
    check_first(argv, "drm plan", "the experiment file first, or a work directory")
    # Nothing is computed, here or there. What is set was read when jax is imported, so first.
    os.environ.update(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1")
    name, *rest = argv
    base, rest = choose_parts(read_experiment(name)[0], rest)
    options = parse_changes(
        PlanOptions(base), rest, f"drm plan {name}", _DESCRIPTION, hints=HINTS, known=PART_OPTIONS,
        common=_COMMON,
    )  # fmt: skip
    if options is None:
        return 0
    if not options.topology:
        raise UsageError("--topology: name one, such as v5e:4x4 or 8xH100 (see drm plan --help)")
    import_jax()
    from drm_jax.parallel.mesh import parse_mesh_shape
    from drm_jax.plan.chips import parse_topology
    from drm_jax.plan.command import plan
    from drm_jax.runtime.console import open_console

    topology, shape = parse_topology(options.topology), parse_mesh_shape(options.mesh)
    return plan(
        options.experiment, topology, shape, open_console(), compiles=options.compile,
        as_json=options.json,
    )  # fmt: skip
