"""Tests that compare a GPU with the CPU: equal random numbers on both, and no wait for the GPU."""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class DrawsOfCpu(TorchFunctionMode):
    """Random numbers of the CPU's generator on every device, so that a seed gives the same ones everywhere."""

    MAKERS = (torch.rand, torch.randn, torch.randint)
    LIKE = (torch.rand_like, torch.randn_like)
    IN_PLACE = (torch.Tensor.uniform_, torch.Tensor.normal_)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        options = dict(kwargs or {})
        if func in self.MAKERS:
            device = options.pop("device", "cpu")
            return func(*args, **options).to(device)
        if func in self.LIKE:
            return func(torch.empty_like(args[0], device="cpu"), *args[1:], **options).to(args[0].device)
        if func in self.IN_PLACE:
            drawn = torch.empty(args[0].shape, dtype=args[0].dtype)
            return args[0].copy_(func(drawn, *args[1:], **options))
        return func(*args, **options)


class NoWaiting(TorchDispatchMode):
    """Fails where the host would read a number from a GPU."""

    NAMES = ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put_") and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        assert name not in self.NAMES and not by_mask, f"the host waits for {name}"
        return func(*args, **(kwargs or {}))


@contextmanager
def no_waiting(device):
    """Fail where the host waits for a GPU; on the CPU, where it would."""
    if device.type == "cpu":
        with NoWaiting():
            yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
