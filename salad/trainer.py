"""Training: rounds of epochs of steps."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from salad import losses, scoring
from salad.anchors import Anchors, discover_anchors
from salad.checkpoint import load_checkpoint, save_checkpoint
from salad.config import Config
from salad.datasets import read_split
from salad.datasets.augment import AUGMENTATIONS
from salad.datasets.loader import Batch, Loader
from salad.datasets.sample import NORMAL, Split
from salad.device import choose_device, seed_everything
from salad.errors import DivergedError, InputError
from salad.evaluate import choose_score, embed, score_split
from salad.memory import MemoryBank
from salad.metrics import Auc
from salad.networks import build_network, network_spec
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
        DivergedError: a loss was not finite; the last good checkpoint stays.
    """
    device = choose_device(config.device)
    seed_everything(config.seed, deterministic=config.deterministic)
    train_split, val_split = read_training_data(config)
    trainer = Trainer(config, folder, train_split, val_split, device)
    folder.clear()
    folder.write_config(
        config.as_json(),
        device=str(device),
        weights_loaded=trainer.network.weights_loaded,
        normal_class=train_split.normal_class,
        num_train=len(train_split.samples),
        num_val=len(val_split.samples) if val_split else 0,
    )
    with logging_redirect_tqdm([logging.getLogger("salad")]):
        trainer.run()


def read_training_data(config: Config) -> tuple[Split, Split | None]:
    """The images to train on, and those that pick the best checkpoint, if val/ holds both classes."""
    found = read_split(config.dataset_name, config.data_path, "train", normal_class=config.normal_class)
    assert found is not None, "only val may be absent"
    chosen = found if config.train_on == "all" else found.only_normal()
    num_left_out = len(found.samples) - len(chosen.samples)
    if chosen.num_normal == 0:
        raise InputError(f"{config.data_path}: train/ holds no image of the normal class '{found.normal_class}'")
    logger.info(
        "train: %d normal and %d abnormal images (normal class: %s); %d abnormal ones left out",
        chosen.num_normal,
        len(chosen.samples) - chosen.num_normal,
        chosen.normal_class,
        num_left_out,
    )
    val = read_split(config.dataset_name, config.data_path, "val", normal_class=chosen.normal_class)
    if val is None or not val.has_both_classes:
        logger.info("val: %s; model.tar will be the last round", "absent" if val is None else "only one class")
        return chosen, None
    logger.info("val: %d images; its best AUC picks model.tar", len(val.samples))
    return chosen, val


class Trainer:
    """The state of a run: network, memory bank, anchors, SVDD centre and radius, optimiser."""

    def __init__(
        self, config: Config, folder: RunFolder, train: Split, val: Split | None, device: torch.device
    ) -> None:
        self.config = config
        self.folder = folder
        self.device = device
        self.train_split = train
        self.val_split = val
        self.loader = self._loader(train, seed=config.seed)
        self.val_loader = self._loader(val) if val else None
        self.augmentation = AUGMENTATIONS[config.augment]

        self.start = load_checkpoint(config.load_model) if config.load_model else None
        self.network = build_network(
            config.net_name, rep_dim=config.rep_dim, isize=config.image_size, weights=self._trunk_weights()
        )
        if self.start:
            self.start.load_into(self.network)
        self.network.to(device).to(memory_format=torch.channels_last)

        num_rows = len(train.samples) * config.n_views
        self.row_labels = torch.tensor(train.labels).repeat_interleave(config.n_views)
        self.bank = MemoryBank(
            num_rows,
            config.rep_dim,
            temperature=config.npc_temperature,
            momentum=config.npc_momentum,
            device=device,
        )
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
        self._check_sizes()

    def run(self) -> None:
        """Pre-training, round 0, then a round for each share of anchors."""
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
        """From one pass in eval mode: the SVDD centre, and after --load_model the memory rows as well."""
        if self.config.w_svdd == 0 and self.start is None:
            return
        z = embed(self.network, self._loader(self.train_split), self.device)
        if self.config.w_svdd > 0:
            self.centre = torch.nn.functional.normalize(z.mean(dim=0), dim=0)
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
            The mean of every loss term over the images, `lr`, `seconds` and `images_per_second`.
        """
        self.network.train()
        start = time.perf_counter()
        lr = self.optimizer.param_groups[0]["lr"]
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.device))
        distances = []
        for batch in tqdm(
            self.loader.epoch(self.epochs_done), total=len(self.loader), desc="batches", leave=False, disable=None
        ):
            terms, z = self.step(batch, pre_training=pre_training)
            for name, term in terms.items():
                sums[name] += term.detach() * len(batch.index)
            if self.centre is not None:
                distances.append(losses.svdd_distances(z, self.centre))
        self.schedule.step()
        self.epochs_done += 1
        if distances and self.epochs_done - self.config.pre_training_epochs >= RADIUS_WARM_UP_EPOCHS:
            self.radius = losses.svdd_radius(torch.cat(distances), nu=self.config.nu)
        num_images = len(self.train_split.samples)
        means = {name: total.item() / num_images for name, total in sums.items()}
        seconds = time.perf_counter() - start
        return {**means, "lr": lr, "seconds": round(seconds, 3), "images_per_second": round(num_images / seconds, 2)}

    def step(self, batch: Batch, *, pre_training: bool) -> tuple[dict[str, Tensor], Tensor]:
        """Views, losses, backward, optimiser, memory.

        Returns:
            The loss and its unweighted terms by name, and the detached embeddings (B * V, D).
        """
        config = self.config
        grey, image = batch.grey.to(self.device, non_blocking=True), batch.index.to(self.device, non_blocking=True)
        inputs, targets = self.augmentation.views(grey, num_views=config.n_views)
        rows = (image[:, None] * config.n_views + torch.arange(config.n_views, device=self.device)).flatten()

        z, recon = self.network(inputs.contiguous(memory_format=torch.channels_last))
        terms, weights = {}, {}
        if config.w_rec > 0:
            terms["rec"] = losses.reconstruction_loss(recon, targets, kind=config.rec_loss)
            weights["rec"] = config.w_rec
        if config.w_contrast > 0 and not pre_training:
            terms["aggregation"] = losses.aggregation_loss(
                z,
                rows,
                self.bank.rows,
                temperature=config.npc_temperature,
                anchors=self.anchors,
                num_views=config.n_views,
            )
            weights["aggregation"] = config.w_contrast
        if self.centre is not None:
            terms["svdd"] = self.svdd_term(z, self.centre)
            weights["svdd"] = config.w_svdd
        loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        if not torch.isfinite(loss):
            self._stop_diverged(batch, terms)

        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if not pre_training:
            self.bank.update(rows, z)
        return {"loss": loss, **terms}, z.detach()

    def svdd_term(self, z: Tensor, centre: Tensor) -> Tensor:
        """Deep SVDD in the form that was asked for."""
        if self.config.objective == "one-class":
            return losses.svdd_loss(z, centre)
        return losses.svdd_loss(z, centre, radius=self.radius, nu=self.config.nu)

    def finish_epoch(self, metrics: dict[str, float], *, round_number: int | None) -> None:
        """Validate, log, and keep the checkpoint if it is the best so far."""
        validation = None if round_number is None else self.validate()
        record: dict[str, Any] = {
            "epoch": self.epochs_done,
            "round": round_number,
            "phase": "pre-training" if round_number is None else "training",
            **metrics,
            "num_anchors": len(self.anchors.anchors) if self.anchors else 0,
            "radius": self.radius.item(),
            "val_auc": validation and validation.value,
            "val_auc_ci95": validation and [validation.low, validation.high],
        }
        self.folder.append_metrics(record)
        terms = ", ".join(
            f"{name} {metrics[name]:.4f}" for name in ("loss", "rec", "aggregation", "svdd") if name in metrics
        )
        place = "pre-training" if round_number is None else f"round {round_number}"
        found = f"; val AUC {validation}" if validation else ""
        logger.info(
            "epoch %d (%s): %s; %.1f images/s%s", self.epochs_done, place, terms, metrics["images_per_second"], found
        )
        if validation and round_number is not None and validation.value > self.best_auc:
            self.best_auc = validation.value
            self.save(self.folder.model, round_number)

    def validate(self) -> Auc | None:
        """AUC of the kNN score on val/; None without one."""
        if self.val_split is None or self.val_loader is None:
            return None
        normal_rows = self.bank.rows[self.row_labels.to(self.device) == NORMAL]
        score = choose_score("knn", rows=normal_rows, k=self.config.k, temperature=self.config.npc_temperature)
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

    def _loader(self, split: Split, *, seed: int | None = None) -> Loader:
        return Loader(
            split.samples,
            isize=self.config.image_size,
            resize=self.config.resize,
            batch_size=self.config.batch_size,
            num_workers=self.config.n_jobs_dataloader,
            seed=seed,
            pin_memory=self.device.type == "cuda",
        )

    def _trunk_weights(self) -> str | None:
        """What the ResNet trunk starts from; a checkpoint to start from makes it needless."""
        if self.start is not None:
            return None
        asked = self.config.weights
        if asked is None and network_spec(self.config.net_name).has_imagenet_trunk:
            return "imagenet"
        return None if asked == "none" else asked

    def _check_sizes(self) -> None:
        """Find now what would otherwise stop the run at its first validation or round."""
        num_normal_rows = int((self.row_labels == NORMAL).sum())
        scoring.choose_k(self.config.k, num_rows=num_normal_rows)
        num_rows = len(self.bank.rows)
        if self.config.num_rounds and self.config.ans_size >= num_rows:
            raise InputError(
                f"--ans_size is {self.config.ans_size}, but {num_rows} memory rows have {num_rows - 1} others each"
            )

    def _stop_diverged(self, batch: Batch, terms: dict[str, Tensor]) -> NoReturn:
        values = ", ".join(f"{name} = {term.item()}" for name, term in terms.items())
        names = ", ".join(self.train_split.samples[i].name for i in batch.index.tolist())
        raise DivergedError(
            f"epoch {self.epochs_done + 1}: the loss is not finite ({values}); try a smaller --lr. "
            f"The checkpoints of finished rounds in {self.folder.path} stand. The batch was: {names}"
        )
