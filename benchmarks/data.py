"""Benchmark `data`: loading of an epoch with cache and threads, against decoding every file in every epoch."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.compare import Timing, compare
from salad.config.data import num_cores
from salad.datasets.augment import AUGMENTATIONS
from salad.datasets.loader import Batch, Loader
from salad.images.decoder import Decoder
from salad.images.scan import scan
from salad.samples import Sample, Split

Views = Callable[[Tensor], object]
ISIZE, BATCH_SIZE, NUM_FILES = 256, 32, 512
BASELINE = "every file decoded, resized and made a tensor by torch's DataLoader, a process for each core"


class PlainImages(Dataset[Tensor]):
    """Dataset that decodes a file on each access: (3, S, S) in [-1, 1]."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as image:
            square = image.convert("RGB").resize((ISIZE, ISIZE), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(square)).permute(2, 0, 1) / 127.5 - 1


def run(*, turns: int) -> list[Timing]:
    """Time an epoch from the cache, with and without views, and a first epoch that fills the cache."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        samples, source = _files(root / "data")
        theirs = _plain_loader(samples)
        ours, epochs = _loader(samples, root / "data/.cache"), itertools.count()
        views = partial(AUGMENTATIONS["ssl"].views, num_views=1)

        def cached_epoch() -> None:
            _read_cached(ours.epoch(next(epochs)))

        def first_epoch() -> None:
            shutil.rmtree(root / "new", ignore_errors=True)
            _read_cached(_loader(samples, root / "new").epoch(0))

        task = f"{len(samples)} {source} at {ISIZE} px"
        timed = partial(compare, turns=turns)
        plain = partial(_read_plain, theirs)
        facts = _memory_facts(cached_epoch, num_images=len(samples))
        timings = [
            timed(f"second epoch: {task}", cached_epoch, plain, baseline=BASELINE),
            timed(f"first epoch: {task}", first_epoch, plain, baseline=BASELINE),
            timed(
                f"second epoch with ssl views: {task}",
                lambda: _read_cached(ours.epoch(next(epochs)), views),
                lambda: _read_plain(theirs, views),
                baseline=f"{BASELINE}; the same views",
            ),
        ]
    timings[0].facts.update(facts)
    for timing in timings:
        timing.facts["images/s"] = len(samples) / float(np.median(timing.ours))
        timing.facts["baseline images/s"] = len(samples) / float(np.median(timing.theirs))
    return timings


def _read_plain(loader: DataLoader[Tensor], views: Views | None = None) -> None:
    """Read an epoch of the baseline."""
    for images in loader:
        if views is not None:
            views(((images[:, :1] + 1) * 127.5).to(torch.uint8))


def _read_cached(batches: Iterable[Batch], views: Views | None = None) -> None:
    """Read an epoch of this program."""
    for batch in batches:
        if views is None:
            batch.grey / 127.5 - 1
        else:
            views(batch.grey)


def _memory_facts(epoch: Callable[[], None], *, num_images: int) -> dict[str, float | str]:
    """Measure the growth of process memory in an epoch, after a warm-up epoch."""
    epoch()
    before = _resident_mib()
    epoch()
    return {
        "MiB that memory grew by in an epoch": _resident_mib() - before,
        "MiB of pixels": num_images * ISIZE**2 / 2**20,
    }


def _plain_loader(samples: list[Sample]) -> DataLoader[Tensor]:
    """Make the loader of the baseline."""
    return DataLoader(
        PlainImages([sample.path for sample in samples]),
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=num_cores(),
        persistent_workers=True,
    )


def _loader(samples: list[Sample], cache: Path) -> Loader:
    """Scan the images into a cache, and make the loader of this program."""
    split = Split(samples=samples, normal_class="normal", classes=("normal",))
    scanned = scan(
        {"train": split},
        decoder=Decoder(isize=ISIZE, resize="squash"),
        num_threads=num_cores(),
        on_bad_image="error",
        cache=cache,
        data_path=samples[0].path.parent,
    )["train"]
    assert scanned.images is not None
    return Loader(scanned.images, batch_size=BATCH_SIZE, num_threads=num_cores(), seed=0)


def _files(folder: Path) -> tuple[list[Sample], str]:
    """Write files of 1024 pixels: copies of radiographs in SALAD_DATA_DIR, or of phantoms without it."""
    folder.mkdir()
    originals: list[Path] = []
    if "SALAD_DATA_DIR" in os.environ:
        originals = sorted((Path(os.environ["SALAD_DATA_DIR"]) / "nih1024").rglob("*.png"))
    source = "radiographs (NIH, PNG, 1024 px)" if originals else "drawn radiographs (PNG, 1024 px)"
    if not originals:
        from salad.datasets.phantom import write_phantom

        write_phantom(folder.with_name("phantom"), size=1024, num_train=16, num_val=0, num_test=0)
        originals = sorted(folder.with_name("phantom").rglob("*.png"))
    paths = [folder / f"{number}.png" for number in range(NUM_FILES)]
    for path, original in zip(paths, itertools.cycle(originals), strict=False):
        shutil.copy(original, path)
    return [Sample(path, path.name, 0) for path in paths], source


def _resident_mib() -> float:
    """Measure the resident memory of this process, in MiB; 0 on systems without /proc."""
    statm = Path("/proc/self/statm")
    pages = int(statm.read_text(encoding="ascii").split()[1]) if statm.exists() else 0
    return float(pages * os.sysconf("SC_PAGE_SIZE")) / 2**20
