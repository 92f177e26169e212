"""Checkpoints of this program, and checkpoints in the published format."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from salad.anchors import Anchors
from salad.config import OPTIONS
from salad.config.declare import REMOVED, without_removed
from salad.config.parts import modules_of, trained_parts, used_parts
from salad.errors import InputError, printable, refuse_shortage
from salad.evaluation.films import MEASUREMENTS
from salad.images.align import SIDE
from salad.losses import ANOMALY_HEAD, EMBEDDINGS, LOSSES, RECONSTRUCTION
from salad.memory import MemoryBank
from salad.networks import NETWORKS
from salad.patch_memory import PatchMemory
from salad.runs.sealed import is_sealed, read_sealed, write_sealed
from salad.tensor_files import LARGEST, Rule, checked, digest_of, fault_of

if TYPE_CHECKING:
    from salad.networks import Network

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
# defaults of options that older files do not hold
NEWER = {"normalize": "fixed", "trim": False, "crop": 1.0, "align": False}
MEMORY = {
    "memory": Rule(kind=torch.float32, shape=("N", "D"), needed=True),
    "params": Rule(kind=torch.float32, shape=(2,), low=0, needed=True),
}
ANCHORS = {
    "anchor_indexes": Rule(kind=torch.int64, shape=("A",), low=0, high="N", needed=True),
    "neighbours": Rule(kind=torch.int64, shape=("A", "K"), low=0, high="N", needed=True),
    "entropy": Rule(kind=torch.float32, shape=("N",), needed=True),
}
SVDD = {
    "centre": Rule(kind=torch.float32, shape=("D",), needed=True),
    "radius": Rule(kind=torch.float32, low=0, needed=True),
}
PATCHES = {
    "rows": Rule(kind=torch.float16, shape=("G", "M", "A"), needed=True),
    "mean": Rule(kind=torch.float32, shape=("G", "C"), needed=True),
    "whitening": Rule(kind=torch.float32, shape=("C", "A"), needed=True),
    "spacing": Rule(kind=torch.float32, shape=("G", "M"), low=0),
    "num_nearest": Rule(kind=torch.int64, low=1),
    "share": Rule(kind=torch.float32, low=0),
    "seen_power": Rule(kind=torch.float32, low=0),
}
MAP = "map"  # name of the memory of the fine map, and of its scale
SCALE = {
    "part": Rule(kind=str, needed=True),
    "peaks": Rule(kind=torch.float64, shape=("P",), low=0, needed=True),
    "normals": Rule(kind=str, needed=True),
}
HEAD = {
    "places.weight": Rule(kind=torch.float32, shape=(1, "C", 1, 1), needed=True),
    "places.bias": Rule(kind=torch.float32, shape=(1,), needed=True),
    "image.weight": Rule(kind=torch.float32, shape=(1, "C"), needed=True),
    "image.bias": Rule(kind=torch.float32, shape=(1,), needed=True),
}
BACKBONE = {"name": Rule(kind=str, needed=True), "digest": Rule(kind=str, needed=True)}  # of the frozen network
FACTS = {
    "schema_version": Rule(kind=int, low=1),
    "row_labels": Rule(kind=torch.int64, shape=("N",), low=0, high=1),
    "mean_image": Rule(kind=torch.float32, shape=(1, 1, SIDE, SIDE)),
    "val_normal_scores": Rule(kind=torch.float64, shape=("V",)),
    "val_auc": Rule(kind=float, low=0, high=1),
    "k": Rule(kind=int, low=0),
    "epoch": Rule(kind=int, low=0),
    "epoch_in_round": Rule(kind=int, low=0),
    "round": Rule(kind=int, low=-1),
    "best_auc": Rule(kind=float, low=-math.inf, high=1),
    "normal_class": Rule(kind=str),
    "weights_loaded": Rule(kind=str),
    "images": Rule(kind=str),
    "val_images": Rule(kind=str),
}
FILMS = {name: Rule(kind=torch.float32, shape=(name,)) for name in MEASUREMENTS}
RUN_STATE = {"optimizer", "schedule", "scaler", "rng", "rng_of_ranks", "tally"}  # entries that only resuming needs


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Content of a checkpoint file: of last.tar, with all that resuming needs, or of a file for scoring.

    Attributes:
        path: path of the file.
        model_state: state dict of the network; a file for scoring lacks the modules that no score uses.
        bank: memory bank; without rows in a file for scoring if no loss has trained the embeddings.
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
        """Name of the network, recognised by its tensors, or else taken from the options."""
        own = (name for name, spec in NETWORKS.items() if spec.embedding_weight in self.model_state)
        return next(own, None) or str((self.config or {})["net_name"])

    @property
    def template(self) -> Tensor | None:
        """Template that images are registered to, (1, 1, SIDE, SIDE); None without registration."""
        return self.training.get("mean_image")

    def known(self) -> dict[str, Any]:
        """Collect the options that the file determines, by name."""
        spec = NETWORKS[self.net_name]
        embedding = self.model_state.get(spec.embedding_weight)
        rep_dim = self.bank.rows.shape[1] if embedding is None else embedding.shape[0]
        known = {"net_name": self.net_name, "rep_dim": rep_dim, "npc_temperature": self.bank.temperature}
        if spec.fixes_isize and embedding is not None:
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

    @property
    def held(self) -> frozenset[str]:
        """Parts of the network that the file holds, values of `LossSpec.trains`."""
        parts = {
            part
            for part in (ANOMALY_HEAD, EMBEDDINGS, RECONSTRUCTION)
            if all(
                any(_is_in(name, [module]) for name in self.model_state) for module in modules_of(self.net_name, [part])
            )
        }
        return frozenset(parts if len(self.bank.rows) else parts - {EMBEDDINGS})

    def check_parts(self, scores: Iterable[str]) -> None:
        """Raise `InputError` if the file lacks a part of the network that a score is computed from."""
        for score in scores:
            for part in used_parts([score]) - self.held:
                name = "patch features" if part == ANOMALY_HEAD else part
                ways = " or ".join(f"--{spec.weight}" for spec in LOSSES.values() if spec.trains == part)
                raise InputError(
                    f"--score {score} needs the {name} of the network, which {self.path} leaves out because no loss "
                    f"has trained them: train with {ways} above 0, or choose another score"
                )

    def digest(self) -> str:
        """Digest weights and memories, to distinguish this model from others: 12 hexadecimal digits."""
        tensors: dict[str, Any] = {**self.model_state, "memory rows": self.bank.rows}
        if not len(self.bank.rows):  # files of older releases have rows, and keep their digest
            compared = self.memories.keys() - {MAP}  # only model.tar has a map
            tensors |= {f"patch memory {name}": self.memories[name].rows for name in compared}
        return digest_of(tensors)[:12]  # what is no tensor does not fit any network, which is said on loading

    @property
    def is_resumable(self) -> bool:
        """True if the file holds run state, as last.tar does."""
        return not RUN_STATE.isdisjoint(self.training)

    def has_parts(self, parts: Iterable[str]) -> bool:
        """Check if the validation results in the file belong to the score with these parts."""
        return set(parts) == set(self.training.get("parts", ("knn",)))

    def without_run_state(self) -> dict[str, Any]:
        """Copy `training` without the entries that only resuming needs, two thirds of a file."""
        return {name: value for name, value in self.training.items() if name not in RUN_STATE}

    def for_scoring(self) -> Checkpoint:
        """Copy what scores can use: no run state, and of the network the parts that are trained or that its score uses.

        The memory rows go where the embeddings go.
        """
        parts = self.trained | used_parts(self.training.get("parts", ("knn",)))
        modules = modules_of(self.net_name, parts)
        bank, anchors = self.bank, self.anchors
        if EMBEDDINGS not in parts:
            bank = MemoryBank(0, bank.rows.shape[1], temperature=bank.temperature, momentum=bank.momentum)
            anchors = None
        return replace(
            self,
            model_state={name: tensor for name, tensor in self.model_state.items() if _is_in(name, modules)},
            bank=bank,
            anchors=anchors,
            training=self.without_run_state(),
        )

    def load_into(self, network: Network) -> None:
        """Load the weights of the parts that the file holds into a network; other tensors of either are ignored.

        Raises:
            InputError: a tensor is missing, of another shape or type, or not finite.
        """
        modules = modules_of(self.net_name, self.held)
        own = {name: tensor for name, tensor in network.state_dict().items() if _is_in(name, modules)}
        for name, tensor in own.items():
            if fault := fault_of(self.model_state.get(name), tensor):
                raise InputError(f"{self.path}: does not fit {type(network).__name__}: {name} {fault}")
        network.load_state_dict({name: self.model_state[name] for name in own}, strict=False)


def _is_in(name: str, modules: Iterable[str]) -> bool:
    """Check if a tensor of a network belongs to one of these modules."""
    return str(name).startswith(tuple(f"{module}." for module in modules))


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
    """Write a checkpoint with what scores can use, see `Checkpoint.for_scoring`.

    Args:
        path: path of the new file.
        checkpoint: checkpoint of this program or a published one.
        config: options to keep in the file.
        training: entries of `Checkpoint.training` to change.

    Raises:
        StorageError: the file cannot be written.
    """
    changed = replace(checkpoint, config=config, training={**checkpoint.training, **training})
    save_checkpoint([path], changed.for_scoring())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of this program or a published one, without running any code in it.

    Raises:
        InputError: the file is missing, or not a checkpoint.
        DamagedError: the file is damaged.
        MachineError: there is too little memory to read it, or too few open files.
        StorageError: its disk fails.
    """
    content = read_sealed(path)
    try:
        checkpoint = _parse(path, content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # a value of a wrong type can raise anything; torch's messages fill pages
        refuse_shortage(error, path)
        raise InputError(f"{path}: not a checkpoint: {printable(error)[:120]} is missing or unfit") from None
    if "schema_version" in content and not is_sealed(path):
        logger.warning("%s: its seal is missing, as of a file that was cut off or rewritten: it is not checked", path)
    if unknown := sorted((checkpoint.config or {}).keys() - OPTIONS.keys() - REMOVED.keys()):
        logger.warning("%s: holds options that this release lacks, without effect: %s", path, ", ".join(unknown)[:200])
    return checkpoint


def _parse(path: Path, content: dict[str, Any]) -> Checkpoint:
    """Check the content of a file and make a checkpoint of it."""
    if not isinstance(content, dict) or not isinstance(content.get("model_state_dict"), dict):
        raise InputError("not a checkpoint: it holds no model_state_dict")
    is_known = any(spec.embedding_weight in content["model_state_dict"] for spec in NETWORKS.values())
    if not is_known and content.get("config") is None:
        raise InputError(f"holds none of the networks {', '.join(NETWORKS)}")
    if content.get("schema_version", 0) > SCHEMA_VERSION:
        raise InputError(f"written by a newer release (schema {content['schema_version']}); upgrade this program")
    sizes: dict[str, int] = {}
    bank = MemoryBank.from_state_dict(checked(content["memory_state_dict"], MEMORY, sizes=sizes))
    if sizes["N"] == 0:  # the rows are left out, but not their labels
        del sizes["N"]
    facts, svdd = checked(content, FACTS, sizes=sizes), content.get("svdd")
    _check_scores(facts)
    facts |= {
        name: checked(facts[name], rules, sizes={})
        for name, rules in (("head", HEAD), (MAP, SCALE), ("films", FILMS), ("backbone", BACKBONE))
        if facts.get(name) is not None
    }
    anchors = content.get("ans_discovery_state_dict", {})
    checkpoint = Checkpoint(
        path=path,
        model_state=content["model_state_dict"],
        bank=bank,
        config=_checked_options(content.get("config")),
        normal_class=facts.get("normal_class"),
        row_labels=facts.get("row_labels"),
        svdd=None if svdd is None else checked(svdd, SVDD, sizes=sizes),
        anchors=_anchors_from(checked(anchors, ANCHORS, sizes=sizes))
        if len(anchors.get("anchor_indexes", ()))
        else None,
        training={
            name: value
            for name, value in facts.items()
            if not name.endswith("_state_dict") and name != "local_memories"  # has an attribute of its own
        },
        memories={
            name: PatchMemory.from_state_dict(checked(state, PATCHES, sizes={}))
            for name, state in content.get("local_memories", {}).items()
        },
    )
    if sizes["D"] != (rep_dim := checkpoint.known()["rep_dim"]):
        raise InputError(f"memory rows of {sizes['D']} dimensions do not fit the {rep_dim} of the network's embeddings")
    return checkpoint


def _check_scores(facts: dict[str, Any]) -> None:
    """Raise an error if the parts of the score, their standards or the kinds of images have a wrong type or range."""
    checks = {
        "parts": all(isinstance(part, str) for part in facts.get("parts", ())),
        "standards": all(
            std > 0 and math.isfinite(mean + std) for mean, std in (facts.get("standards") or {}).values()
        ),
        "enrolled": all(
            isinstance(name, str) and isinstance(digest, str) for name, digest in facts.get("enrolled", ())
        ),
        "told": all(
            isinstance(name, str) and all(isinstance(value, str) and type(count) is int for value, count in of.items())
            for name, of in (facts.get("told") or {}).items()
        ),
        "kinds": all(
            isinstance(kind, str) and type(number) is int and 0 < number <= LARGEST
            for kind, number in facts.get("kinds", {}).items()
        ),
        MAP: all(
            std > 0 and math.isfinite(mean + std) for mean, std in (facts.get(MAP) or {"levels": {}})["levels"].values()
        ),
    }
    for name, is_valid in checks.items():
        if not is_valid:
            raise ValueError(name)


def _checked_options(config: Any) -> dict[str, Any] | None:
    """Check the options that this release knows."""
    if config is None:
        return None
    if not isinstance(config, dict) or not all(isinstance(name, str) for name in config):
        raise InputError("not a checkpoint: its config is no table of options")
    for name, value in without_removed(config).items():
        if name in OPTIONS:
            OPTIONS[name].check(OPTIONS[name].from_json(value))
    return config


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


def _anchors_from(state: dict[str, Tensor]) -> Anchors:
    """Read anchors from entries of the published format."""
    order = state["anchor_indexes"].sort()
    return Anchors(anchors=order.values, neighbours=state["neighbours"][order.indices], entropy=state["entropy"])
