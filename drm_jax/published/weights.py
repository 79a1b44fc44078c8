"""Published PyTorch checkpoints of TRM, and of both codes of DRM and SPRM, in our terms.

    file (torch_files) <-> tensors by name <-> parameters, constants, puzzle rows
    all_config.yaml (published.config)     -> Experiment, its puzzles (published.puzzles)
                                           <- published.counterpart

The DRM repository has a joint code of TRM, SPRM and DRM, and the paper's own under legacy/.
Names start with `inner.` (TRM, legacy) or `core.` (joint code), behind what wrappers put there.
Linear weights are (out, in) there and (in, out) here; q, k, v and gate, up stand in the same order.
"""

import base64
import dataclasses
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from drm_jax.errors import InputError
from drm_jax.model.backbone import Network, Params, init_params
from drm_jax.published.torch_files import FLOATS, Tensor, explained, read_tensors

CHUNK_ROWS = 2**16
"""Rows of a tensor that are converted at a time."""


# --- names -------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Naming:
    """How a published code names its tensors."""

    y_init: str
    z_init: str
    layers: str
    answers: str | None  # the table of answer embeddings
    table: str


TRM = Naming(
    "inner.H_init", "inner.L_init", "inner.L_level.layers", None, "inner.puzzle_emb.weights"
)
"""Of SPRM in the legacy code too."""
LEGACY_DRM = dataclasses.replace(TRM, answers="inner.embed_tokens_labels.embedding_weight")
JOINT = Naming(
    "core.decode_init",
    "core.scratchpad_init",
    "core.recurrent_block.layers",
    "core.embed_tokens_labels.embedding_weight",
    "core.puzzle_emb.weights",
)
CODES = {"trm": TRM, "legacy": LEGACY_DRM, "joint": JOINT}
"""The namings, by the name of the code that each is of; SPRM of the legacy code has that of TRM."""
_WRAPPERS = ("_orig_mod.model.", "model.", "_orig_mod.", "")
_INPUTS = "embed_tokens.embedding_weight"
_OF_NETWORK = {
    "embed_inputs": _INPUTS,
    "head": "lm_head.weight",
    "halt_kernel": "q_head.weight",
    "halt_bias": "q_head.bias",
}
_OF_LAYER = {
    "attention": {
        "attention/qkv/kernel": "self_attn.qkv_proj.weight",
        "attention/out/kernel": "self_attn.o_proj.weight",
    },
    "mlp": {
        "mixer/gate_up/kernel": "mlp_t.gate_up_proj.weight",
        "mixer/down/kernel": "mlp_t.down_proj.weight",
    },
}
_SWIGLU = {
    "swiglu/gate_up/kernel": "mlp.gate_up_proj.weight",
    "swiglu/down/kernel": "mlp.down_proj.weight",
}
# Working memory and tables of angles, which some versions keep; made anew here.
_IGNORED = re.compile(r"(inner|core)\.(puzzle_emb\.local_(weights|ids)|rotary_emb\.\w+_cached)")


def parameter_names(
    naming: Naming, layers: int, mixer: Literal["attention", "mlp"]
) -> dict[str, str]:
    """The published name of each parameter, by its path in our tree, such as layer_0/…/kernel.

    There is no `embed_answers` where the naming has no answers.
    """
    root = naming.table.split(".")[0]
    names = {ours: f"{root}.{theirs}" for ours, theirs in _OF_NETWORK.items()}
    if naming.answers:
        names["embed_answers"] = naming.answers
    for i in range(layers):
        for ours, theirs in (_OF_LAYER[mixer] | _SWIGLU).items():
            names[f"layer_{i}/{ours}"] = f"{naming.layers}.{i}.{theirs}"
    return names


def parameter_tree(names: Mapping[str, str], get: Callable[[str], np.ndarray]) -> Params:
    """Our tree of parameters.

    Args:
      names: from `parameter_names`.
      get: the array of a published name.
    """
    params: Params = {}
    for ours, theirs in names.items():
        *groups, last = ours.split("/")
        branch = params
        for group in groups:
            branch = branch.setdefault(group, {})
        array = get(theirs)
        branch[last] = array.T if _is_linear(theirs) else array
    return params


def _is_linear(name: str) -> bool:
    return name.endswith(".weight")  # of embeddings: .embedding_weight, .weights


# --- what a checkpoint holds --------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Published:
    """A checkpoint file: what is in it, and what its names and shapes say about the network."""

    path: Path
    wrapper: str  # stands before every name
    naming: Naming
    tensors: Mapping[str, Tensor]  # by name, the wrapper left out
    layers: int
    mixer: Literal["attention", "mlp"]
    vocab: int
    num_ids: int
    tokens: int | None  # T, where a tensor's shape tells it


def open_published(path: Path) -> Published:
    """Reads a checkpoint's names and shapes; its values stay in the file where that can be.

    Raises:
      InputError: not a checkpoint of TRM, DRM or SPRM; a tensor is missing or not known.
      UsageError: the package that reads it is not installed.
    """
    wrapper, bare = _unwrapped(path, read_tensors(path))
    root = next(iter(bare)).split(".")[0]
    of_inner = LEGACY_DRM if LEGACY_DRM.answers in bare else TRM
    naming = of_inner if root == "inner" else JOINT
    start = re.escape(naming.layers)
    layers = [m for name in bare if (m := re.match(rf"{start}\.(\d+)\.(\w+)\.", name))]
    published = Published(
        path=path,
        wrapper=wrapper,
        naming=naming,
        tensors=bare,
        layers=max(1, len({m[1] for m in layers})),
        mixer="mlp" if any(m[2] == "mlp_t" for m in layers) else "attention",
        vocab=_rows(bare, f"{root}.{_INPUTS}"),
        num_ids=_rows(bare, naming.table),
        tokens=max(_rows(bare, name) for name in _sized_by_tokens(naming)) or None,
    )
    _check_names(published)
    return published


def _unwrapped(path: Path, tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """What a wrapper put before every name, and the tensors by their names without it."""
    for wrapper in _WRAPPERS:
        bare = {n.removeprefix(wrapper): t for n, t in tensors.items() if n.startswith(wrapper)}
        roots = {name.split(".")[0] for name in bare}
        if len(bare) == len(tensors) and roots in ({"inner"}, {"core"}):
            return wrapper, bare
    shown = ", ".join(sorted(tensors)[:2]) or "nothing"
    raise InputError(
        f"{path}: not a checkpoint of TRM, DRM or SPRM: its names must start with inner. or "
        f"core., maybe behind _orig_mod. or model.; it holds {shown}"
    )


def _check_names(published: Published) -> None:
    """Raises InputError where a tensor is missing or not known."""
    naming, bare = published.naming, published.tensors
    names = {*_names_of(published).values(), *_beside(naming)}
    where = f"{published.path}: the tensor {published.wrapper}"
    missing = sorted(names - bare.keys())
    if missing:
        raise InputError(f"{where}{missing[0]} is missing")
    unknown = sorted(name for name in bare.keys() - names if not _IGNORED.fullmatch(name))
    if unknown:
        raise InputError(
            f"{where}{unknown[0]} is not known: a network of another kind can't be imported"
        )


def _names_of(published: Published) -> dict[str, str]:
    return parameter_names(published.naming, published.layers, published.mixer)


def _sized_by_tokens(naming: Naming) -> tuple[str, str]:
    """Tensors with a row for each token: the mixer's, and the angles that some versions keep."""
    root = naming.table.split(".")[0]
    return f"{naming.layers}.0.mlp_t.down_proj.weight", f"{root}.rotary_emb.cos_cached"


def _rows(tensors: Mapping[str, Tensor], name: str) -> int:
    """Rows of a tensor; 0 where there is no such one, or it has none."""
    return tensors[name].shape[0] if name in tensors and tensors[name].shape else 0


# --- values ------------------------------------------------------------------------------------
def read_network(published: Published, network: Network) -> tuple[Params, Params]:
    """(params, constants) as `model.backbone.init_params` gives them, numpy float32.

    Where the file has no answer table, `embed_answers` is not among the parameters.

    Raises:
      InputError: a tensor has another shape than this network's, or holds a NaN or an infinity.
    """
    names = _names_of(published)
    constants = {"y_init": published.naming.y_init, "z_init": published.naming.z_init}
    shapes = jax.eval_shape(lambda: init_params(network, jax.random.key(0)))
    for ours, theirs in (names | constants).items():
        shape = _at(shapes[ours in constants], ours).shape
        _check_shape(published, theirs, shape[::-1] if _is_linear(theirs) else shape)
    _check_shape(published, published.naming.table, (published.num_ids, network.hidden))

    def get(name: str) -> np.ndarray:
        tensor = published.tensors[name]
        return np.concatenate([part for _, part in _parts(published, name, 0, tensor.shape[0])])

    return parameter_tree(names, get), {ours: get(theirs) for ours, theirs in constants.items()}


def puzzle_rows(published: Published, start: int, stop: int) -> np.ndarray:
    """Rows start..stop (N, D) float32 of the puzzle table; zeros before its first row (`start` may
    be negative) and after its last.

    Raises:
      InputError: one of them holds a NaN or an infinity.
    """
    name = published.naming.table
    rows_NxD = np.zeros((stop - start, published.tensors[name].shape[1]), np.float32)
    for at, part in _parts(published, name, max(start, 0), min(stop, published.num_ids)):
        rows_NxD[at - start : at - start + len(part)] = part
    return rows_NxD


def _parts(
    published: Published, name: str, start: int, stop: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, rows as float32) of a tensor, chunk by chunk; checks that all are finite."""
    for at in range(start, stop, CHUNK_ROWS):
        rows = slice(at, min(at + CHUNK_ROWS, stop))
        with explained(published.path):
            part = np.asarray(published.tensors[name].read(rows), np.float32)
        if not math.isfinite(part.sum(dtype=np.float64)):
            raise InputError(
                f"{published.path}: {published.wrapper}{name} holds a NaN or an infinity: damaged, "
                "or of a run that failed"
            )
        yield at, part


# --- the way back -------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Layout:
    """What of a checkpoint file its parameters don't tell: an import keeps it, in JSON, so that an
    export gives the same file again."""

    code: str
    """Of `CODES`."""
    wrapper: str
    """Stands before every name."""
    types: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Of the tensors that are not float32, by name without the wrapper."""
    others: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Tensors that we have no use for, packed, by name without the wrapper."""
    file: str | None = None
    """The file's name, where these very weights were imported."""
    options: str | None = None
    """The text of its all_config.yaml, likewise."""


def code_of(published: Published) -> str:
    """The name of the code, of `CODES`, whose names a checkpoint has."""
    return next(name for name, naming in CODES.items() if naming == published.naming)


def layout_of(published: Published, options: str | None, keeps_table: bool) -> Layout:
    """The layout of a checkpoint that is imported.

    Args:
      options: the text of its all_config.yaml, if there is one.
      keeps_table: whether its puzzle table is kept: new rows are float32.
    """
    known = {*_names_of(published).values(), *_beside(published.naming)}
    if not keeps_table:
        known.remove(published.naming.table)
    tensors = published.tensors
    return Layout(
        code_of(published),
        published.wrapper,
        {n: tensors[n].dtype for n in sorted(known) if tensors[n].dtype != "float32"},
        {n: _packed(published, n) for n in sorted(tensors) if _IGNORED.fullmatch(n)},
        published.path.name,
        options,
    )


def _packed(published: Published, name: str) -> dict[str, Any]:
    tensor = published.tensors[name]
    with explained(published.path):
        array = np.asarray(tensor.read(slice(None) if tensor.shape else ...))
    data = base64.b64encode(zlib.compress(array.tobytes())).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def _unpacked(packed: Mapping[str, Any]) -> np.ndarray:
    data = zlib.decompress(base64.b64decode(packed["data"]))
    return np.frombuffer(data, np.dtype(packed["dtype"])).reshape(packed["shape"])


def to_published(
    layout: Layout,
    layers: int,
    mixer: Literal["attention", "mlp"],
    params: Params,
    constants: Params,
    rows_NxD: np.ndarray,
) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint file by name, contiguous, in the order of their names.

    Args:
      params, constants: as `read_network` gives them, with `embed_answers` or without.
      rows_NxD: of the puzzle table.
    """
    naming = CODES[layout.code]
    arrays = {naming.table: rows_NxD}
    for ours, theirs in parameter_names(naming, layers, mixer).items():
        array = np.asarray(_at(params, ours))
        arrays[theirs] = array.T if _is_linear(theirs) else array
    arrays |= {naming.y_init: constants["y_init"], naming.z_init: constants["z_init"]}
    arrays = {
        name: np.ascontiguousarray(array, np.dtype(layout.types.get(name, "float32")))
        for name, array in arrays.items()
    }
    arrays |= {name: _unpacked(packed) for name, packed in layout.others.items()}
    return {f"{layout.wrapper}{name}": arrays[name] for name in sorted(arrays)}


def _beside(naming: Naming) -> tuple[str, str, str]:
    """Names of what stands beside the parameters."""
    return naming.y_init, naming.z_init, naming.table


def _at(tree: Params, path: str) -> Any:
    for key in path.split("/"):
        tree = tree[key]
    return tree


_SIZED_BY = {
    "gate_up_proj": "arch.hidden_size, arch.expansion",
    "down_proj": "arch.hidden_size, arch.expansion",
    "puzzle_emb": "arch.puzzle_emb_ndim",
}
_SIZED_BY_CANVAS = "arch.seq_len, arch.puzzle_emb_len, arch.expansion"


def _check_shape(published: Published, name: str, wanted: tuple[int, ...]) -> None:
    tensor = published.tensors[name]
    if tensor.shape != wanted:
        key = next((key for part, key in _SIZED_BY.items() if part in name), "arch.hidden_size")
        key = _SIZED_BY_CANVAS if ".mlp_t." in name else key
        raise InputError(
            f"{published.path}: {published.wrapper}{name} is {tensor.shape}, but the config says "
            f"{wanted} ({key}): use the all_config.yaml of this very checkpoint"
        )
    if tensor.dtype not in FLOATS.values():
        raise InputError(
            f"{published.path}: {published.wrapper}{name} is {tensor.dtype}: only float32, "
            "float16 and bfloat16 can be imported"
        )
