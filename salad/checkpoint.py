"""Checkpoints of this program, and checkpoints in the published format."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from salad.anchors import Anchors
from salad.errors import InputError, printable
from salad.images.align import SIDE
from salad.losses import EMBEDDINGS, LOSSES, RECONSTRUCTION
from salad.memory import MemoryBank
from salad.networks import NETWORKS
from salad.patch_memory import PatchMemory
from salad.runs.sealed import read_sealed, write_sealed

if TYPE_CHECKING:
    from salad.networks import Network

SCHEMA_VERSION = 1
# defaults of options that older files do not hold
NEWER = {"normalize": "fixed", "trim": False, "crop": 1.0, "align": False}
RUN_STATE = {"optimizer", "schedule", "scaler", "rng", "rng_of_ranks", "tally"}  # entries that only resuming needs


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Content of a checkpoint file.

    Attributes:
        path: path of the file.
        model_state: state dict of the network.
        bank: memory bank.
        config: options of the run that wrote the file; None for a published file.
        normal_class: name of the normal class; None for a published file and for images without classes.
        row_labels: label of every memory row, 0 normal or 1 abnormal, (N,); None for a published file.
        svdd: `centre` (D,) and `radius` (a scalar) of Deep SVDD; None if it was not trained.
        anchors: anchors of the round in which the file was written; None in round 0.
        training: run state and validation results (see `TrainingState.save`); empty for a published file.
        memories: patch memories, by name of the score; empty if the score has none.
    """

    path: Path
    model_state: dict[str, Tensor]
    bank: MemoryBank
    config: dict[str, Any] | None
    normal_class: str | None
    row_labels: Tensor | None
    svdd: dict[str, Tensor] | None
    anchors: Anchors | None
    training: dict[str, Any]
    memories: dict[str, PatchMemory] = field(default_factory=dict)

    @property
    def net_name(self) -> str:
        """Name of the network, recognised by its tensors."""
        return next(name for name, spec in NETWORKS.items() if spec.embedding_weight in self.model_state)

    @property
    def template(self) -> Tensor | None:
        """Template that images are registered to, (1, 1, SIDE, SIDE); None without registration."""
        return self.training.get("mean_image")

    def known(self) -> dict[str, Any]:
        """Collect the options that the file determines, by name."""
        spec = NETWORKS[self.net_name]
        embedding = self.model_state[spec.embedding_weight]
        known = {"net_name": self.net_name, "rep_dim": embedding.shape[0], "npc_temperature": self.bank.temperature}
        if spec.fixes_isize:
            known["isize"] = embedding.shape[-1] * spec.size_multiple
        if self.config is not None:
            known |= {name: self.config[name] for name in ("isize", "resize", "npc_temperature")}
            known |= {name: self.config.get(name, default) for name, default in NEWER.items()}
        return known

    @property
    def trained(self) -> frozenset[str]:
        """Parts of the network that a loss has trained, see `trained_parts`; all are assumed for a published file."""
        options = {spec.weight: 1.0 for spec in LOSSES.values()} if self.config is None else self.config
        in_pre_training = self.training.get("round", 0) < 0
        return trained_parts(options, net_name=self.net_name, in_pre_training=in_pre_training)

    @property
    def reconstructs(self) -> bool:
        """True if a loss has trained the reconstruction; assumed for a published file."""
        return RECONSTRUCTION in self.trained

    @property
    def embeds(self) -> bool:
        """True if a loss has trained the embeddings; assumed for a published file."""
        return EMBEDDINGS in self.trained

    def digest(self) -> str:
        """Digest weights and memory rows, to distinguish this model from others: 12 hexadecimal digits."""
        digest = hashlib.sha256()
        for name, tensor in [*sorted(self.model_state.items()), ("rows", self.bank.rows)]:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:12]

    def has_parts(self, parts: Iterable[str]) -> bool:
        """Check if the validation results in the file belong to the score with these parts."""
        return set(parts) == set(self.training.get("parts", ("knn",)))

    def without_run_state(self) -> dict[str, Any]:
        """Copy `training` without the entries that only resuming needs, two thirds of a file."""
        return {name: value for name, value in self.training.items() if name not in RUN_STATE}

    def load_into(self, network: Network) -> None:
        """Load the weights into a network; tensors that the network lacks are ignored.

        Raises:
            InputError: a tensor is missing or of another shape.
        """
        own = network.state_dict()
        for name, tensor in own.items():
            saved = self.model_state.get(name)
            if not isinstance(saved, Tensor) or saved.shape != tensor.shape:
                shape = tuple(saved.shape) if isinstance(saved, Tensor) else None
                what = f"has shape {shape}, not {tuple(tensor.shape)}" if shape is not None else "is missing"
                raise InputError(f"{self.path}: does not fit {type(network).__name__}: {name} {what}")
        network.load_state_dict({name: self.model_state[name] for name in own})


def trained_parts(options: Mapping[str, Any], *, net_name: str, in_pre_training: bool = False) -> frozenset[str]:
    """Collect the parts of a network that a loss trains, values of `LossSpec.trains`.

    Args:
        options: options of the training, by name; a loss without its option has the default weight.
        net_name: name of the network; some decode the embedding, which the reconstruction loss then trains, too.
        in_pre_training: True if the training has not gone beyond the epochs before round 0.
    """
    specs = [spec for spec in LOSSES.values() if spec.in_pre_training or not in_pre_training]
    parts = {spec.trains for spec in specs if float(options.get(spec.weight, spec.default)) > 0}
    if RECONSTRUCTION in parts and NETWORKS[net_name].decodes_embedding:
        parts.add(EMBEDDINGS)
    return frozenset(parts)


def save_checkpoint(paths: list[Path], checkpoint: Checkpoint) -> None:
    """Write a checkpoint under one or several names.

    The first three entries have the names and content of the published format.

    Raises:
        StorageError: the disk is full or read-only; existing files are unchanged.
    """
    anchors = _anchors_state(checkpoint.anchors, num_rows=len(checkpoint.bank.rows))
    content = {
        "model_state_dict": checkpoint.model_state,
        "memory_state_dict": checkpoint.bank.state_dict(),
        "ans_discovery_state_dict": anchors,
        "schema_version": SCHEMA_VERSION,
        "config": checkpoint.config,
        "normal_class": checkpoint.normal_class,
        "row_labels": checkpoint.row_labels,
        "svdd": checkpoint.svdd,
        "local_memories": {name: memory.state_dict() for name, memory in checkpoint.memories.items()},
    }
    write_sealed(paths, {**{name: one for name, one in checkpoint.training.items() if name not in content}, **content})


def save_for_scoring(path: Path, checkpoint: Checkpoint, *, config: dict[str, Any], **training: Any) -> None:
    """Write a checkpoint for scoring, without the entries that only resuming needs.

    Args:
        path: path of the new file.
        checkpoint: checkpoint of this program or a published one.
        config: options to keep in the file.
        training: entries of `Checkpoint.training` to change.

    Raises:
        StorageError: the file cannot be written.
    """
    kept = {**checkpoint.without_run_state(), **training}
    save_checkpoint([path], replace(checkpoint, config=config, training=kept))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of this program or a published one, without running any code in it.

    Raises:
        InputError: the file is missing, damaged, or not a checkpoint.
    """
    try:
        return _parse(path, read_sealed(path))
    except InputError:
        raise
    except Exception as error:  # a value of a wrong type can raise anything; torch's messages fill pages
        reason = printable(error)[:120]
        raise InputError(f"{path}: not a checkpoint: {reason} is missing or unfit") from None


def _parse(path: Path, content: dict[str, Any]) -> Checkpoint:
    """Check the content of a file and make a checkpoint of it."""
    if not isinstance(content, dict) or not isinstance(content.get("model_state_dict"), dict):
        raise InputError(f"{path}: not a checkpoint: it holds no model_state_dict")
    if not any(spec.embedding_weight in content["model_state_dict"] for spec in NETWORKS.values()):
        raise InputError(f"{path}: holds none of the networks {', '.join(NETWORKS)}")
    version = content.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int):
        raise InputError(f"{path}: not a checkpoint: its schema_version is not an integer")
    if version > SCHEMA_VERSION:
        raise InputError(f"{path}: written by a newer release (schema {version}); upgrade this program")
    checkpoint = Checkpoint(
        path=path,
        model_state=content["model_state_dict"],
        bank=MemoryBank.from_state_dict(content["memory_state_dict"]),
        config=content.get("config"),
        normal_class=content.get("normal_class"),
        row_labels=content.get("row_labels"),
        svdd=content.get("svdd"),
        anchors=_anchors_from(content.get("ans_discovery_state_dict", {})),
        training={
            name: value
            for name, value in content.items()
            if not name.endswith("_state_dict") and name != "local_memories"  # has an attribute of its own
        },
        memories={
            name: PatchMemory.from_state_dict(state) for name, state in content.get("local_memories", {}).items()
        },
    )
    num_rows, rep_dim = checkpoint.bank.rows.shape
    if rep_dim != checkpoint.known()["rep_dim"]:
        raise InputError(f"{path}: memory rows of {rep_dim} dimensions do not fit the embeddings of the network")
    if checkpoint.row_labels is not None and checkpoint.row_labels.shape != (num_rows,):
        raise InputError(f"{path}: {num_rows} memory rows, but labels for {len(checkpoint.row_labels)}")
    _check_facts(checkpoint, rep_dim)
    template = checkpoint.template
    if template is not None and template.shape != (1, 1, SIDE, SIDE):
        raise InputError(f"{path}: its template has shape {tuple(template.shape)}, not {(1, 1, SIDE, SIDE)}")
    return checkpoint


def _check_facts(checkpoint: Checkpoint, rep_dim: int) -> None:
    """Raise an error if the validation results or the SVDD entry have a wrong type, shape or range."""
    training, svdd = checkpoint.training, checkpoint.svdd
    scores, standards = training.get("val_normal_scores"), training.get("standards") or {}
    checks = {
        "val_normal_scores": scores is None or (scores.dim() == 1 and bool(scores.double().isfinite().all())),
        "parts": all(isinstance(part, str) for part in training.get("parts", ())),
        "val_auc": training.get("val_auc") is None or 0 <= training["val_auc"] <= 1,
        "standards": all(std > 0 and math.isfinite(mean) for mean, std in standards.values()),
        "svdd": svdd is None or (svdd["centre"].shape == (rep_dim,) and svdd["radius"].shape == ()),
    }
    for name, is_valid in checks.items():
        if not is_valid:
            raise ValueError(name)


def _anchors_state(anchors: Anchors | None, *, num_rows: int) -> dict[str, Tensor]:
    """Convert anchors to entries of the published format; round 0 has no anchors."""
    if anchors is None:
        none = torch.empty(0, dtype=torch.long)
        anchors = Anchors(anchors=none, neighbours=none.view(0, 0), entropy=torch.zeros(num_rows))
    position = anchors.position
    consistency = torch.tensor(0.0)  # the released program measures it with labels, which are not used here
    return {
        "samples_num": torch.tensor(num_rows),
        "anchor_indexes": anchors.anchors,
        "instance_indexes": (position < 0).nonzero().flatten(),
        "position": position,
        "neighbours": anchors.neighbours,
        "entropy": anchors.entropy,
        "consistency": consistency,
    }


def _anchors_from(state: dict[str, Tensor]) -> Anchors | None:
    """Read anchors from entries of the published format; None if there are none."""
    if len(state.get("anchor_indexes", ())) == 0:
        return None
    order = state["anchor_indexes"].sort()
    return Anchors(anchors=order.values, neighbours=state["neighbours"][order.indices], entropy=state["entropy"])
