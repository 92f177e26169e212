import platform
import subprocess
import sys

import pytest
import torch
from running import ONE_THREAD, REPOSITORY

from salad.device import amp_dtype, seed_everything
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
