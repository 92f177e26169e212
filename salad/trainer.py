"""Training: rounds of epochs of steps."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from salad import losses
from salad.anchors import Anchors, discover_anchors
from salad.checkpoint import load_checkpoint, save_checkpoint
from salad.config import Config
from salad.datasets.augment import AUGMENTATIONS
from salad.datasets.loader import Batch
from salad.datasets.sample import NORMAL, Split
from salad.datasets.scan import write_skipped
from salad.device import choose_device, seed_everything
from salad.errors import DivergedError
from salad.evaluate import choose_score, embed, score_split
from salad.memory import MemoryBank
from salad.metrics import Auc
from salad.prepare import find_k, make_loader, read_training_data, start_network
from salad.run_folder import RunFolder

logger = logging.getLogger(__name__)

RADIUS_WARM_UP_EPOCHS = 10  # of soft-boundary SVDD, before the radius leaves 0 (Ruff et al., 2018)


def train(config: Config, folder: RunFolder) -> None:
    """Train on the images of train/ and write everything into the run folder; test/ is never looked at.

    Args:
        config: with a drawn seed (not -1).
        folder: where to write; a run that it holds is replaced once everything has been checked.

    Raises:
        InputError: the data or an option is at fault.
        DivergedError: a loss was not finite; the checkpoints so far stay.
    """
    device = choose_device(config.device)
    seed_everything(config.seed, deterministic=config.deterministic)
    train_split, val_split = read_training_data(config)
    trainer = Trainer(config, folder, train=train_split, val=val_split, device=device)
    folder.clear()
    write_skipped(folder.path, train_split.skipped, scanned=("train", "val", "test"))
    folder.write_config(
        config.as_json(),
        device=str(device),
        weights_loaded=trainer.network.weights_loaded,
        normal_class=train_split.normal_class,
        num_train=len(train_split.samples),
        num_val=len(val_split.samples) if val_split else 0,
        num_skipped=len(train_split.skipped),
    )
    with logging_redirect_tqdm([logging.getLogger("salad")]):
        trainer.run()


class Trainer:
    """The state of a run: network, memory bank, anchors, SVDD centre and radius, optimiser.

    Args:
        config: with a drawn seed.
        folder: where to write.
        train: the images to train on.
        val: images of both classes that pick model.tar, or None.
        device: to compute on.
    """

    def __init__(
        self, config: Config, folder: RunFolder, *, train: Split, val: Split | None, device: torch.device
    ) -> None:
        self.config = config
        self.folder = folder
        self.device = device
        self.train_split = train
        self.val_split = val
        self.loader = make_loader(config, train, device, seed=config.seed)
        self.val_loader = make_loader(config, val, device) if val else None
        self.augmentation = AUGMENTATIONS[config.augment]
        self.loss_weights = {"rec": config.w_rec, "aggregation": config.w_contrast, "svdd": config.w_svdd}

        self.start = load_checkpoint(config.load_model) if config.load_model else None
        self.network = start_network(config, self.start, device)
        self.bank = MemoryBank(
            len(train.samples) * config.n_views,
            config.rep_dim,
            temperature=config.npc_temperature,
            momentum=config.npc_momentum,
            device=device,
        )
        self.row_labels = torch.tensor(train.labels, device=device).repeat_interleave(config.n_views)
        self.k = find_k(config, num_normal_rows=train.num_normal * config.n_views)
        self.anchors: Anchors | None = None
        self.centre: Tensor | None = None
        self.radius = torch.zeros((), device=device)

        self.optimizer = torch.optim.Adam(
            self.network.parameters(),
            lr=config.lr,
            weight_decay=config.weight_decay,
            amsgrad=config.optimizer_name == "amsgrad",
            fused=device.type in ("cpu", "cuda"),
        )
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, list(config.lr_milestone), gamma=0.1)
        self.epochs_done = 0
        self.best_auc = -math.inf

    def run(self) -> None:
        """Pre-training, round 0, then one round for each further share of anchors."""
        config = self.config
        for _ in tqdm(range(config.pre_training_epochs), desc="pre-training", disable=None):
            self.finish_epoch(self.train_epoch(pre_training=True), round_number=None)
        self.start_memory_and_centre()
        for round_number in tqdm(range(config.num_rounds + 1), desc="rounds", disable=None):
            self.anchors = self.discover(round_number)
            for _ in tqdm(range(config.n_epochs), desc=f"round {round_number}", leave=False, disable=None):
                self.finish_epoch(self.train_epoch(), round_number=round_number)
            self.save(self.folder.round_model(round_number), round_number)
        if self.val_split is None:
            self.save(self.folder.model, config.num_rounds)

    def start_memory_and_centre(self) -> None:
        """From one pass in eval mode: the SVDD centre and, after --load_model, the memory rows."""
        if self.config.w_svdd == 0 and self.start is None:
            return
        z = embed(self.network, make_loader(self.config, self.train_split, self.device), self.device)
        if self.config.w_svdd > 0:
            self.centre = F.normalize(z.mean(dim=0), dim=0)
        if self.start is not None:
            self.bank.rows = z.repeat_interleave(self.config.n_views, dim=0)

    def discover(self, round_number: int) -> Anchors | None:
        """The anchors of a round, from the memory alone; none in round 0."""
        num_anchors = int(len(self.bank.rows) * self.config.ans_select_rate * round_number)
        if num_anchors == 0:
            return None
        return discover_anchors(
            self.bank.rows,
            num_anchors=num_anchors,
            num_neighbours=self.config.ans_size,
            temperature=self.config.npc_temperature,
        )

    def train_epoch(self, *, pre_training: bool = False) -> dict[str, float]:
        """One pass over the training images.

        Returns:
            The mean over the images of `loss` and of every term, `lr`, `seconds` and `images_per_second`.
        """
        self.network.train()
        start, lr = time.perf_counter(), self.optimizer.param_groups[0]["lr"]
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.device))
        embeddings = []
        batches = self.loader.epoch(self.epochs_done)
        for batch in tqdm(batches, total=len(self.loader), desc="batches", leave=False, disable=None):
            terms, z = self.step(batch, pre_training=pre_training)
            embeddings.append(z)
            for name, term in terms.items():
                sums[name] += term.detach() * len(batch.index)
        self.schedule.step()
        self.epochs_done += 1
        if self.epochs_done - self.config.pre_training_epochs >= RADIUS_WARM_UP_EPOCHS and self.centre is not None:
            distances = losses.svdd_distances(torch.cat(embeddings), self.centre)
            self.radius = losses.svdd_radius(distances, nu=self.config.nu)
        num_images = len(self.train_split.samples)
        self._check_weights()
        means = {name: total.item() / num_images for name, total in sums.items()}
        seconds = time.perf_counter() - start
        return {**means, "lr": lr, "seconds": round(seconds, 3), "images_per_second": round(num_images / seconds, 2)}

    def step(self, batch: Batch, *, pre_training: bool) -> tuple[dict[str, Tensor], Tensor]:
        """Views, losses, backward, optimiser, memory.

        Returns:
            The loss and its unweighted terms by name, and the detached embeddings (B * V, D).
        """
        num_views = self.config.n_views
        grey, image = batch.grey.to(self.device, non_blocking=True), batch.index.to(self.device, non_blocking=True)
        inputs, targets = self.augmentation.views(grey, num_views=num_views)
        rows = (image[:, None] * num_views + torch.arange(num_views, device=self.device)).flatten()

        z, recon = self.network(inputs.contiguous(memory_format=torch.channels_last))
        terms = self.loss_terms(z, recon, targets, rows, pre_training=pre_training)
        loss = torch.stack([self.loss_weights[name] * term for name, term in terms.items()]).sum()
        if not torch.isfinite(loss):
            self._stop_diverged(batch, terms)

        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if not pre_training:
            self.bank.update(rows, z)
        return {"loss": loss, **terms}, z.detach()

    def loss_terms(
        self, z: Tensor, recon: Tensor, targets: Tensor, rows: Tensor, *, pre_training: bool
    ) -> dict[str, Tensor]:
        """The terms of the loss that have a weight, unweighted, by name; in pre-training reconstruction alone."""
        config, terms = self.config, {}
        if config.w_rec > 0:
            terms["rec"] = losses.reconstruction_loss(recon, targets, kind=config.rec_loss)
        if config.w_contrast > 0 and not pre_training:
            terms["aggregation"] = losses.aggregation_loss(
                z,
                rows,
                self.bank.rows,
                temperature=config.npc_temperature,
                anchors=self.anchors,
                num_views=config.n_views,
            )
        if self.centre is not None:
            radius = self.radius if config.objective == "soft-boundary" else None
            terms["svdd"] = losses.svdd_loss(z, self.centre, radius=radius, nu=config.nu)
        return terms

    def finish_epoch(self, metrics: dict[str, float], *, round_number: int | None) -> None:
        """Validate, log, and keep the checkpoint if it is the best so far."""
        found = None if round_number is None else self.validate()
        self.folder.append_metrics(
            {
                "epoch": self.epochs_done,
                "round": round_number,
                **metrics,
                "num_anchors": len(self.anchors.anchors) if self.anchors else 0,
                "radius": self.radius.item(),
                "val_auc": found and found.value,
                "val_auc_ci95": found and [found.low, found.high],
            }
        )
        place = "pre-training" if round_number is None else f"round {round_number}"
        parts = [f"{name} {metrics[name]:.4f}" for name in ("loss", *self.loss_weights) if name in metrics]
        parts += [f"{metrics['images_per_second']:.1f} images/s"] + ([f"val AUC {found}"] if found else [])
        logger.info("epoch %d (%s): %s", self.epochs_done, place, ", ".join(parts))
        if found and round_number is not None and found.value > self.best_auc:
            self.best_auc = found.value
            self.save(self.folder.model, round_number)

    def validate(self) -> Auc | None:
        """AUC of the kNN score on val/; None without one."""
        if self.val_split is None or self.val_loader is None:
            return None
        config, rows = self.config, self.bank.rows[self.row_labels == NORMAL]
        score = choose_score("knn", rows=rows, k=self.k, temperature=config.npc_temperature)
        return score_split(self.network, self.val_split, self.val_loader, score, self.device).auc

    def save(self, path: Path, round_number: int) -> None:
        """Write a checkpoint of the run as it stands."""
        save_checkpoint(
            path,
            network=self.network,
            bank=self.bank,
            anchors=self.anchors,
            optimizer=self.optimizer,
            schedule=self.schedule,
            config=self.config.as_json(),
            normal_class=self.train_split.normal_class,
            row_labels=self.row_labels,
            svdd=None if self.centre is None else {"centre": self.centre, "radius": self.radius},
            progress={"round": round_number, "epoch": self.epochs_done},
        )

    def _check_weights(self) -> None:
        """The loss is seen before each step; what the last step of an epoch did is seen here."""
        finite = [tensor.isfinite().all() for tensor in self.network.state_dict().values()]
        if not torch.stack(finite).all():
            raise DivergedError(
                f"epoch {self.epochs_done}: the weights are not finite; try a smaller --lr; "
                f"the checkpoints so far in {self.folder.path} stand"
            )

    def _stop_diverged(self, batch: Batch, terms: dict[str, Tensor]) -> NoReturn:
        values = ", ".join(f"{name} = {term.item()}" for name, term in terms.items())
        names = ", ".join(self.train_split.samples[i].name for i in batch.index.tolist())
        raise DivergedError(
            f"epoch {self.epochs_done + 1}: the loss is not finite ({values}); try a smaller --lr; "
            f"the checkpoints so far in {self.folder.path} stand; the batch was: {names}"
        )
