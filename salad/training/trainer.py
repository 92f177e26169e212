"""Training loop: rounds, epochs and steps."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from salad.anchors import Anchors, discover_anchors
from salad.build import RunContext
from salad.checkpoint import MAP, Checkpoint, load_checkpoint, save_checkpoint
from salad.datasets.augment import AUGMENTATIONS
from salad.datasets.loader import Batch
from salad.datasets.synthetic import corrupt_views
from salad.distributed.ddp import replicate
from salad.errors import RunInterruptedError
from salad.evaluation.metrics import Auc
from salad.evaluation.result import Result
from salad.losses import ANOMALY_HEAD, LOSSES
from salad.losses.inputs import LossInputs
from salad.losses.svdd import svdd_distances, svdd_radius
from salad.runs.folder import RunFolder
from salad.samples import NORMAL, Split
from salad.scoring.evaluate import embed
from salad.scoring.fine_maps import build_map, part_of, with_map
from salad.scoring.model import ScoringModel
from salad.training.guards import FiniteGuard, batch_advice, check_spread
from salad.training.meters import Meters
from salad.training.saving import SaveClock
from salad.training.signals import Interrupts
from salad.training.state import TrainingState, fingerprints
from salad.training.validation import Validation

logger = logging.getLogger(__name__)

RADIUS_WARM_UP_EPOCHS = 10  # of soft-boundary SVDD, with radius 0 (Ruff et al., 2018)
STEPS_TO_AGREE = 10  # on GPUs, between exchanges of signals, each of which makes the CPU wait for the GPU


class Trainer:
    """Training loop of a run: trains a `TrainingState` epoch by epoch, and writes metrics and checkpoints.

    Args:
        context: options with a drawn seed, device, processes and template.
        folder: folder of the run.
        train: images to train on.
        val: images to validate on, or None. Normal ones calibrate the score; with both classes, the AUC selects
            model.tar.
        start: checkpoint with the initial weights.
        interrupts: signals that ask for an early end.
    """

    def __init__(
        self,
        context: RunContext,
        folder: RunFolder,
        *,
        train: Split,
        val: Split | None,
        start: Checkpoint | None = None,
        interrupts: Interrupts | None = None,
    ) -> None:
        self.context = context
        self.config = context.config
        self.folder = folder
        self.interrupts = interrupts or Interrupts()
        self.train_split = train
        self.val_split = val
        self.loader = context.loader(train, seed=self.config.run.seed)
        self.validation = Validation(context, train=train, val=val)
        self.augmentation = AUGMENTATIONS[self.config.images.augment]
        self.loss_weights = self.config.loss.weights
        self.terms = {name: LOSSES[name].load() for name, weight in self.loss_weights.items() if weight > 0}
        self.state = TrainingState(context, train, start=start)
        self.replica = replicate(
            self.state.trained,
            device=context.device,
            team=context.team,
            sync_bn=self.config.optimisation.sync_bn,
            all_used=self.state.trained.uses_all,
        )
        self.clock = SaveClock(context.device, team=context.team)
        self.guard = FiniteGuard(context.device, name_of=lambda i: train.samples[i].name)

    def run(self) -> None:
        """Train from the current state to the end: pre-training, round 0, then rounds with more and more anchors.

        Without training (--n_epochs 0) only the memory is made, validated and saved.

        Raises:
            DivergedError: a loss is not finite, or the embeddings collapse; the checkpoints so far are kept.
            RunInterruptedError: a signal asked for an end; the state is saved.
        """
        state = self.state
        if not self.config.trains:
            self.finish_epoch({})
            return
        for round_number in tqdm(range(state.round, self.config.num_rounds + 1), desc="rounds", disable=None):
            if round_number != state.round:
                state.round, state.epoch_in_round = round_number, 0
            if state.epoch_in_round == 0 and state.meters is None:
                self.start_round()
            epochs = range(state.epoch_in_round, state.epochs_of_round)
            for _ in tqdm(epochs, desc="epochs", leave=False, disable=None):
                self.finish_epoch(self.train_epoch())
                self.end_if_asked()
        self.add_map()

    def add_map(self) -> None:
        """Add the fine map to model.tar, once the training has ended; it would take seconds of every epoch."""
        context, path = self.context, self.folder.model
        if part_of(self.validation.parts) is None or not context.team.from_first(path.exists):  # lost in the meantime
            return
        checkpoint = context.team.from_first(lambda: load_checkpoint(path))
        if MAP in checkpoint.training:  # a finished run that was resumed
            return
        built = build_map(ScoringModel.load(checkpoint, context), self.train_split, self.val_split)
        if built is not None and context.team.is_first:
            save_checkpoint([path], with_map(checkpoint, built))

    def start_round(self) -> None:
        """Compute the SVDD centre before round 0; before a later round, find its anchors in the memory bank."""
        state, memory = self.state, self.config.memory
        if state.round == 0:
            self.start_memory_and_centre()
        num_anchors = int(len(state.bank.rows) * memory.ans_select_rate * max(0, state.round))
        if num_anchors > 0:
            anchors = self.context.team.from_first(lambda: self.find_anchors(num_anchors))
            state.anchors = anchors.to(self.context.device)

    def find_anchors(self, num_anchors: int) -> Anchors:
        """Find anchors among the rows of the memory bank; the result is on the CPU."""
        memory = self.config.memory
        return discover_anchors(
            self.state.bank.rows,
            num_anchors=num_anchors,
            num_neighbours=memory.ans_size,
            temperature=memory.npc_temperature,
        ).to(torch.device("cpu"))

    def start_memory_and_centre(self) -> None:
        """Set the SVDD centre and, with --load_model, the memory rows, from one pass in eval mode."""
        config, state = self.config, self.state
        needs_centre = self.loss_weights["svdd"] > 0
        if not needs_centre and config.network.load_model is None:
            return
        loader = self.context.loader(self.train_split)
        z = embed(state.network, loader, self.context.device, team=self.context.team)
        if needs_centre:
            state.centre = F.normalize(z.mean(dim=0), dim=0)
        if config.network.load_model is not None:
            state.bank.rows = z.repeat_interleave(config.images.n_views, dim=0)

    def train_epoch(self) -> dict[str, float]:
        """Train for one epoch, or for the rest of an interrupted epoch.

        Returns:
            Means of the `Meters`, `lr`, `seconds` and `images_per_second`.
        """
        state, team = self.state, self.context.team
        state.network.train()
        state.meters = meters = state.meters or Meters(self.context.device)
        self.validation.forget()
        lr = state.optimizer.param_groups[0]["lr"]
        batches = self.loader.epoch(state.epochs_done, first=meters.num_batches)
        for batch in tqdm(
            batches, initial=meters.num_batches, total=len(self.loader), desc="batches", leave=False, disable=None
        ):
            with batch_advice(self.context.device, batch_size=self.config.data.batch_size, amp=state.amp):
                self.step(batch)
            if team.size == 1 or self.context.device.type == "cpu" or meters.num_batches % STEPS_TO_AGREE == 0:
                self.end_if_asked()
        team.share_buffers(state.network)
        self.check_finite()
        state.schedule.step()
        state.meters = None
        state.epoch_in_round += 1
        state.epochs_done += 1
        self.update_radius(meters.distances)
        speed = len(self.train_split.samples) / meters.seconds
        return {**meters.means(), "lr": lr, "seconds": round(meters.seconds, 3), "images_per_second": round(speed, 2)}

    def update_radius(self, distances: Tensor | None) -> None:
        """Set the radius of the soft boundary from the squared distances (N,) of an epoch, after the warm-up."""
        epochs_with_svdd = self.state.epochs_done - self.config.optimisation.pre_training_epochs
        if distances is not None and epochs_with_svdd >= RADIUS_WARM_UP_EPOCHS:
            self.state.radius = svdd_radius(distances, nu=self.config.loss.nu)

    def step(self, batch: Batch) -> Tensor:
        """Train one step: views, losses, backward, optimiser, memory, meters; without waiting for the GPU.

        Args:
            batch: grey images and their indices.

        Returns:
            Weighted loss, a scalar.
        """
        state, device, num_views = self.state, self.context.device, self.config.images.n_views
        grey, image = batch.normalized(device), batch.index.to(device, non_blocking=True)
        inputs, targets = self.augmentation.views(grey, num_views=num_views)
        index = (image[:, None] * num_views + torch.arange(num_views, device=device)).flatten()
        corrupts = self.config.loss.trains(ANOMALY_HEAD) and not state.is_pre_training
        corrupted, mask = corrupt_views(targets) if corrupts else (None, None)

        with torch.autocast(device.type, dtype=state.amp, enabled=state.amp is not None):  # its outputs are float32
            z, recon, logits = self.replica(inputs.contiguous(memory_format=torch.channels_last), corrupted)
        terms = self.loss_terms(
            LossInputs(
                z=z,
                recon=recon,
                targets=targets,
                index=index,
                rows=state.bank.rows,
                temperature=self.config.memory.npc_temperature,
                num_views=num_views,
                anchors=state.anchors,
                centre=state.centre,
                radius=state.radius if self.config.loss.objective == "soft-boundary" else None,
                nu=self.config.loss.nu,
                rec_loss=self.config.loss.rec_loss,
                cell_logits=logits and logits.cells,
                image_logits=logits and logits.image,
                anomaly_mask=mask,
            )
        )
        loss = torch.stack([self.loss_weights[name] * term for name, term in terms.items()]).sum()
        self.guard.watch(loss, terms, z, index=batch.index)
        return self.learn(loss, terms, z=z, index=index)

    def loss_terms(self, inputs: LossInputs) -> dict[str, Tensor]:
        """Compute the unweighted terms with a positive weight, by name; in pre-training, only those that take part."""
        terms = {}
        for name, compute in self.terms.items():
            if LOSSES[name].in_pre_training or not self.state.is_pre_training:
                term = compute(inputs)
                if term is not None:
                    terms[name] = term
        return terms

    def learn(self, loss: Tensor, terms: dict[str, Tensor], *, z: Tensor | None, index: Tensor) -> Tensor:
        """Run the backward pass, step the optimiser, and update memory rows and meters.

        Returns:
            Weighted loss over all processes, a scalar.
        """
        state, team = self.state, self.context.team
        assert state.meters is not None
        num_views = self.config.images.n_views
        sizes = [num_images * num_views for num_images in self.loader.batches.sizes(state.meters.num_batches)]
        state.optimizer.zero_grad(set_to_none=True)
        state.scaler.scale(loss * team.weight(sizes)).backward()  # type: ignore[no-untyped-call]
        state.scaler.step(state.optimizer)  # in fp16 skipped if a gradient overflows
        state.scaler.update()
        if z is not None:
            index, z = team.gather(index, sizes), team.gather(z, sizes)
            if not state.is_pre_training:
                state.bank.update(index, z)
        distances = None if z is None or state.centre is None else svdd_distances(z, state.centre)
        means = team.means({"loss": loss, **terms}, sizes)
        state.meters.add(means, num_views=sum(sizes), z=z, distances=distances)
        return means["loss"]

    def check_finite(self) -> None:
        """Raise `DivergedError` if a loss, an embedding or a weight is not finite, or fp16 skips every step."""
        self.guard.check()
        self.state.check_finite()

    def finish_epoch(self, metrics: dict[str, float]) -> None:
        """Validate, log and save a finished epoch, so that the run can be resumed from it."""
        state = self.state
        result = self.validation.result = None if state.is_pre_training else self.validate()
        auc = result.auc if result else None
        if self.context.team.is_first:
            self.folder.append_metrics(
                {
                    "epoch": state.epochs_done,
                    "round": None if state.is_pre_training else state.round,
                    **metrics,
                    "num_anchors": len(state.anchors.anchors) if state.anchors else 0,
                    "radius": state.radius.item(),
                    "val_auc": auc and auc.value,
                    "val_auc_ci95": auc and [auc.low, auc.high],
                }
            )
        stage = "pre-training" if state.is_pre_training else f"round {state.round}"
        parts = [f"{name} {metrics[name]:.4f}" for name in ("loss", *self.loss_weights) if name in metrics]
        parts += [f"{metrics['images_per_second']:.1f} images/s"] if metrics else ["no network is trained"]
        parts += [f"val AUC {auc}"] if auc else []
        logger.info("epoch %d (%s): %s", state.epochs_done, stage, ", ".join(parts))
        self.save_epoch(auc)
        if not state.is_pre_training and "spread" in metrics:
            check_spread(metrics["spread"], stop=self.config.optimisation.on_collapse == "stop")

    def save_epoch(self, auc: Auc | None) -> None:
        """Save a finished epoch as last.tar, on a GPU not every one; the best and that of a round for scoring, too."""
        state, models = self.state, []
        if auc and auc.value > state.best_auc:
            state.best_auc = auc.value
            models.append(self.folder.model)
        if not state.is_pre_training and state.ends_round:
            models.append(self.folder.round_model(state.round))
            if auc is None and state.round == self.config.num_rounds:
                models.append(self.folder.model)
        if models or self.clock.is_due():
            self.save(models)
        if self.context.team.is_first:
            self.folder.keep_newest_rounds(self.config.output.keep)

    def save(self, models: list[Path] | None = None) -> None:
        """Write last.tar and, under the names in `models`, a file for scoring, if all values are finite.

        Raises:
            DivergedError: a value is not finite; no file is written.
        """
        self.guard.check()
        facts = {**self.validation.facts(), **fingerprints(self.train_split, self.val_split)}
        facts["kinds"] = self.train_split.kinds
        self.state.save(self.folder.last, models=models or [], facts=facts, memories=self.validation.memories)
        self.clock.saved()

    def validate(self) -> Result | None:
        """Score the images of val/; None without val/."""
        state = self.state
        rows = state.bank.rows[state.row_labels == NORMAL]
        return self.validation.run(state.network, rows=rows, centre=state.centre, ends_round=state.ends_round)

    def end_if_asked(self) -> None:
        """Save and raise `RunInterruptedError` if this process, or another of its team, has received a signal."""
        received = self.context.team.agree(self.interrupts.received)
        if received is not None:
            if self.state.meters is not None or self.clock.has_unsaved:  # most finished epochs are already saved
                self.save()
            raise RunInterruptedError(received)
