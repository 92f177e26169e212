"""Training: rounds of epochs of steps."""

from __future__ import annotations

import logging
import math

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from salad import losses
from salad.anchors import Anchors, discover_anchors
from salad.build import make_loader, start_network
from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.datasets.augment import AUGMENTATIONS
from salad.datasets.loader import Batch
from salad.datasets.synthetic import spoil_views
from salad.device import amp_dtype
from salad.distributed.ddp import replicate
from salad.distributed.team import SOLO, Team
from salad.errors import RunInterruptedError
from salad.evaluation.metrics import Auc
from salad.evaluation.result import Result
from salad.memory import MemoryBank
from salad.networks.anomaly_head import make_trained
from salad.runs.folder import RunFolder
from salad.samples import NORMAL, Split
from salad.scoring.evaluate import embed
from salad.training.guards import FiniteGuard, check_loss_scale, check_spread, check_weights
from salad.training.meters import Tally
from salad.training.optimiser import make_optimizer
from salad.training.signals import Interrupts
from salad.training.state import save
from salad.training.validation import Validation

logger = logging.getLogger(__name__)

RADIUS_WARM_UP_EPOCHS = 10  # of soft-boundary SVDD, before the radius leaves 0 (Ruff et al., 2018)
PRE_TRAINING = -1  # its place among the rounds
STEPS_TO_AGREE = 10  # on GPUs, between looks at each other's signals: they cost the head start that the CPU has


class Trainer:
    """The state of a run: network, memory bank, anchors, SVDD centre and radius, optimiser, and where it stands.

    Args:
        config: with a drawn seed.
        folder: where to write.
        train: the images to train on.
        val: images whose normal ones calibrate the score and, where it holds both classes, pick model.tar; or None.
        device: to compute on.
        start: a checkpoint whose weights to start from.
        mean_image: that images are aligned to; None without --align.
        interrupts: what may ask for an early end.
        team: the processes that train together. All of them hold the same weights, bank, anchors and centre.
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
        mean_image: Tensor | None = None,
        interrupts: Interrupts | None = None,
        team: Team = SOLO,
    ) -> None:
        self.config = config
        self.folder = folder
        self.device = device
        self.team = team
        self.interrupts = interrupts or Interrupts()
        self.train_split = train
        self.val_split = val
        self.mean_image = mean_image
        self.loader = make_loader(config, train, device, mean_image=mean_image, seed=config.seed, team=team)
        self.validation = Validation(config, train=train, val=val, device=device, mean_image=mean_image, team=team)
        self.augmentation = AUGMENTATIONS[config.augment]
        self.loss_weights = config.loss_weights

        with team.first_alone("weights"):  # they may have to be fetched
            self.network = start_network(config, start, device)
        self.trained = make_trained(self.network, config, device)
        self.replica = replicate(
            self.trained, device=device, team=team, sync_bn=config.sync_bn, all_used=self.trained.uses_all
        )
        size = len(train.samples) * config.n_views, config.rep_dim
        self.bank = MemoryBank(*size, temperature=config.npc_temperature, momentum=config.npc_momentum, device=device)
        self.row_labels = torch.tensor(train.labels, device=device).repeat_interleave(config.n_views)
        self.anchors: Anchors | None = None
        self.centre: Tensor | None = None
        self.radius = torch.zeros((), device=device)

        self.optimizer, self.schedule = make_optimizer(config, self.trained, device)
        self.amp = amp_dtype(config.amp, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp is torch.float16)  # disabled, it does nothing
        self.guard = FiniteGuard(device, name_of=lambda i: train.samples[i].name)
        self.round = PRE_TRAINING if config.pre_training_epochs else 0
        self.epoch_in_round = 0
        self.epochs_done = 0
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

    @property
    def ends_round(self) -> bool:
        """Whether the epoch that was finished is the last of its round."""
        return self.epoch_in_round >= self.epochs_of_round

    def start_round(self) -> None:
        """Before round 0 the SVDD centre; before a later one its anchors, from the memory alone."""
        if self.round == 0:
            self.start_memory_and_centre()
        num_anchors = int(len(self.bank.rows) * self.config.ans_select_rate * max(0, self.round))
        if num_anchors > 0:
            self.anchors = self.team.from_first(lambda: self.find_anchors(num_anchors)).to(self.device)

    def find_anchors(self, num_anchors: int) -> Anchors:
        """This many anchors of the memory as it stands, on the CPU."""
        config = self.config
        return discover_anchors(
            self.bank.rows,
            num_anchors=num_anchors,
            num_neighbours=config.ans_size,
            temperature=config.npc_temperature,
        ).to(torch.device("cpu"))

    def start_memory_and_centre(self) -> None:
        """From one pass in eval mode: the SVDD centre and, after --load_model, the memory rows."""
        if self.config.w_svdd == 0 and self.config.load_model is None:
            return
        loader = make_loader(self.config, self.train_split, self.device, mean_image=self.mean_image, team=self.team)
        z = embed(self.network, loader, self.device, team=self.team)
        if self.config.w_svdd > 0:
            self.centre = F.normalize(z.mean(dim=0), dim=0)
        if self.config.load_model is not None:
            self.bank.rows = z.repeat_interleave(self.config.n_views, dim=0)

    def train_epoch(self) -> dict[str, float]:
        """One pass over the training images, or the rest of one that was interrupted.

        Returns:
            What the epoch's `Tally` says, `lr`, `seconds` and `images_per_second`.
        """
        self.network.train()
        self.tally = tally = self.tally or Tally(self.device)
        self.validation.forget()
        lr = self.optimizer.param_groups[0]["lr"]
        batches = self.loader.epoch(self.epochs_done, first=tally.num_batches)
        for batch in tqdm(
            batches, initial=tally.num_batches, total=len(self.loader), desc="batches", leave=False, disable=None
        ):
            self.step(batch)
            if self.team.size == 1 or self.device.type == "cpu" or tally.num_batches % STEPS_TO_AGREE == 0:
                self.end_if_asked()
        self.team.share_buffers(self.network)
        self.check_finite()
        self.schedule.step()
        self.tally = None
        self.epoch_in_round += 1
        self.epochs_done += 1
        epochs_with_svdd = self.epochs_done - self.config.pre_training_epochs
        if tally.distances is not None and epochs_with_svdd >= RADIUS_WARM_UP_EPOCHS:
            self.radius = losses.svdd_radius(tally.distances, nu=self.config.nu)
        speed = len(self.train_split.samples) / tally.seconds
        return {**tally.means(), "lr": lr, "seconds": round(tally.seconds, 3), "images_per_second": round(speed, 2)}

    def step(self, batch: Batch) -> Tensor:
        """Views, losses, backward, optimiser, memory, tally; returns the loss. Nothing in it waits for a GPU."""
        config, num_views = self.config, self.config.n_views
        grey, image = batch.normalized(self.device), batch.index.to(self.device, non_blocking=True)
        inputs, targets = self.augmentation.views(grey, num_views=num_views)
        rows = (image[:, None] * num_views + torch.arange(num_views, device=self.device)).flatten()
        spoils = config.w_syn > 0 and self.round != PRE_TRAINING
        spoilt, amount = spoil_views(targets) if spoils else (None, None)

        with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):  # what it gives is float32
            z, recon, found = self.replica(inputs.contiguous(memory_format=torch.channels_last), spoilt)
        terms = self.loss_terms(z, recon, targets, rows)
        if found is not None and amount is not None:
            terms["syn"] = losses.synthetic_loss(*found, amount=amount)
        loss = torch.stack([self.loss_weights[name] * term for name, term in terms.items()]).sum()
        self.guard.watch(loss, terms, z, index=batch.index)

        assert self.tally is not None
        sizes = [num_images * num_views for num_images in self.loader.batches.sizes(self.tally.num_batches)]
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss * self.team.weight(sizes)).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)  # in fp16 left out where a gradient overflowed
        self.scaler.update()
        if z is not None:
            rows, z = self.team.gather(rows, sizes), self.team.gather(z, sizes)
            if self.round != PRE_TRAINING:
                self.bank.update(rows, z)
        distances = None if z is None or self.centre is None else losses.svdd_distances(z, self.centre)
        means = self.team.means({"loss": loss, **terms}, sizes)
        self.tally.add(means, num_views=sum(sizes), z=z, distances=distances)
        return means["loss"]

    def loss_terms(self, z: Tensor | None, recon: Tensor | None, targets: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """The terms of the loss that have a weight, unweighted, by name; in pre-training reconstruction alone."""
        config, terms = self.config, {}
        if recon is not None:
            terms["rec"] = losses.reconstruction_loss(recon, targets, kind=config.rec_loss)
        if z is None:
            return terms
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

    def check_finite(self) -> None:
        """Raise `DivergedError` where a loss, an embedding or a weight is not finite, or fp16 has stalled."""
        self.guard.check()
        check_weights(self.network)
        check_loss_scale(self.scaler)

    def finish_epoch(self, metrics: dict[str, float]) -> None:
        """Validate, log, and save; then the run can be resumed from here."""
        result = self.validation.result = None if self.round == PRE_TRAINING else self.validate()
        found = result.auc if result else None
        if self.team.is_first:
            self.folder.append_metrics(
                {
                    "epoch": self.epochs_done,
                    "round": None if self.round == PRE_TRAINING else self.round,
                    **metrics,
                    "num_anchors": len(self.anchors.anchors) if self.anchors else 0,
                    "radius": self.radius.item(),
                    "val_auc": found and found.value,
                    "val_auc_ci95": found and [found.low, found.high],
                }
            )
        place = "pre-training" if self.round == PRE_TRAINING else f"round {self.round}"
        parts = [f"{name} {metrics[name]:.4f}" for name in ("loss", *self.loss_weights) if name in metrics]
        parts += [f"{metrics['images_per_second']:.1f} images/s"] + ([f"val AUC {found}"] if found else [])
        logger.info("epoch %d (%s): %s", self.epochs_done, place, ", ".join(parts))
        self.save_epoch(found)
        if self.round != PRE_TRAINING and "spread" in metrics:
            check_spread(metrics["spread"], stop=self.config.on_collapse == "stop")

    def save_epoch(self, found: Auc | None) -> None:
        """Save the state of a finished epoch under every name that it deserves."""
        paths = []
        if found and found.value > self.best_auc:
            self.best_auc = found.value
            paths.append(self.folder.model)
        if self.round != PRE_TRAINING and self.ends_round:
            paths.append(self.folder.round_model(self.round))
            if found is None and self.round == self.config.num_rounds:
                paths.append(self.folder.model)
        save(self, [*paths, self.folder.last])
        if self.team.is_first:
            self.folder.keep_newest_rounds(self.config.keep)

    def validate(self) -> Result | None:
        """The score of the images of val/; None without one."""
        rows = self.bank.rows[self.row_labels == NORMAL]
        return self.validation.run(self.network, rows=rows, centre=self.centre, ends_round=self.ends_round)

    def end_if_asked(self) -> None:
        """Save and raise `RunInterruptedError` if a signal has come, to this process or to another of its team."""
        received = self.team.agree(self.interrupts.received)
        if received is not None:
            if self.tally is not None:  # in the middle of an epoch; a finished one is saved already
                save(self, [self.folder.last])
            raise RunInterruptedError(received)
