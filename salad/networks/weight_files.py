"""Files of weights for networks: read a state dict, and fill a network with the tensors that it uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from salad.errors import InputError
from salad.tensor_files import digest_of, fault_of, load_tensors

NESTED = ("state_dict", "model")  # entries that hold the state dict in files of other programs
COUNTER = "num_batches_tracked"  # of batch norm; older files lack it, and only a training uses it
MAX_NAMED = 3  # tensors that a message names
GIVE = "give their file as --backbone_weights FILE"


def fetch_advice(address: str) -> str:
    """Word the ways to weights that lie at an address."""
    return f"fetch {address} and {GIVE}, or let --backbone_weights download fetch it"


@dataclass(frozen=True, kw_only=True)
class WeightSource:
    """Source of the weights of a backbone other than a file of the user.

    Attributes:
        advice: ways to get them, for a message.
        file: file of the weights on this machine; None if it holds none.
        fetch: downloads the file and returns its path; None if there is nothing to download.
    """

    advice: str
    file: Path | None = None
    fetch: Callable[[], Path] | None = None


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a file of safetensors or of torch.save, without running any code in it.

    Raises:
        InputError: the file cannot be read, or holds no state dict.
        MachineError: there is too little memory to read it.
    """
    content = load_tensors(path)
    if isinstance(content, dict):
        content = next((content[key] for key in NESTED if isinstance(content.get(key), dict) and content[key]), content)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path}: holds no plain state dict of tensors")
    return content


def fill(network: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Fill all tensors of a network from a state dict, which may hold others, too.

    Returns:
        SHA-256 of the names and values of the tensors that the network now has, in hexadecimal digits.

    Raises:
        InputError: a tensor is missing, of another shape or type, or not finite; the message names the first ones.
    """
    own = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(COUNTER)}
    faults = [f"{name} {fault}" for name, tensor in own.items() if (fault := fault_of(state.get(name), tensor))]
    if faults:
        more = f", and {len(faults) - MAX_NAMED} more do not fit" if len(faults) > MAX_NAMED else ""
        raise InputError(f"{', '.join(faults[:MAX_NAMED])}{more}")
    network.load_state_dict({name: state[name] for name in own}, strict=False)
    return digest_of(own)
