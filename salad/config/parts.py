"""Parts of a network: those that losses train, those that scores use, and the modules that compute them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from salad.losses import ANOMALY_HEAD, EMBEDDINGS, LOSSES, RECONSTRUCTION
from salad.networks import NETWORKS
from salad.scores import SCORES


def trained_parts(options: Mapping[str, Any], *, net_name: str, in_pre_training: bool = False) -> frozenset[str]:
    """Collect the parts of a network that a loss trains, values of `LossSpec.trains`.

    Args:
        options: options of the training, by name; a loss without its option has the default weight.
        net_name: name of the network; some decode the embedding, which the reconstruction loss then trains, too.
        in_pre_training: True if the training has not gone beyond the epochs before round 0.
    """
    if options.get("n_epochs") == 0:
        return frozenset()
    specs = [spec for spec in LOSSES.values() if spec.in_pre_training or not in_pre_training]
    parts = {spec.trains for spec in specs if float(options.get(spec.weight, spec.default)) > 0}
    if RECONSTRUCTION in parts and NETWORKS[net_name].decodes_embedding:
        parts.add(EMBEDDINGS)
    return frozenset(parts)


def used_parts(scores: Iterable[str]) -> frozenset[str]:
    """Collect the parts of a network that scores are computed from; `ANOMALY_HEAD` stands for the patch features."""
    return frozenset(SCORES[score].needs or ANOMALY_HEAD for score in scores if not SCORES[score].uses_backbone)


def modules_of(net_name: str, parts: Iterable[str]) -> tuple[str, ...]:
    """List the modules with weights that compute parts of a network.

    Args:
        net_name: name of the network.
        parts: parts as of `trained_parts`; the anomaly head, which is no module of the network, needs patch features.
    """
    spec = NETWORKS[net_name]
    stages = {
        ANOMALY_HEAD: spec.patch_modules,
        EMBEDDINGS: spec.patch_modules + spec.embedding_modules,
        RECONSTRUCTION: spec.patch_modules + spec.embedding_modules + spec.decoder_modules,
    }
    return max((stages[part] for part in parts), key=len, default=())
