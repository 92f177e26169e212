"""Training: rounds of epochs of steps."""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from salad import losses
from salad.anchors import Anchors, discover_anchors
from salad.checkpoint import Checkpoint, save_checkpoint, set_rng_state
from salad.config import Config
from salad.datasets.augment import AUGMENTATIONS
from salad.datasets.loader import Batch
from salad.datasets.sample import NORMAL, Split
from salad.errors import RunInterruptedError
from salad.evaluate import choose_score, embed, score_split
from salad.guards import check_loss, check_spread, check_weights
from salad.interrupt import Interrupts
from salad.memory import MemoryBank
from salad.metrics import Auc
from salad.prepare import find_k, make_loader, make_optimizer, start_network
from salad.run_folder import RunFolder
from salad.tally import Tally

logger = logging.getLogger(__name__)

RADIUS_WARM_UP_EPOCHS = 10  # of soft-boundary SVDD, before the radius leaves 0 (Ruff et al., 2018)
PRE_TRAINING = -1  # its place among the rounds


class Trainer:
    """The state of a run: network, memory bank, anchors, SVDD centre and radius, optimiser, and where it stands.

    Args:
        config: with a drawn seed.
        folder: where to write.
        train: the images to train on.
        val: images of both classes that pick model.tar, or None.
        device: to compute on.
        start: a checkpoint whose weights to start from.
        interrupts: what may ask for an early end.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        *,
        train: Split,
        val: Split | None,
        device: torch.device,
        start: Checkpoint | None = None,
        interrupts: Interrupts | None = None,
    ) -> None:
        self.config = config
        self.folder = folder
        self.device = device
        self.interrupts = interrupts or Interrupts()
        self.train_split = train
        self.val_split = val
        self.loader = make_loader(config, train, device, seed=config.seed)
        self.val_loader = make_loader(config, val, device) if val else None
        self.augmentation = AUGMENTATIONS[config.augment]
        self.loss_weights = {"rec": config.w_rec, "aggregation": config.w_contrast, "svdd": config.w_svdd}

        self.network = start_network(config, start, device)
        size = len(train.samples) * config.n_views, config.rep_dim
        self.bank = MemoryBank(*size, temperature=config.npc_temperature, momentum=config.npc_momentum, device=device)
        self.row_labels = torch.tensor(train.labels, device=device).repeat_interleave(config.n_views)
        self.k = find_k(config, num_normal_rows=train.num_normal * config.n_views)
        self.anchors: Anchors | None = None
        self.centre: Tensor | None = None
        self.radius = torch.zeros((), device=device)

        self.optimizer, self.schedule = make_optimizer(config, self.network, device)
        self.round = PRE_TRAINING if config.pre_training_epochs else 0
        self.epoch_in_round = 0
        self.epochs_done = 0
        self.val_auc: float | None = None  # of the last finished epoch
        self.best_auc = -math.inf
        self.tally: Tally | None = None  # of the epoch under way

    def run(self) -> None:
        """Pre-training, round 0, then one round for each further share of anchors, from where the run stands.

        Raises:
            DivergedError: a loss was not finite, or the embeddings collapsed; the checkpoints so far stay.
            RunInterruptedError: a signal came; the state is saved.
        """
        for round_number in tqdm(range(self.round, self.config.num_rounds + 1), desc="rounds", disable=None):
            if round_number != self.round:
                self.round, self.epoch_in_round = round_number, 0
            if self.epoch_in_round == 0 and self.tally is None:
                self.start_round()
            for _ in tqdm(range(self.epoch_in_round, self.epochs_of_round), desc="epochs", leave=False, disable=None):
                self.finish_epoch(self.train_epoch())
                self.end_if_asked()

    @property
    def epochs_of_round(self) -> int:
        """How many epochs the round under way has."""
        return self.config.pre_training_epochs if self.round == PRE_TRAINING else self.config.n_epochs

    def start_round(self) -> None:
        """Before round 0 the SVDD centre; before a later one its anchors, from the memory alone."""
        if self.round == 0:
            self.start_memory_and_centre()
        num_anchors = int(len(self.bank.rows) * self.config.ans_select_rate * max(0, self.round))
        if num_anchors > 0:
            self.anchors = discover_anchors(
                self.bank.rows,
                num_anchors=num_anchors,
                num_neighbours=self.config.ans_size,
                temperature=self.config.npc_temperature,
            )

    def start_memory_and_centre(self) -> None:
        """From one pass in eval mode: the SVDD centre and, after --load_model, the memory rows."""
        if self.config.w_svdd == 0 and self.config.load_model is None:
            return
        z = embed(self.network, make_loader(self.config, self.train_split, self.device), self.device)
        if self.config.w_svdd > 0:
            self.centre = F.normalize(z.mean(dim=0), dim=0)
        if self.config.load_model is not None:
            self.bank.rows = z.repeat_interleave(self.config.n_views, dim=0)

    def train_epoch(self) -> dict[str, float]:
        """One pass over the training images, or the rest of one that was interrupted.

        Returns:
            The mean of `loss` and of every term, `spread`, `lr`, `seconds` and `images_per_second`.
        """
        self.network.train()
        self.tally = tally = self.tally or Tally(self.device)
        lr = self.optimizer.param_groups[0]["lr"]
        batches = self.loader.epoch(self.epochs_done, first=tally.num_batches)
        for batch in tqdm(
            batches, initial=tally.num_batches, total=len(self.loader), desc="batches", leave=False, disable=None
        ):
            terms, z = self.step(batch)
            tally.add(terms, z, None if self.centre is None else losses.svdd_distances(z, self.centre))
            self.end_if_asked()
        check_weights(self.network)
        self.schedule.step()
        self.tally = None
        self.epoch_in_round += 1
        self.epochs_done += 1
        epochs_with_svdd = self.epochs_done - self.config.pre_training_epochs
        if tally.distances is not None and epochs_with_svdd >= RADIUS_WARM_UP_EPOCHS:
            self.radius = losses.svdd_radius(tally.distances, nu=self.config.nu)
        speed = len(self.train_split.samples) / tally.seconds
        return {**tally.means(), "lr": lr, "seconds": round(tally.seconds, 3), "images_per_second": round(speed, 2)}

    def step(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Views, losses, backward, optimiser, memory.

        Returns:
            The loss and its unweighted terms by name, and the detached embeddings (B * V, D).
        """
        num_views = self.config.n_views
        grey, image = batch.normalized(self.device), batch.index.to(self.device, non_blocking=True)
        inputs, targets = self.augmentation.views(grey, num_views=num_views)
        rows = (image[:, None] * num_views + torch.arange(num_views, device=self.device)).flatten()

        z, recon = self.network(inputs.contiguous(memory_format=torch.channels_last))
        terms = self.loss_terms(z, recon, targets, rows)
        loss = torch.stack([self.loss_weights[name] * term for name, term in terms.items()]).sum()
        check_loss(loss, z, terms, (self.train_split.samples[i].name for i in batch.index.tolist()))

        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if self.round != PRE_TRAINING:
            self.bank.update(rows, z)
        return {"loss": loss, **terms}, z.detach()

    def loss_terms(self, z: Tensor, recon: Tensor, targets: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """The terms of the loss that have a weight, unweighted, by name; in pre-training reconstruction alone."""
        config, terms = self.config, {}
        if config.w_rec > 0:
            terms["rec"] = losses.reconstruction_loss(recon, targets, kind=config.rec_loss)
        if config.w_contrast > 0 and self.round != PRE_TRAINING:
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

    def finish_epoch(self, metrics: dict[str, float]) -> None:
        """Validate, log, and save; then the run can be resumed from here."""
        found = None if self.round == PRE_TRAINING else self.validate()
        self.val_auc = found.value if found else None
        self.folder.append_metrics(
            {
                "epoch": self.epochs_done,
                "round": None if self.round == PRE_TRAINING else self.round,
                **metrics,
                "num_anchors": len(self.anchors.anchors) if self.anchors else 0,
                "radius": self.radius.item(),
                "val_auc": self.val_auc,
                "val_auc_ci95": found and [found.low, found.high],
            }
        )
        place = "pre-training" if self.round == PRE_TRAINING else f"round {self.round}"
        parts = [f"{name} {metrics[name]:.4f}" for name in ("loss", *self.loss_weights) if name in metrics]
        parts += [f"{metrics['images_per_second']:.1f} images/s"] + ([f"val AUC {found}"] if found else [])
        logger.info("epoch %d (%s): %s", self.epochs_done, place, ", ".join(parts))
        self.save_epoch(found)
        if self.round != PRE_TRAINING:
            check_spread(metrics["spread"], stop=self.config.on_collapse == "stop")

    def save_epoch(self, found: Auc | None) -> None:
        """Save the state of a finished epoch under every name that it deserves."""
        paths = []
        if found and found.value > self.best_auc:
            self.best_auc = found.value
            paths.append(self.folder.model)
        if self.round != PRE_TRAINING and self.epoch_in_round >= self.epochs_of_round:
            paths.append(self.folder.round_model(self.round))
            if self.val_split is None and self.round == self.config.num_rounds:
                paths.append(self.folder.model)
        self.save([*paths, self.folder.last])
        self.folder.keep_newest_rounds(self.config.keep)

    def validate(self) -> Auc | None:
        """AUC of the kNN score on val/; None without one."""
        if self.val_split is None or self.val_loader is None:
            return None
        rows = self.bank.rows[self.row_labels == NORMAL]
        score = choose_score("knn", rows=rows, k=self.k, temperature=self.config.npc_temperature)
        return score_split(self.network, self.val_split, self.val_loader, score, self.device).auc

    def end_if_asked(self) -> None:
        """Save and raise `RunInterruptedError` if a signal has come."""
        if self.interrupts.received is not None:
            if self.tally is not None:  # in the middle of an epoch; a finished one is saved already
                self.save([self.folder.last])
            raise RunInterruptedError(self.interrupts.received)

    def save(self, paths: list[Path]) -> None:
        """Write a checkpoint of the run as it stands."""
        training = {
            "round": self.round,
            "epoch_in_round": self.epoch_in_round,
            "epoch": self.epochs_done,
            "val_auc": self.val_auc,
            "best_auc": self.best_auc,
            "tally": self.tally and self.tally.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "images": self.train_split.fingerprint,
            "weights_loaded": self.network.weights_loaded,
        }
        save_checkpoint(
            paths,
            network=self.network,
            bank=self.bank,
            anchors=self.anchors,
            config=self.config.as_json(),
            normal_class=self.train_split.normal_class,
            row_labels=self.row_labels,
            svdd=None if self.centre is None else {"centre": self.centre, "radius": self.radius},
            training=training,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over the state of a checkpoint of `save`, so that the run goes on bit by bit as if never interrupted."""
        training = checkpoint.training
        checkpoint.load_into(self.network)
        self.network.weights_loaded = training["weights_loaded"]
        self.bank.rows = checkpoint.bank.rows.to(self.device)
        self.anchors = checkpoint.anchors and checkpoint.anchors.to(self.device)
        if checkpoint.svdd is not None:
            self.centre = checkpoint.svdd["centre"].to(self.device)
            self.radius = checkpoint.svdd["radius"].to(self.device)
        self.optimizer.load_state_dict(training["optimizer"])
        self.schedule.load_state_dict(training["schedule"])
        self.round, self.epoch_in_round = training["round"], training["epoch_in_round"]
        self.epochs_done, self.best_auc = training["epoch"], training["best_auc"]
        self.val_auc = training["val_auc"]
        self.tally = Tally.from_state_dict(training["tally"], self.device) if training["tally"] else None
        set_rng_state(training["rng"])
        # where no step of an epoch was left, the schedule rightly moves first
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
