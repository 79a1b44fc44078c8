"""What a run would need on accelerators that one doesn't have, by arithmetic.

Experiment, Topology -> bytes of each part of the state, FLOPs, bytes sent, times

`plan.ahead` has the compiler's own figures, `plan.show` says both to people.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh

from drm_jax.config import Experiment
from drm_jax.evaluate.answerer import abstract_candidates
from drm_jax.parallel.fsdp import weight_specs
from drm_jax.parallel.mesh import ALL_DATA, BATCH_AXES, DATA, FSDP, MeshShape, placed
from drm_jax.plan.chips import Chip, Topology
from drm_jax.plan.flops import Flops, count_flops
from drm_jax.puzzles.family import Board
from drm_jax.run.setup import check_split, load_puzzles, state_maker, trained_parts
from drm_jax.training.batches import abstract_batch
from drm_jax.training.optim import hidden_matrices
from drm_jax.training.state import TrainState, state_shardings, tree_bytes

UTILISATIONS = (0.2, 0.4, 0.6)


@dataclasses.dataclass(frozen=True)
class Sent:
    """One kind of communication, once a step."""

    kind: str
    what: str
    payload: float  # bytes of the whole array
    sent: float  # bytes that each device sends, in a ring


@dataclasses.dataclass(frozen=True)
class Pace:
    """At a share of the chips' peak."""

    utilisation: float
    examples_per_second: float
    step_seconds: float
    days: float  # of training, without evaluations
    evaluation_hours: float  # of one evaluation


@dataclasses.dataclass(frozen=True)
class Window:
    """How many examples stand on one of the family's boards, as shares."""

    height: int
    width: int
    of_training: float
    of_evaluation: float  # where candidates are answered first


@dataclasses.dataclass(frozen=True)
class Plan:
    """Bytes and FLOPs as floats; times in seconds unless said."""

    experiment: str
    topology: str
    devices: int
    mesh: str
    """How they are laid out: data=8,fsdp=4."""
    chip: dict[str, Any]
    dtype: str
    attention: str | None
    """How it is computed, such as plain, flash or cudnn; None: the network has none."""
    parameters: int
    puzzle_ids: int
    candidates: int
    """How many are answered; each rollout of one counts."""
    windows: tuple[Window, ...]
    """FLOPs and traffic below are means over them. One, where all puzzles have one size."""
    epochs: float
    device_bytes: dict[str, int]
    """On each device: params, constants, opt_state, ema, table, carry, batch, …; and during a step
    "gathered", the whole of weights that are split, and "gradients", theirs."""
    state_bytes: int
    """On each device, all of the state; the batch and activations come on top."""
    train_flops: float  # an example
    again_share: float  # of it, computed again in the backward pass
    evaluate_flops: float  # a candidate
    step_flops: float
    compute_seconds: float  # of a step, at the peak
    traffic_bytes: float  # of a step and device, to and from memory, at least
    memory_seconds: float
    scores_share: float  # of the traffic that is attention's scores
    padded_tokens: int  # a mean too
    padding_share: float  # of the scores' traffic that is padding
    unit_share: float  # of the multiplying unit that attention's products fill
    sent: tuple[Sent, ...]
    link_seconds: float
    paces: tuple[Pace, ...]
    fastest: Pace
    """At the roofline: at most at that share of the peak, as the program is."""


@dataclasses.dataclass(frozen=True)
class _Cost:
    """Of the mean example over windows."""

    flops: Flops
    traffic: float  # bytes of a training example
    scores: float  # the part of them that is attention's scores
    tokens: float
    padded: float
    head_size: int | None


def make_plan(experiment: Experiment, topology: Topology, shape: MeshShape = ALL_DATA) -> Plan:
    """The plan of a run, by arithmetic: nothing is computed on a device.

    Raises:
      UsageError: the batches can't be split over so many devices, or the work of a part of the
        user's own isn't known.
      InputError: a source of puzzles is wrong.
    """
    shape = shape.fitted(topology.devices)
    mesh = AbstractMesh((shape.data, shape.fsdp), BATCH_AXES)
    check_split(experiment.train, experiment.evaluate, topology.devices)
    platform = topology.chip.platform
    trained = trained_parts(experiment, platform)
    puzzles = experiment.data.blank_puzzles() or load_puzzles(experiment)
    questions = puzzles.questions(experiment.evaluate.num_augmentations)
    candidates = questions.count * experiment.evaluate.rollouts
    windows = _windows(experiment.data.boards, puzzles.board_E, questions.board_R)
    cost = _mean_cost(experiment, trained.network.vocab, windows, platform, topology.chip.lanes)
    state = jax.eval_shape(state_maker(trained, experiment.seed, puzzles.num_ids))
    return Plan(
        experiment=experiment.name,
        topology=topology.name,
        devices=topology.devices,
        mesh=str(shape),
        chip=dataclasses.asdict(topology.chip),
        dtype=trained.network.dtype.name,
        attention=experiment.model.attention_form(platform),
        parameters=sum(math.prod(x.shape) for x in jax.tree.leaves(state.params)),
        puzzle_ids=puzzles.num_ids - 1,
        candidates=candidates,
        windows=windows,
        epochs=experiment.train.steps * experiment.train.batch_size / len(puzzles.board_E),
        **_memory(experiment, state, mesh),
        **_work(experiment, cost, topology.chip),
        **_times(experiment, cost, topology, candidates),
        **_communication(experiment, state, topology, mesh),
    )


def _windows(
    boards: Sequence[Board], of_examples: np.ndarray, of_candidates: np.ndarray
) -> tuple[Window, ...]:
    """The boards with their shares of examples and of candidates; all on the last one of none."""

    def shares(board_N: np.ndarray) -> np.ndarray:
        if not len(board_N):
            board_N = np.array([len(boards) - 1])
        return np.bincount(board_N, minlength=len(boards)) / len(board_N)

    each = zip(boards, shares(of_examples), shares(of_candidates), strict=True)
    return tuple(Window(*board, float(train), float(test)) for board, train, test in each)


def _mean_cost(
    experiment: Experiment, vocab: int, windows: Sequence[Window], platform: str, lanes: int
) -> _Cost:
    method, model = experiment.method, experiment.model
    work, cells = method.work(), [window.height * window.width for window in windows]
    flops = [
        count_flops(
            method,
            model,
            vocab=vocab,
            cells=n,
            denoise_steps=experiment.evaluate.denoise_steps,
            platform=platform,
        )
        for n in cells
    ]
    of_block = [model.traffic(n, platform, lanes) for n in cells]
    plain, window = work.blocks - work.grad_blocks, work.grad_blocks
    trained = [window.of_training for window in windows]
    return _Cost(
        flops=Flops(
            train=_mean(trained, [one.train for one in flops]),
            again=_mean(trained, [one.again for one in flops]),
            evaluate=_mean([w.of_evaluation for w in windows], [one.evaluate for one in flops]),
        ),
        traffic=_mean(trained, [plain * t.forward + window * t.with_gradient for t in of_block]),
        scores=_mean(
            trained, [plain * t.scores + window * t.scores_with_gradient for t in of_block]
        ),
        tokens=model.prefix + _mean(trained, cells),
        padded=_mean(trained, [t.padded_tokens for t in of_block]),
        head_size=of_block[-1].head_size,
    )


def _mean(shares: Sequence[float], values: Sequence[float]) -> float:
    return sum(share * value for share, value in zip(shares, values, strict=True))


def _memory(experiment: Experiment, state: TrainState, mesh: AbstractMesh) -> dict[str, Any]:
    """Fields of a plan: bytes on each device."""
    data, train, evaluate = experiment.data, experiment.train, experiment.evaluate
    height, width = data.boards[-1]
    shardings, by_rows = state_shardings(state, mesh), placed(mesh, "batch")
    of_state = {
        field.name: tree_bytes(getattr(state, field.name), getattr(shardings, field.name))
        for field in dataclasses.fields(state)
    }
    batches = {
        "batch": abstract_batch(
            experiment.method, data.boards, data.vocabulary.mask, train.batch_size
        ),
        "candidates": abstract_candidates(evaluate.batch_size, height * width),
    }
    device_bytes = of_state | {
        name: tree_bytes(batch, jax.tree.map(lambda _: by_rows, batch))
        for name, batch in batches.items()
    }
    if mesh.shape[FSDP] > 1:
        device_bytes |= dict.fromkeys(("gathered", "gradients"), tree_bytes(state.params))
    return {"device_bytes": device_bytes, "state_bytes": sum(of_state.values())}


def _work(experiment: Experiment, cost: _Cost, chip: Chip) -> dict[str, Any]:
    """Fields of a plan: what is computed and moved, of which how much is of little use."""
    head_size = chip.unit if cost.head_size is None else cost.head_size
    return {
        "train_flops": cost.flops.train,
        "again_share": cost.flops.again / cost.flops.train,
        "evaluate_flops": cost.flops.evaluate,
        "step_flops": cost.flops.train * experiment.train.batch_size,
        "scores_share": cost.scores / cost.traffic,
        "padded_tokens": round(cost.padded),
        "padding_share": 1 - cost.tokens / cost.padded,
        "unit_share": min(1.0, head_size / chip.unit),
    }


def _times(
    experiment: Experiment, cost: _Cost, topology: Topology, candidates: int
) -> dict[str, Any]:
    """Fields of a plan: the roofline, and times at shares of the peak."""
    chip, devices, train = topology.chip, topology.devices, experiment.train
    compute = cost.flops.train * train.batch_size / devices / chip.flops
    traffic = cost.traffic * train.batch_size / devices
    memory = traffic / chip.bandwidth

    def pace(share: float) -> Pace:
        seconds = compute / share
        evaluation = candidates * cost.flops.evaluate / (share * devices * chip.flops)
        days = train.steps * seconds / 86400
        return Pace(share, train.batch_size / seconds, seconds, days, evaluation / 3600)

    return {
        "compute_seconds": compute,
        "traffic_bytes": traffic,
        "memory_seconds": memory,
        "paces": tuple(map(pace, UTILISATIONS)),
        "fastest": pace(compute / max(compute, memory)),
    }


def _communication(
    experiment: Experiment, state: TrainState, topology: Topology, mesh: AbstractMesh
) -> dict[str, Any]:
    """Fields of a plan: what a step sends: weights and gradients once, rows of the batch."""
    data, fsdp = mesh.shape[DATA], mesh.shape[FSDP]
    ring, data_ring, fsdp_ring = ((n - 1) / n for n in (topology.devices, data, fsdp))
    params = dict(state.params)
    split, _ = _split_and_whole(params, mesh)
    if not experiment.method.trains_answers:
        params.pop("embed_answers", None)  # it has no gradient
    of_split, of_whole = _split_and_whole(params, mesh)
    sent = []
    if split:
        part = of_split / fsdp
        sent = [
            Sent("all-gather", "weights that are split", split, fsdp_ring * split),
            Sent("reduce-scatter", "their gradients", of_split, fsdp_ring * of_split),
            Sent("all-reduce", "a device's part of these", part, 2 * data_ring * part),
        ]
    if split and experiment.optimizer.matrices == "muon":
        moved, _ = _split_and_whole(_matrices(state.params), mesh)
        sent.append(Sent("all-gather", "momentum of Muon", moved, fsdp_ring * moved))
    reduced = "weights that are whole" if split else "the network"
    count, width = experiment.train.batch_size, experiment.model.hidden
    rows, ids = 4.0 * count * width, 4.0 * count
    sent += [
        Sent("all-reduce", f"gradient of {reduced}", of_whole, 2 * ring * of_whole),
        Sent("reduce-scatter", "puzzle rows of the batch", rows, ring * rows),
        Sent("all-gather", "their gradients", rows, ring * rows),
        Sent("all-gather", "puzzle ids, twice", 2 * ids, 2 * ring * ids),
    ]
    summed = experiment.method.work().reduced_rows * 4.0 * width
    if summed:
        sent.append(Sent("all-reduce", "sums that the method needs", summed, 2 * ring * summed))
    seconds = sum(item.sent for item in sent) / (topology.chip.link / 2)
    return {"sent": tuple(sent), "link_seconds": seconds}


def _matrices(params: Any) -> Any:
    """The parameters with those alone that Muon trains."""
    return jax.tree.map(lambda x, is_one: x if is_one else None, params, hidden_matrices(params))


def _split_and_whole(params: Any, mesh: AbstractMesh) -> tuple[float, float]:
    """Bytes of the weights that are split over the devices, and of those that are not."""
    split = jax.tree.map(lambda spec: FSDP in spec, weight_specs(mesh, params))
    sizes = zip(jax.tree.leaves(params), jax.tree.leaves(split), strict=True)
    of_split = sum(tree_bytes(weight) for weight, is_split in sizes if is_split)
    return float(of_split), float(tree_bytes(params) - of_split)
