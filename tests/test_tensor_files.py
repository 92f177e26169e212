"""Files of torch.save from an unknown source: what they may hold, and rules of their entries."""

import builtins
import io
import math
import os
import zipfile

import pytest
import torch

from salad.errors import DamagedError, InputError, MachineError, StorageError
from salad.tensor_files import Rule, checked, load_tensors


def saved(path, content, **how):
    torch.save(content, path, **how)
    return path


def repacked(path, compression=zipfile.ZIP_DEFLATED):
    """The same file with compressed entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    path.write_bytes(buffer.getvalue())
    return path


@pytest.mark.parametrize("is_archive", [True, False], ids=["archive", "before torch 1.6"])
def test_plain_files_are_read(tmp_path, is_archive):
    content = {"a": torch.arange(6.0).view(2, 3).T, "b": [1, "x", (None, 2.5)], "c": torch.zeros(0, 4)}
    found = load_tensors(saved(tmp_path / "x", content, _use_new_zipfile_serialization=is_archive))
    assert torch.equal(found["a"], content["a"]) and found["b"] == content["b"] and found["c"].shape == (0, 4)


ODD = {
    "repeats its values": lambda: torch.ones(1, 3).expand(10**12, 3),
    "sparse, quantised": lambda: torch.eye(3).to_sparse(),
    "quantised or empty": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "or empty tensor": lambda: torch.empty(10**12, device="meta"),
}


@pytest.mark.parametrize("reason", ODD)
@pytest.mark.filterwarnings("ignore")
def test_tensors_whose_values_are_not_in_the_file(tmp_path, reason):
    with pytest.raises(InputError, match=f"x: .*{reason}"):
        load_tensors(saved(tmp_path / "x", {"a": [({"b": ODD[reason]()},)]}))


def test_containers_in_a_circle_are_searched_once(tmp_path):
    circle: list = [torch.ones(1)]
    circle.append(circle)
    for _ in range(60):
        circle = [circle, circle]
    assert len(load_tensors(saved(tmp_path / "x", circle))) == 2


def test_compressed_entries_are_refused_before_they_are_unpacked(tmp_path):
    path = repacked(saved(tmp_path / "x", {"a": torch.zeros(2**20)}))
    with pytest.raises(InputError, match="compressed entries"):
        load_tensors(path)
    assert load_tensors(repacked(saved(tmp_path / "y", {"a": 1}), zipfile.ZIP_STORED)) == {"a": 1}


def test_a_file_that_claims_more_than_it_holds_is_damaged(tmp_path):
    path = saved(tmp_path / "x", {"a": torch.zeros(3)}, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"K\x03Nt", b"\x8a\x06\x00\x00\x00\x00\x00\x7fNt"))  # the size of the storage
    assert path.read_bytes() != content
    with pytest.raises(DamagedError):
        load_tensors(path)


FAULTS = [
    (MemoryError(), MachineError, "out of memory"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), MachineError, "memory"),
    (RuntimeError("can't start new thread"), MachineError, "threads"),
    (OSError(24, "Too many open files"), MachineError, "ulimit -n"),
    (OSError(5, "Input/output error"), StorageError, "disk or network share fails"),
    (OSError(116, "Stale file handle"), StorageError, "disk or network share fails"),
    (PermissionError(13, "Permission denied"), InputError, r"cannot be read \(Permission denied\)"),
    (EOFError(), DamagedError, "damaged"),
]


@pytest.mark.parametrize(("error", "kind", "reason"), FAULTS, ids=range(len(FAULTS)))
def test_a_failure_is_told_by_its_kind(tmp_path, monkeypatch, error, kind, reason):
    path = saved(tmp_path / "x", {})

    def failing(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", failing)
    with pytest.raises(builtins.Exception, match=reason) as caught:
        load_tensors(path)
    assert type(caught.value) is kind and str(caught.value).startswith(str(path))


REAL, WHOLE = torch.float32, torch.int64
RULES = [  # rule, what passes, what does not
    (Rule(kind=REAL, shape=("N", 2)), [torch.ones(3, 2), torch.ones(3, 2).half(), torch.ones(3, 2).bfloat16()],
     [torch.ones(3, 2).long(), torch.ones(3, 3), torch.ones(6), torch.full((3, 2), math.nan), "x", [1],
      torch.full((3, 2), math.inf), torch.full((3, 2), -math.inf), torch.ones(3, 2, dtype=torch.complex64)]),
    (Rule(kind=REAL, shape=(2,), low=0), [torch.ones(2).double()],
     [-torch.ones(2), torch.full((2,), 1e300, dtype=torch.float64)]),
    (Rule(kind=torch.float16, shape=(1,)), [torch.ones(1)], [torch.full((1,), 1e6)]),
    (Rule(kind=WHOLE, shape=("M",), low=0, high="M"), [torch.tensor([0, 1]), torch.tensor([0, 1]).byte()],
     [torch.tensor([0, 2]), torch.tensor([-1, 0]), torch.tensor([True]), torch.tensor([0.0])]),
    (Rule(kind=int, low=-1), [-1, 0, 10**9], [-5, True, 1.0, "1", 10**400, 2**63, math.nan, torch.tensor(1)]),
    (Rule(kind=float, low=0, high=1), [0, 0.5, 1], [-0.1, 2, math.nan, math.inf, 10**400, "x", False]),
    (Rule(kind=float, low=-math.inf), [-math.inf, 0.5], [math.inf, math.nan]),
    (Rule(kind=str), ["", "a"], [1, b"a", object()]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "fit", "unfit"), RULES, ids=range(len(RULES)))
def test_entries_are_held_to_their_rules(rule, fit, unfit):
    for value in fit:
        found = checked({"x": value, "other": object}, {"x": rule}, sizes={})
        assert found["other"] is object
        assert found["x"].dtype == rule.kind if isinstance(value, torch.Tensor) else found["x"] == value
    for value in unfit:
        with pytest.raises(InputError, match="^x (is|has)"):
            checked({"x": value}, {"x": rule}, sizes={})
    assert checked({"x": None}, {"x": rule}, sizes={}) == {"x": None}
    assert checked({}, {"x": rule}, sizes={}) == {}


def test_sizes_are_shared_and_a_needed_entry_is_asked_for():
    rules = {"a": Rule(kind=REAL, shape=("N",)), "b": Rule(kind=REAL, shape=("N",), needed=True)}
    sizes: dict[str, int] = {}
    checked({"a": torch.ones(3), "b": torch.ones(3)}, rules, sizes=sizes)
    assert sizes == {"N": 3}
    with pytest.raises(InputError, match=r"b has shape \(4,\), not \(3\)"):
        checked({"a": torch.ones(3), "b": torch.ones(4)}, rules, sizes={})
    with pytest.raises(InputError, match="b is missing"):
        checked({"a": torch.ones(3)}, rules, sizes={})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x")
    with pytest.raises(InputError, match="a named pipe, not a file"):
        load_tensors(tmp_path / "x")
