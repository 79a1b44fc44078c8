"""The tensors of a PyTorch checkpoint file (torch.save, safetensors), by name; both ways.

No code that a file holds is ever run, and values stay in the file until they are asked for.
"""

import contextlib
import dataclasses
import importlib
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from drm_jax.errors import InputError, UsageError


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor that lies in a file; `read` gives these rows of it, in their own type."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[slice], np.ndarray]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, whatever its name ends with."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error
    # A header in JSON behind its length, 8 bytes; the low one may well be \x80 or a P.
    if head[5:] == b"\0\0\0{":
        return _read_safetensors(path)
    if head.startswith((b"PK", b"\x80")):
        return _read_torch(path, is_zip=head.startswith(b"PK"))
    what = "the file is empty" if not head else "neither made by torch.save nor safetensors"
    raise InputError(f"{path}: not a checkpoint: {what}")


def _read_torch(path: Path, is_zip: bool) -> dict[str, Tensor]:
    torch = load_package("torch", path)
    # Only a zip can be mapped, and only by its path; but torch takes that by its ending.
    by_path = is_zip and path.suffix != ".safetensors"
    with explained(path), path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd pickles, which are then refused, or read well
        # weights_only: nothing but tensors in plain containers; code is refused, not run.
        source = path if by_path else file
        saved = torch.load(source, map_location="cpu", weights_only=True, mmap=by_path)
    if is_zip:
        _check_zip(path)  # torch doesn't
    if not isinstance(saved, Mapping):
        raise InputError(f"{path}: holds {type(saved).__name__}, not tensors by name")
    tensors = {}
    for name, x in saved.items():
        if not isinstance(x, torch.Tensor):
            raise InputError(
                f"{path}: {name} is {type(x).__name__}, not a tensor: save the network's "
                "state_dict() alone"
            )
        if x.layout != torch.strided or x.is_quantized or x.is_meta:
            raise InputError(
                f"{path}: {name} has no plain values (sparse, quantized or on the meta device): "
                "save it as a dense tensor"
            )
        tensors[str(name)] = Tensor(
            tuple(x.shape),
            str(x.dtype).removeprefix("torch."),
            lambda rows, x=x: _as_numpy(x[rows].detach()),
        )
    return tensors


def _as_numpy(tensor: Any) -> np.ndarray:
    """The same bits as a numpy array; numpy's bfloat16 is jax's."""
    import torch

    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(jnp.bfloat16)
    return tensor.numpy()


def _check_zip(path: Path) -> None:
    """Raises InputError where the CRC of a tensor or of the pickle is not that of its bytes."""
    with explained(path), zipfile.ZipFile(path) as file:
        wrong = file.testzip()
    if wrong is not None:
        raise InputError(f"{path}: damaged: {wrong} is not what was written; download it again")


FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    load_package("safetensors", path)
    import safetensors

    with explained(path):
        file = safetensors.safe_open(path, framework="numpy")
        tensors = {}
        for name in file.keys():  # noqa: SIM118 (it is no dict)
            lazy = file.get_slice(name)
            dtype = lazy.get_dtype()
            tensors[name] = Tensor(
                tuple(lazy.get_shape()),
                FLOATS.get(dtype, dtype),
                lambda rows, x=lazy: x[rows],
            )
    return tensors


Format = Literal["torch", "safetensors"]
"""Of a file that is written."""


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], form: Format) -> None:
    """Writes contiguous arrays by name, their bits as they are."""
    _WRITERS[form](path, tensors)


def _write_torch(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of arrays that can't be written to: torch only reads them
        state = {name: _as_torch(array) for name, array in tensors.items()}
    torch.save(state, path)


def _as_torch(array: np.ndarray) -> Any:
    import torch

    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _write_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    # Readers of model hubs look for the format: that of the framework whose layout it is.
    save_file(dict(tensors), path, metadata={"format": "pt"})


_WRITERS = {"torch": _write_torch, "safetensors": _write_safetensors}


def load_package(name: str, path: Path, what: str = "read", pip_name: str | None = None) -> Any:
    """A package that is not always installed.

    Args:
      what: it is needed for with this file: to read it, or to write it.

    Raises:
      UsageError: it isn't installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        pip = f"pip install {pip_name or name}"
        raise UsageError(f"{path}: {name} is needed to {what} it: {pip}") from error


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Whatever torch, pickle or safetensors raise about a file, in one line."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        text = str(error)
        code = re.search(r"(?:GLOBAL|global|class) ([\w.]+)", text)
        if type(error).__name__ == "UnpicklingError":
            what = f" ({code[1]})" if code else ""
            raise InputError(
                f"{path}: holds more than tensors{what}, which is not run, or is damaged: ask for "
                "a file of the network's state_dict() alone"
            ) from error
        if "TorchScript" in text:
            raise InputError(
                f"{path}: a TorchScript program, which is not run: ask for a file of the network's "
                "state_dict() alone"
            ) from error
        first = re.split(r"\. |\n", text.strip() or type(error).__name__)[0][:160]
        raise InputError(f"{path}: damaged or cut off: {first}; download it again") from error
