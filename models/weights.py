"""Tensors of safetensors files, widened to float32. The only importer of safetensors; no pickle is ever read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.descriptions import read_json, refused
from service.errors import CheckpointError

Array = NDArray[np.float32]

WEIGHTS = "model.safetensors"


class Weights:
    """Named tensors. In every name that is asked for, `names` are replaced one after another; then `prefix` goes
    before it, e.g. "bert."."""

    def __init__(self, tensors: dict[str, Array], prefix: str = "", names: Sequence[tuple[str, str]] = ()) -> None:
        self._tensors = tensors
        self._prefix = prefix
        self._names = names

    def below(self, marker: str, *prefixes: str) -> Weights:
        """The same tensors seen from the first of `prefixes` below which `marker` is found; otherwise from the root.

        Checkpoints saved from a task model carry the encoder under its name, others do not.
        """
        prefix = next((prefix for prefix in prefixes if prefix + marker in self._tensors), "")
        return Weights(self._tensors, prefix, self._names)

    def renamed(self, names: Sequence[tuple[str, str]]) -> Weights:
        """The same tensors, to be asked for by other names: (asked for, found under) of parts of them."""
        return Weights(self._tensors, self._prefix, names)

    def has(self, name: str) -> bool:
        """Whether there is such a tensor, of whatever shape."""
        return self._own(name) in self._tensors

    def shape(self, name: str) -> tuple[int, ...] | None:
        """None where there is no such tensor."""
        tensor = self._tensors.get(self._own(name))
        return None if tensor is None else tensor.shape

    def get(self, name: str, *shape: int) -> Array:
        """The tensor of exactly that shape. Raises CheckpointError naming it."""
        name = self._own(name)
        tensor = self._tensors.get(name)
        if tensor is None:
            raise CheckpointError(
                f"the weights have no tensor {name}",
                "the checkpoint is incomplete, or is not of the type it says",
            )
        if tensor.shape != shape:
            raise CheckpointError(
                f"tensor {name} has shape {tensor.shape}, config.json implies {shape}",
                "the checkpoint's config.json and weights do not belong together: fetch both again",
            )
        return tensor

    def _own(self, name: str) -> str:
        for asked, found in self._names:
            name = name.replace(asked, found)
        return self._prefix + name


def read_weights(files: Iterable[Path], *, integers: bool = False) -> Weights:
    """Every tensor of the files (a checkpoint may be split into several). Raises CheckpointError.

    `integers`: those of 8 bits are numbers as any others, and not codes for such.
    """
    import safetensors

    deserialize: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = safetensors.deserialize
    tensors: dict[str, Array] = {}
    for path in files:
        try:
            found = deserialize(path.read_bytes())
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}", "check the file") from error
        except safetensors.SafetensorError as error:
            raise CheckpointError(f"{path} is corrupt: {error}", "fetch the checkpoint again") from error
        for name, tensor in found:
            tensors[_modern(name)] = _widened(path, name, tensor["dtype"], tensor["data"], integers).reshape(
                tensor["shape"]
            )
    return Weights(tensors)


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers would read of a folder: model.safetensors, or else those of its index, nothing else.

    Raises CheckpointError where there are neither, or where one of them is missing.
    """
    if (whole := folder / WEIGHTS).is_file():
        return [whole]
    index = folder / f"{WEIGHTS}.index.json"
    if not index.is_file():
        raise CheckpointError(
            f"{folder} has neither {WEIGHTS} nor {index.name} (no other file is looked at, and pickled weights are "
            "never loaded)",
            "save the model again with a current sentence-transformers (safe_serialization)",
        )
    mapped = read_json(index).get("weight_map")
    if (
        not isinstance(mapped, dict)
        or not mapped
        or not all(isinstance(name, str) and name == Path(name).name for name in mapped.values())
    ):
        raise refused(
            index, "its weight_map does not name the tensors' files in its folder", "fetch the checkpoint again"
        )
    files = [folder / name for name in sorted(set(mapped.values()))]
    if missing := [path.name for path in files if not path.is_file()]:
        raise refused(index, f"it names {', '.join(missing)}, which is missing", "fetch the checkpoint again")
    return files


def has_weights(folder: Path) -> bool:
    """Whether there are weights that are no pickles, by the names that transformers gives them."""
    return any((folder / name).is_file() for name in (WEIGHTS, f"{WEIGHTS}.index.json"))


def _modern(name: str) -> str:
    """Checkpoints from before 2019 have TensorFlow's names for a normalisation's scale and bias."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def tensor_names(path: Path) -> set[str]:
    """Read from the file's head alone. Raises CheckpointError."""
    import safetensors

    try:
        with safetensors.safe_open(path, "numpy") as file:
            return set(file.keys())
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} is corrupt: {error}", "fetch the checkpoint again") from error


def _widened(path: Path, name: str, dtype: str, data: bytes, integers: bool) -> Array:
    """Flat float32; exact for every type here but F64, integers are positions and other buffers."""
    match dtype:
        case "F32":
            return np.frombuffer(data, np.float32)
        case "F16":
            return np.frombuffer(data, np.float16).astype(np.float32)
        case "BF16":  # the upper half of a float32, which numpy has no type for
            return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
        case "F64":
            return np.frombuffer(data, np.float64).astype(np.float32)
        case "I8" if integers:
            return np.frombuffer(data, np.int8).astype(np.float32)
        case "I32":
            return np.frombuffer(data, np.int32).astype(np.float32)
        case "I64":
            return np.frombuffer(data, np.int64).astype(np.float32)
    raise CheckpointError(
        f"{path}: tensor {name} has type {dtype}, not one of F32, F16, BF16, F64",
        "quantised checkpoints cannot be compiled: use the unquantised one",
    )
