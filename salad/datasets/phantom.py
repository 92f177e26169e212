"""Draw `CXR_phantom`: synthetic chest radiographs for trying out the program.

Content: each film is a frontal radiograph of an imaginary patient, with dense tissue bright. Build, pose, lungs,
vessels, heart, bones, soft tissue, exposure and grain vary. An abnormal film has one to three lesions inside the
lung fields: nodules, consolidations or pleural effusions, from obvious to faint.

Purpose: check in minutes, without a download, that the program installs, trains, scores and reports. Mean,
standard deviation and sharpness of the grey levels do not separate the classes, because both get exposure and grain
from the same distribution. The films are not based on patients or measured statistics. A score on them says nothing
about any disease, or about the quality of a method on real films.

Coordinates: u runs from the viewer's left (-1, the patient's right) to the viewer's right (+1), v from the top (-1)
to the bottom (+1). Lengths are in these units, densities in units of the contrast between lung and soft tissue.
"""

import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from PIL import Image

from salad.errors import InputError

Plane: TypeAlias = NDArray[np.float64]  # (size, size)

MIN_SIZE = 32
CLASSES = ("0.normal", "1.abnormal")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """Exposure of a film, in grey levels from 0 to 255."""

    mean: float  # of the film
    std: float  # of the film, grain included
    grain: float  # standard deviation of the noise, below std


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Anatomy of one healthy patient, before the exposure."""

    u: Plane  # patient coordinates of every pixel
    v: Plane
    density: Plane
    lungs: Plane  # share of clear lung, 0 to 1; lesions are drawn only here
    wall: Plane  # half-width of the rib cage at the pixel's height


def draw_exposure(rng: Generator) -> Exposure:
    """Draw an exposure, from the same distribution for normal and abnormal films."""
    return Exposure(mean=rng.uniform(112, 133), std=rng.uniform(38, 44), grain=rng.uniform(3, 5))


def draw_radiograph(
    rng: Generator, *, size: int, abnormal: bool, exposure: Exposure | None = None
) -> NDArray[np.uint8]:
    """Draw one chest film; generators in the same state give the same patient with and without lesions.

    Args:
        rng: source of all randomness; it always draws the same number of values.
        size: height and width in pixels, at least 32.
        abnormal: True to draw one to three lesions into the lung fields.
        exposure: mean, standard deviation and grain of the film; drawn from `rng` if None.

    Returns:
        Grey levels (size, size), uint8, dense tissue bright.

    Raises:
        InputError: `size` is too small.
    """
    if size < MIN_SIZE:
        raise InputError(f"phantom: size {size} is too small to draw a chest; use {MIN_SIZE} or more")
    patient, lesions, window, grain = (default_rng(int(key)) for key in rng.integers(2**63, size=4))
    anatomy = draw_anatomy(patient, size=size)
    added = draw_lesions(lesions, anatomy) if abnormal else 0.0
    return _expose(grain, anatomy.density + added, exposure or draw_exposure(window))


def draw_anatomy(rng: Generator, *, size: int) -> Anatomy:
    """Draw a healthy patient, `size` pixels high and wide, slightly shifted, rotated and scaled."""
    axis = (2 * np.arange(size) + 1) / size - 1
    x, y = np.meshgrid(axis - rng.uniform(-0.03, 0.03), axis - rng.uniform(-0.03, 0.03))
    angle, scale, widening = rng.normal(0, 0.02), rng.uniform(0.97, 1.03), rng.uniform(0.98, 1.03)
    u = (x * np.cos(angle) + y * np.sin(angle)) / (scale * widening)
    v = (y * np.cos(angle) - x * np.sin(angle)) / scale
    side = np.abs(u)
    wall = rng.uniform(0.72, 0.79) * _arch((v - 0.28) / rng.uniform(0.98, 1.06), power=2.3)
    right_dome = rng.uniform(0.21, 0.27) * _bell((u + rng.uniform(0.32, 0.40)) / 0.24)
    left_dome = rng.uniform(0.15, 0.20) * _bell((u - rng.uniform(0.34, 0.42)) / 0.24)
    diaphragm = rng.uniform(0.68, 0.75) - right_dome - left_dome  # height v
    mediastinum, heart = _middle(rng, u, v)
    markings = 0.09 * _bell(np.hypot(side - 0.25, v) / 0.25)  # vessels, denser around the hila
    lungs = _step(wall - side, 0.02) * _step(side - 0.10, 0.02) * _step(diaphragm - v, 0.02)
    clear = lungs * (1 - mediastinum) * (1 - heart)
    trunk, density = _trunk(rng, u, v)
    cage = _step(wall + 0.04 - side, 0.02)
    density += 0.25 * heart + 0.35 * mediastinum + 0.1 * _step(v - diaphragm, 0.03) * cage
    density -= rng.uniform(0.85, 1.20) * clear
    density += clear * (0.06 * _clouds(rng, size, waves=10) + markings * _clouds(rng, size, waves=40))
    density += _bones(rng, u, v, cage=cage * (0.35 + 0.65 * lungs)) + 0.06 * _clouds(rng, size, waves=4)
    return Anatomy(u=u, v=v, density=trunk * density, lungs=clear, wall=wall)


def draw_lesions(rng: Generator, anatomy: Anatomy) -> Plane:
    """Draw one to three lesions; return the density that they add, (size, size), 0 outside the lungs."""
    clear = np.ones_like(anatomy.lungs)  # share of the lung's transparency that the lesions leave
    for _ in range(rng.choice([1, 2, 3], p=[0.3, 0.4, 0.3])):
        kind = rng.choice(3, p=[0.25, 0.40, 0.35])
        clear *= 1 - (_nodule, _consolidation, _effusion)[kind](rng, anatomy)
    return (1 - clear) * anatomy.lungs


def write_phantom(
    root: Path,
    *,
    seed: int = 0,
    size: int = 128,
    num_train: int = 400,
    num_val: int = 40,
    num_test: int = 100,
) -> None:
    """Write the data set as `root/{train,val,test}/{0.normal,1.abnormal}/0000.png`.

    The pixels of a file depend only on seed, size, split, class and index, not on the number of films. The folder is
    written atomically. If two processes write it at once, the folder of the first one stays.

    Args:
        root: folder to create; it may exist if it is empty or holds only `.gitkeep`.
        seed: 0 or more; each seed gives other patients.
        size: height and width in pixels, at least 32.
        num_train: number of training films, all normal.
        num_val: number of validation films of each class.
        num_test: number of test films of each class.

    Raises:
        InputError: `root` is not empty, or a number is out of range.
    """
    for name, value in dict(seed=seed, num_train=num_train, num_val=num_val, num_test=num_test).items():
        if value < 0:
            raise InputError(f"phantom: {name} is {value}; use 0 or more")
    root = root.resolve()
    if root.exists() and not (root.is_dir() and _names(root) <= {".gitkeep"}):
        raise InputError(f"phantom: {root} is not empty; give a new or empty folder, or delete it first")
    partial = root.parent / f".{root.name}.{uuid.uuid4().hex}.partial"
    try:
        for split, counts in enumerate([(num_train,), (num_val, num_val), (num_test, num_test)]):
            for label, count in enumerate(counts):
                _write_class(partial, seed=seed, size=size, split=split, label=label, count=count)
        _publish(partial, root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_class(root: Path, *, seed: int, size: int, split: int, label: int, count: int) -> None:
    """Write one class of one split."""
    folder = root / SPLITS[split] / CLASSES[label]
    folder.mkdir(parents=True)
    for index in range(count):
        # Both classes use the same exposures, so mean, standard deviation and grain cannot separate them.
        exposure = draw_exposure(default_rng([seed, split, len(CLASSES), index]))
        patient = default_rng([seed, split, label, index])
        film = draw_radiograph(patient, size=size, abnormal=label == 1, exposure=exposure)
        Image.fromarray(film).save(folder / f"{index:04d}.png")


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def _publish(partial: Path, root: Path) -> None:
    """Rename the finished folder to `root`, unless another process has already written the same one."""
    written = _names(partial)
    if _names(root) == {".gitkeep"}:
        with suppress(FileNotFoundError):  # another process has moved it
            (root / ".gitkeep").replace(partial / ".gitkeep")
    try:
        partial.rename(root)  # atomic; replaces only an empty folder
    except OSError:
        if _names(root) - {".gitkeep"} != written:
            raise


def _step(distance: Plane, width: float) -> Plane:
    """Compute a soft edge: 0 far outside, 0.5 at distance 0, 1 far inside."""
    return 0.5 + 0.5 * np.tanh(distance / width)


def _arch(x: Plane, *, power: float) -> Plane:
    """Height of the superellipse |x|^power + y^power = 1 over x; 0 beyond its ends."""
    return np.clip(1 - np.abs(x) ** power, 0, None) ** (1 / power)


def _bell(x: Plane) -> Plane:
    return np.exp(-0.5 * x * x)


def _clouds(rng: Generator, size: int, *, waves: int) -> Plane:
    """Draw a smooth random field with mean 0 and variance 1: a sum of cosines with up to `waves` half-periods."""
    order = np.arange(waves + 1)
    basis = np.cos(np.pi * order[:, None] * (np.arange(size) + 0.5) / size)  # (waves + 1, size)
    spectrum = (np.hypot(order[:, None], order) <= waves) * (order[:, None] + order > 0)
    field: Plane = basis.T @ (spectrum * rng.normal(size=spectrum.shape)) @ basis
    return field * (2 / float(np.sqrt(spectrum.sum())))


def _trunk(rng: Generator, u: Plane, v: Plane) -> tuple[Plane, Plane]:
    """Draw the trunk: share of body in every pixel, and density of the soft tissue."""
    side = np.abs(u)
    neck, chest = rng.uniform(0.21, 0.26), rng.uniform(0.93, 1.02)
    half_width = neck + (chest - neck) * _step(v + 0.86 - side * rng.uniform(0.13, 0.20), 0.07)
    half_width -= 0.07 * _bell((v - 0.1) / 0.5)
    breasts = np.hypot((side - 0.45) / rng.uniform(0.26, 0.32), (v - rng.uniform(0.25, 0.38)) / 0.30)
    density = 0.9 + 0.35 * _arch(u / half_width, power=2.5) + rng.uniform(0, 0.16) * _step(1 - breasts, 0.15)
    return _step(half_width - side, 0.02), density


def _middle(rng: Generator, u: Plane, v: Plane) -> tuple[Plane, Plane]:
    """Draw the mediastinum (great vessels and hila without the windpipe) and the heart, each from 0 to 1."""
    half_width = rng.uniform(0.11, 0.15) + 0.05 * _bell((v - 0.05) / 0.25)
    shadow = _step(half_width - np.abs(u - 0.02), 0.03)
    shadow += 0.8 * _bell(np.hypot(u - rng.uniform(0.14, 0.17), v + rng.uniform(0.22, 0.30)) / 0.055)
    for hilum in (-0.22, 0.22):
        distance = np.hypot((u - hilum) / 0.07, (v - rng.uniform(-0.08, 0.04)) / 0.11)
        shadow += rng.uniform(0.3, 0.6) * _bell(distance)
    windpipe = _step(0.045 - np.abs(u - rng.normal(0, 0.012)), 0.02) * _step(-0.15 - v, 0.05)
    mediastinum = np.clip(shadow, 0, 1) * (1 - rng.uniform(0.5, 0.9) * windpipe)
    x, y = u - rng.uniform(0.09, 0.15), v - rng.uniform(0.32, 0.40)
    tilt, radius = rng.uniform(0.4, 0.7), rng.uniform(0.30, 0.37)
    along, across = x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
    return mediastinum, _step(1 - np.hypot(along / radius, across / (0.78 * radius)), 0.09)


def _bones(rng: Generator, u: Plane, v: Plane, *, cage: Plane) -> Plane:
    """Draw the vertebrae, posterior ribs, fainter anterior ribs and collar bones, as added density."""
    side = np.abs(u)
    density = 0.06 * _step(0.08 - side, 0.02) * np.cos(2 * np.pi * v / 0.14 + rng.uniform(0, 6))
    spacing, start = rng.uniform(0.145, 0.165), rng.uniform(-0.72, -0.64)
    for strength, fall, bend in (
        (rng.uniform(0.14, 0.26), rng.uniform(-0.02, 0.08), rng.uniform(0.40, 0.50)),
        (rng.uniform(0.05, 0.12), rng.uniform(-0.50, -0.38), rng.uniform(0.0, 0.15)),
    ):
        position = (v - start - fall * side - bend * side**2) / spacing
        offset = np.abs(position - np.round(position))  # from the middle of the nearest rib, in rib spacings
        rib = _step(0.23 - offset, 0.08) * (0.8 + 1.2 * offset)  # brighter rims
        density += strength * rib * cage * _step(position + 0.5, 0.05) * _step(0.85 - v, 0.1)
    middle = rng.uniform(-0.62, -0.54) - rng.uniform(0.12, 0.30) * (side - 0.1) + 0.05 * np.sin(5 * side)
    ends = _step(side - 0.07, 0.02) * _step(0.80 - side, 0.03)
    return density + rng.uniform(0.2, 0.35) * _step(0.035 - np.abs(v - middle), 0.015) * ends


def _from_spot(rng: Generator, anatomy: Anatomy) -> tuple[Plane, Plane]:
    """Draw a point inside the clear lung; return the horizontal and vertical distance of every pixel from it."""
    rows, columns = (rng.random((2, 256)) * len(anatomy.lungs)).astype(int)
    first = np.argmax(anatomy.lungs[rows, columns] > 0.85)
    at = rows[first], columns[first]
    return anatomy.u - anatomy.u[at], anatomy.v - anatomy.v[at]


def _nodule(rng: Generator, anatomy: Anatomy) -> Plane:
    """Draw a round nodule with a soft edge; return the opacity of every pixel, 0 to 1."""
    x, y = _from_spot(rng, anatomy)
    distance = np.hypot(x, y * rng.uniform(0.85, 1.18)) / rng.uniform(0.09, 0.18)
    return rng.uniform(0.60, 0.95) * _step(1 - distance, 0.3)


def _consolidation(rng: Generator, anatomy: Anatomy) -> Plane:
    """Draw a large, ragged and mottled patch; return the opacity of every pixel, 0 to 1."""
    x, y = _from_spot(rng, anatomy)
    distance = np.hypot(x / rng.uniform(0.20, 0.34), y / rng.uniform(0.22, 0.42))
    patch = _step(1 - distance + 0.25 * _clouds(rng, len(x), waves=12), 0.3)
    mottle = np.clip(1 + 0.25 * _clouds(rng, len(x), waves=24), 0.3, 1.25)
    return rng.uniform(0.60, 0.80) * patch * mottle


def _effusion(rng: Generator, anatomy: Anatomy) -> Plane:
    """Draw fluid above one diaphragm, higher at the chest wall; return the opacity of every pixel, 0 to 1."""
    side = anatomy.u * rng.choice([-1, 1])
    outwards = np.clip(side / np.maximum(anatomy.wall, 0.05), 0, 1)
    level = rng.uniform(-0.10, 0.40) - rng.uniform(0.15, 0.35) * outwards**4
    return rng.uniform(0.75, 0.98) * _step(anatomy.v - level, 0.05) * _step(side, 0.02)


def _expose(rng: Generator, density: Plane, exposure: Exposure) -> NDArray[np.uint8]:
    """Turn density into 8-bit grey levels with the mean and standard deviation of the exposure, grain included."""
    signal = (density - density.mean()) / density.std()
    noise = rng.normal(size=density.shape) * (1 + 0.15 * np.clip(signal, -2, 2))  # more noise in dense tissue
    noise *= exposure.grain / noise.std()
    film = signal * np.sqrt(exposure.std**2 - exposure.grain**2) + noise
    film = (film - film.mean()) * (exposure.std / film.std()) + exposure.mean
    grey: NDArray[np.uint8] = np.clip(np.rint(film), 0, 255).astype(np.uint8)
    return grey
