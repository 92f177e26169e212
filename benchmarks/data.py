"""The input of an epoch: our cache and threads, and plain loading, which decodes every file in every epoch."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.compare import Timing, compare
from salad.datasets.augment import AUGMENTATIONS
from salad.datasets.decoder import Decoder
from salad.datasets.loader import Loader
from salad.datasets.sample import Sample, Split
from salad.datasets.scan import scan
from salad.image_options import num_cores

ISIZE, BATCH_SIZE, NUM_FILES = 256, 32, 512
BASELINE = "every file decoded, resized and made a tensor by torch's DataLoader, a process for each core"


class PlainImages(Dataset[Tensor]):
    """One file at a time: (3, S, S) in [-1, 1]."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as image:
            square = image.convert("RGB").resize((ISIZE, ISIZE), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(square)).permute(2, 0, 1) / 127.5 - 1


def run(*, turns: int) -> list[Timing]:
    """An epoch from the cache, with and without views; and a first epoch, the making of the cache included."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        samples, source = _files(root / "data")
        theirs = DataLoader(
            PlainImages([sample.path for sample in samples]),
            batch_size=BATCH_SIZE,
            shuffle=True,
            num_workers=num_cores(),
            persistent_workers=True,
        )
        ours = _loader(samples, root / "data/.cache")
        epochs = itertools.count()
        augment = AUGMENTATIONS["ssl"].views

        def plain_epoch() -> None:
            for _ in theirs:
                pass

        def plain_epoch_with_views() -> None:
            for images in theirs:
                augment(((images[:, :1] + 1) * 127.5).to(torch.uint8), num_views=1)

        def cached_epoch() -> None:
            for batch in ours.epoch(next(epochs)):
                batch.grey / 127.5 - 1

        def cached_epoch_with_views() -> None:
            for batch in ours.epoch(next(epochs)):
                augment(batch.grey, num_views=1)

        def first_epoch() -> None:
            shutil.rmtree(root / "new", ignore_errors=True)
            for batch in _loader(samples, root / "new").epoch(0):
                batch.grey / 127.5 - 1

        task = f"{len(samples)} {source} at {ISIZE} px"
        cached_epoch()
        before = _resident_mib()
        cached_epoch()
        growth = _resident_mib() - before
        timings = [
            compare(
                f"second epoch: {task}",
                cached_epoch,
                plain_epoch,
                baseline=BASELINE,
                turns=turns,
                **{"MiB that memory grew by in an epoch": growth, "MiB of pixels": len(samples) * ISIZE**2 / 2**20},
            ),
            compare(f"first epoch: {task}", first_epoch, plain_epoch, baseline=BASELINE, turns=turns),
            compare(
                f"second epoch with ssl views: {task}",
                cached_epoch_with_views,
                plain_epoch_with_views,
                baseline=f"{BASELINE}; the same views",
                turns=turns,
            ),
        ]
    for one in timings:
        one.facts["images/s"] = len(samples) / float(np.median(one.ours))
        one.facts["baseline images/s"] = len(samples) / float(np.median(one.theirs))
    return timings


def _loader(samples: list[Sample], cache: Path) -> Loader:
    split = Split(samples=samples, normal_class="normal", classes=("normal",))
    found = scan(
        {"train": split},
        decoder=Decoder(isize=ISIZE, resize="squash"),
        num_threads=num_cores(),
        on_bad_image="error",
        cache=cache,
        data_path=samples[0].path.parent,
    )["train"]
    assert found.images is not None
    return Loader(found.images, batch_size=BATCH_SIZE, num_threads=num_cores(), seed=0)


def _files(folder: Path) -> tuple[list[Sample], str]:
    """Radiographs of 1024 px, copied under other names until there are enough; drawn ones without SALAD_DATA_DIR."""
    folder.mkdir()
    found: list[Path] = []
    if "SALAD_DATA_DIR" in os.environ:
        found = sorted((Path(os.environ["SALAD_DATA_DIR"]) / "nih1024").rglob("*.png"))
    source = "radiographs (NIH, PNG, 1024 px)" if found else "drawn radiographs (PNG, 1024 px)"
    if not found:
        from salad.datasets.phantom import write_phantom

        write_phantom(folder.with_name("phantom"), size=1024, num_train=16, num_val=0, num_test=0)
        found = sorted(folder.with_name("phantom").rglob("*.png"))
    paths = [folder / f"{number}.png" for number in range(NUM_FILES)]
    for path, original in zip(paths, itertools.cycle(found), strict=False):
        shutil.copy(original, path)
    return [Sample(path, path.name, 0) for path in paths], source


def _resident_mib() -> float:
    statm = Path("/proc/self/statm")
    pages = int(statm.read_text(encoding="ascii").split()[1]) if statm.exists() else 0
    return float(pages * os.sysconf("SC_PAGE_SIZE")) / 2**20
