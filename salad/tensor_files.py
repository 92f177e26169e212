"""Read files of torch.save and safetensors from an unknown source, and check their entries against rules."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from salad.errors import DamagedError, InputError, printable, refuse_disk, refuse_shortage
from salad.input_files import open_input
from salad.packages import install_command

ASKED = re.compile(r"allocate (\d+) bytes")  # in an error of torch
ZIP_HEAD = b"PK\x03\x04"
SAFETENSORS_START = 8  # bytes of the length of the JSON header that a file of safetensors begins with
MAX_SHOWN = 40  # characters of a value that a message shows
WORDS = {float: "a number", int: "a whole number", str: "text"}
LARGEST = 2**62  # of a whole number: sums of two still fit into 64 bits


def load_tensors(path: Path) -> Any:
    """Read tensors and plain values of torch.save, or tensors of safetensors, without running any code in the file.

    Raises:
        InputError: the file is missing or is no regular file, holds more than dense tensors and plain values, or needs
            the package safetensors.
        DamagedError: its content cannot be decoded.
        MachineError: there is too little memory to read it, or too few open files.
        StorageError: its disk fails.
    """
    with reading(path), open_input(path) as opened:
        head = opened.read(SAFETENSORS_START + 1)
        if head[SAFETENSORS_START:] == b"{":
            return _load_safetensors(path)
        is_archive = head.startswith(ZIP_HEAD)
        opened.seek(0)
        # a file as before torch 1.6 may ask for more bytes at once than it has: only memory gives no more than it holds
        file = opened if is_archive else io.BytesIO(opened.read())
        if is_archive:
            _check_stored(opened)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about kinds of tensors that are refused below
            content = torch.load(file, map_location="cpu", weights_only=True)
        for tensor in _tensors(content):
            _check_dense(tensor)
    return content


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file of safetensors."""
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise InputError(f"is of safetensors, which is not installed: {install_command('timm')}") from None
    return load_file(path)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any error of reading a tensor file into one that tells damage from a shortage and from a failing disk."""
    try:
        yield
    except DamagedError:
        raise
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except Exception as error:  # torch.load raises many types of errors on damaged files
        asked = ASKED.search(str(error))
        if not asked or int(asked[1]) <= path.stat().st_size:  # else the file claims more than it holds
            refuse_shortage(error, path)
        if isinstance(error, OSError) and error.errno:
            refuse_disk(error, path)
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        raise DamagedError(f"{path}: damaged, or not a checkpoint ({type(error).__name__})") from None


def _check_stored(file: BinaryIO) -> None:
    """Refuse an archive with compressed or overlapping entries, which torch never writes: they may fill the memory."""
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise InputError("holds compressed entries, which torch never writes: save it again with torch.save")
    if sum(member.file_size for member in members) > size:
        raise InputError(
            "holds entries that share their bytes, which torch never writes: save it again with torch.save"
        )
    file.seek(0)


def _tensors(content: Any) -> Iterator[Tensor]:
    """List the tensors in nested containers, which may hold each other in a circle."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (dict, list, tuple, set)) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)


def _check_dense(tensor: Tensor) -> None:
    """Refuse a tensor whose values are not all in the file, one by one."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type != "cpu":
        raise InputError("holds a sparse, quantised or empty tensor: save dense tensors")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise InputError(f"holds a tensor that repeats its values, of shape {tuple(tensor.shape)}: save a copy of it")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Rule of an entry: its type, and the bounds of its values. Numbers must be finite.

    Attributes:
        kind: type of a plain value, ``float``, ``int`` or ``str``; or the type that a tensor is converted to.
        shape: shape of a tensor, in which a letter is a size that all entries with this letter share.
        low: smallest value.
        high: largest value; a letter for the largest index of that size.
        needed: whether the entry may not be missing or None.
    """

    kind: type | torch.dtype
    shape: tuple[int | str, ...] = ()
    low: float = -sys.float_info.max
    high: float | str = sys.float_info.max
    needed: bool = False


def checked(content: Mapping[str, Any], rules: Mapping[str, Rule], *, sizes: dict[str, int]) -> dict[str, Any]:
    """Check entries against their rules, in the order of the rules.

    Args:
        content: entries by name.
        rules: rule of each entry; entries without a rule are not checked.
        sizes: known sizes by letter; sizes that the entries determine are added.

    Returns:
        The entries, with the tensors converted; an integer tensor never becomes one of floats, nor the reverse.

    Raises:
        InputError: an entry breaks its rule; the message names it.
    """
    values = dict(content)
    for name, rule in rules.items():
        value = values.get(name)
        if value is None:
            if rule.needed:
                raise InputError(f"{name} is missing")
        elif isinstance(rule.kind, torch.dtype):
            values[name] = _checked_tensor(name, value, rule, rule.kind, sizes)
        else:
            _check_plain(name, value, rule, rule.kind)
    return values


def _check_plain(name: str, value: Any, rule: Rule, kind: type) -> None:
    """Raise `InputError` if a plain value breaks its rule."""
    if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool):
        raise InputError(f"{name} is {_shown(value)}, not {WORDS[kind]}")
    if isinstance(value, (int, float)) and not (_within(value, rule, {}) and (kind is float or value <= LARGEST)):
        raise InputError(f"{name} is {_shown(value)}, which is out of range")


def _checked_tensor(name: str, value: Any, rule: Rule, kind: torch.dtype, sizes: dict[str, int]) -> Tensor:
    """Check a tensor and convert it to the type that the program computes with."""
    if not isinstance(value, Tensor):
        raise InputError(f"{name} is {_shown(value)}, not a tensor")
    if not same_numbers(value.dtype, kind):
        raise InputError(f"{name} is of {value.dtype}, not of {kind}")
    shape = tuple(sizes.get(size, size) if isinstance(size, str) else size for size in rule.shape)
    if len(shape) != value.dim() or any(
        isinstance(size, int) and size != found for size, found in zip(shape, value.shape, strict=True)
    ):
        raise InputError(f"{name} has shape {tuple(value.shape)}, not ({', '.join(map(str, shape))})")
    sizes |= {size: found for size, found in zip(rule.shape, value.shape, strict=True) if isinstance(size, str)}
    tensor: Tensor = value.detach().to(torch.get_default_dtype() if kind is torch.float32 else kind)
    if tensor.numel() and not all(_within(float(end), rule, sizes) for end in torch.aminmax(tensor)):
        raise InputError(f"{name} has a value that is not finite or out of range")
    return tensor


def fault_of(saved: object, own: Tensor) -> str:
    """Word what keeps a value of a file from filling a tensor of a network; empty if it fits."""
    if not isinstance(saved, Tensor):
        return "is missing"
    if saved.shape != own.shape:
        return f"has shape {tuple(saved.shape)}, not {tuple(own.shape)}"
    if not same_numbers(saved.dtype, own.dtype):
        return f"is of {saved.dtype}, not of {own.dtype}"
    return "" if saved.float().isfinite().all() else "has values that are not finite"


def digest_of(tensors: Mapping[str, Any]) -> str:
    """Digest names and bytes of tensors by SHA-256, in hexadecimal digits; of what is no dense tensor, the name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items(), key=lambda item: str(item[0])):
        digest.update(str(name).encode())
        if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def same_numbers(dtype: torch.dtype, other: torch.dtype) -> bool:
    """Check if two types hold the same kind of numbers, real or whole, in whatever precision."""
    is_real, is_whole = (
        dtype.is_floating_point,
        not (dtype.is_floating_point or dtype.is_complex or dtype is torch.bool),
    )
    return is_real if other.is_floating_point else is_whole


def _within(value: float, rule: Rule, sizes: Mapping[str, int]) -> bool:
    """Check if a number lies within the bounds of a rule; NaN never does."""
    high = sizes[rule.high] - 1 if isinstance(rule.high, str) else rule.high
    return rule.low <= value <= high and (math.isfinite(value) or value == rule.low)


def _shown(value: Any) -> str:
    """Shorten a value for a message; one of an odd type is named by its type."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a huge number"
    is_plain = isinstance(value, (bool, int, float, str))
    return printable(repr(value))[:MAX_SHOWN] if is_plain else f"a {type(value).__name__}"
