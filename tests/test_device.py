import platform
import subprocess
import sys

import pytest
import torch
from running import ONE_THREAD, REPOSITORY

from salad.device import amp_dtype, choose_device, seed_everything
from salad.errors import InputError

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


def test_on_a_cpu_mixed_precision_is_used_only_when_asked_for():
    found = [amp_dtype(name, CPU) for name in ("auto", "off", "bf16", "fp16")]
    assert found == [None, None, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("supported", [True, False])
def test_on_a_gpu_auto_takes_bf16_where_it_is(monkeypatch, supported):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert amp_dtype("auto", CUDA) == (torch.bfloat16 if supported else None)
    assert amp_dtype("off", CUDA) is None
    assert amp_dtype("fp16", CUDA) == torch.float16


def test_a_format_that_the_device_lacks(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with pytest.raises(InputError, match="^--amp is bf16, .* use fp16, or off$"):
        amp_dtype("bf16", CUDA)
    assert amp_dtype("auto", MPS) is None
    with pytest.raises(InputError, match="^--amp is fp16, but mps takes off only$"):
        amp_dtype("fp16", MPS)


@pytest.fixture
def backends():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.benchmark, matmul.allow_tf32
    yield torch.backends
    cudnn.allow_tf32, cudnn.benchmark, matmul.allow_tf32 = before
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("deterministic", [True, False])
def test_tf32_serves_convolutions_alone_and_not_in_a_deterministic_run(backends, deterministic):
    backends.cuda.matmul.allow_tf32 = True
    backends.cudnn.allow_tf32 = backends.cudnn.benchmark = deterministic
    seed_everything(0, deterministic=deterministic)
    assert backends.cudnn.allow_tf32 == backends.cudnn.benchmark == (not deterministic)
    assert not backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    ("visible", "said"),
    [("", " with CUDA_VISIBLE_DEVICES=''"), ("1,2", " with CUDA_VISIBLE_DEVICES='1,2'"), (None, "")],
)
def test_gpus_that_are_hidden_are_said_to_be(monkeypatch, visible, said):
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=f"'cuda:2', but this machine has 2 cuda devices{said}; --device auto"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda0", "cuda:", "cuda:-1", "cuda:x", "CUDA", "", "xla", "meta", "cpu:1"])
def test_other_names_of_devices_are_refused_in_one_line(name):
    with pytest.raises(InputError, match=r"^--device is '.*--device auto chooses a device$|must be auto, cpu, cuda"):
        choose_device(name)


def test_without_a_gpu_auto_takes_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == MPS


FAULTS = """
import resource, torch
from salad.device import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
returned = [faults() for _ in range(20)][-1]
assert keep_freed_memory()
kept = [faults() for _ in range(20)][-1]
print(returned, kept)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_used_again():
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], cwd=REPOSITORY, env=ONE_THREAD, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    returned, kept = map(int, done.stdout.split())
    assert kept < 10 and returned > 30  # of huge pages there are 32
