"""What a GPU computes, against the CPU; without a GPU the same tests run on the CPU alone, which shows that they run.

Numbers that a test measures are recorded: the benchmark `gpu` writes them down.
"""

import dataclasses
import os
import signal
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from golden_numbers import (
    MOMENTUM,
    OBJECTIVES,
    TEMPERATURE,
    discover,
    golden_images,
    loss_and_gradient,
    published_network,
    read_golden,
)
from naming_rule import CHECKPOINT_KEYS
from on_devices import DrawsOfCpu, no_waiting
from running import CPU, ONE_THREAD, REPOSITORY, read_lines, read_tar, same, without_timings

from benchmarks.step import Task, our_trainer
from salad.anchors import discover_anchors
from salad.datasets import phantom
from salad.datasets.augment import AUGMENTATIONS
from salad.datasets.loader import Loader
from salad.datasets.synthetic import corrupt
from salad.device import seed_everything
from salad.errors import MachineError
from salad.images.align import UNIT, build_template, register, shrink, warp
from salad.images.normalize import normalize
from salad.memory import MemoryBank
from salad.networks import NETWORKS, unet
from salad.patch_memory import PatchMaps, PatchMemory, pool_cells
from salad.scores.knn import knn_angle
from salad.scores.prototype import weighted_prototype
from salad.training.guards import FiniteGuard, batch_advice

pytestmark = pytest.mark.trains

SIZES = {"unet": 64, "CXR_resnet18": 32}
NUM_STEPS, BATCH_SIZE = 3, 6
# largest relative difference of the loss from that in float32, in the first and the third step
HALF_BOUNDS = {"bf16": (0.02, 0.06), "fp16": (0.004, 0.03)}


@pytest.fixture(autouse=True)
def _full_precision():
    """Convolutions without TF32, which a run allows and these comparisons do not."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before


@pytest.fixture
def _small_on_the_cpu(device, monkeypatch):
    """A `unet` of few channels on the CPU; a GPU gets it as it is."""
    if device.type == "cpu":
        monkeypatch.setattr(unet, "WIDTHS", (4, 4, 4, 8, 8, 8, 8))


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def films():
    """Twelve decoded films, (12, 1, 64, 64), uint8."""
    import numpy as np

    draw = np.random.default_rng(0)
    drawn = [phantom.draw_radiograph(draw, size=64, abnormal=False) for _ in range(12)]
    return torch.from_numpy(np.stack(drawn))[:, None]


def largest(ours, theirs):
    """Largest difference of two tensors, as a share of the largest number of the second."""
    ours, theirs = ours.detach().cpu().double(), theirs.detach().cpu().double()
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12)).item()


# Golden numbers in float32; those in float64 are in test_golden.py ------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_objectives_in_float32(device, objective, record_property):
    golden = read_golden(objective, device, torch.float32)
    rows, dim = golden["memory"].shape
    bank = MemoryBank(rows, dim, temperature=TEMPERATURE, momentum=MOMENTUM, device=device)
    bank.rows = golden["memory"].clone()
    bank.update(golden["index"], golden["z"])
    loss, gradient = loss_and_gradient(golden, discover(golden))
    score = knn_angle(golden["query"], golden["memory"], k=golden["k"].item())
    found = {
        "memory_after_update": bank.rows,
        "aggregation_loss": loss,
        "aggregation_grad_z": gradient,
        "score": score,
    }
    for name, value in found.items():
        difference = largest(value, golden[name])
        record_property(name, difference)
        assert difference < 1e-4, name


@pytest.mark.parametrize("name", list(CHECKPOINT_KEYS))
def test_the_networks_in_float32(device, name, record_property):
    golden = read_golden(name, device)
    network = published_network(name, device, torch.float32)
    images = golden_images(NETWORKS[name].default_isize, device, torch.float32)
    with torch.no_grad():
        z, recon = network(images.contiguous(memory_format=torch.channels_last))
    differences = {"z": largest(z, golden["embedding"])}
    differences["recon"] = largest(recon[:, :, 100:108, 100:108], golden["recon_patch"])
    for part, difference in differences.items():
        record_property(part, difference)
        assert difference < 1e-3, part


# Steps ------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=list(SIZES))
def task(request, tmp_path, _small_on_the_cpu):
    task = Task(net_name=request.param, isize=SIZES[request.param], batch_size=BATCH_SIZE, folder=tmp_path)
    task.draw_images()
    return task


def steps_of(task, device, *, amp="off"):
    """Losses, memory rows and weights after some steps on a device, from weights and draws that are the same on all."""
    task = dataclasses.replace(task, device=device.type, amp=amp)
    trainer, draw = our_trainer(task)
    with DrawsOfCpu():
        losses = torch.stack([trainer.step(draw()).detach().cpu() for _ in range(NUM_STEPS)])
    return losses, trainer.state.bank.rows.cpu(), trainer.state.network.state_dict()


def test_three_steps_in_float64_are_those_of_the_cpu(device, task, double, record_property):
    ours, theirs = steps_of(task, device), steps_of(task, CPU)
    difference = largest(ours[0], theirs[0])
    record_property("losses", difference)
    record_property("rows", largest(ours[1], theirs[1]))
    assert difference < 1e-7 and largest(ours[1], theirs[1]) < 1e-5
    for name, weight in theirs[2].items():
        if weight.is_floating_point() and name.endswith("running_var"):
            assert largest(ours[2][name], weight) < 1e-4, name


def test_three_steps_in_float32_are_those_of_the_cpu(device, task, record_property):
    ours, theirs = steps_of(task, device)[0], steps_of(task, CPU)[0]
    first, last = largest(ours[:1], theirs[:1]), largest(ours, theirs)
    record_property("first loss", first)
    record_property("losses", last)
    assert first < 1e-5 and last < 1e-2  # Adam's first steps turn rounding into steps of the other sign


@pytest.mark.parametrize("amp", HALF_BOUNDS)
def test_losses_in_half_precision_stay_near_those_in_float32(device, task, amp, record_property):
    if device.type == "cpu" and (amp, task.net_name) == ("fp16", "CXR_resnet18"):
        pytest.skip("takes minutes on a CPU")
    ours, theirs = steps_of(task, device, amp=amp)[0], steps_of(task, CPU)[0]
    assert not torch.equal(ours, theirs)
    for number, step, bound in zip((1, 3), (0, 2), HALF_BOUNDS[amp], strict=True):
        difference = largest(ours[step], theirs[step])
        record_property(f"step {number}", difference)
        assert difference < bound


NO_WAIT = {
    "plain": {"amp": "off"},
    "everything": {
        "n_views": 2,
        "augment": "ssl",
        "w_syn": 1.0,
        "align": True,
        "crop": 0.8,
        "normalize": "standardize",
        "objective": "soft-boundary",
        "amp": "bf16",
    },
    "fp16": {"amp": "fp16", "normalize": "clahe"},
}


@pytest.mark.parametrize("options", NO_WAIT.values(), ids=NO_WAIT)
@pytest.mark.usefixtures("_small_on_the_cpu")
def test_a_step_never_waits_for_the_gpu(device, tmp_path, films, options):
    trainer, batch = trainer_with(tmp_path, device, films, **options)
    trainer.step(batch())  # what is made once may wait
    drawn = batch()
    with no_waiting(device):
        for _ in range(2):
            trainer.step(drawn)
    trainer.check_finite()


def trainer_with(folder, device, films, **options):
    """A trainer in a round with anchors, with any options of main.py, and a function that makes a batch of films."""
    from salad.build import RunContext
    from salad.config import Config
    from salad.datasets.loader import Batch
    from salad.runs.folder import RunFolder
    from salad.training.data import read_training_data
    from salad.training.meters import Meters
    from salad.training.trainer import Trainer

    phantom.write_phantom(folder / "data", size=64, num_train=12, num_val=0, num_test=1)
    words = {"dataset_name": "CXR_author", "net_name": "unet", "xp_path": folder / "run", "data_path": folder / "data"}
    common = {"isize": 64, "rep_dim": 16, "batch_size": 6, "n_jobs_dataloader": 0, "device": device.type}
    config = Config.of({**words, **common, "cache": "off", **options})
    template = build_template(shrink(films)) if config.images.align else None
    context = RunContext(config=config, device=device, template=template)
    train, _ = read_training_data(context)
    trainer = Trainer(context, RunFolder(folder / "run"), train=train, val=None)
    trainer.guard = FiniteGuard(device, name_of=str, interval=50)  # as on a GPU
    state = trainer.state
    state.round, state.meters = 1, Meters(device)
    state.network.train()
    state.centre = F.normalize(torch.ones(16, device=device), dim=0)
    trainer.start_round()
    side = config.images.decoded_size
    grey = F.interpolate(films[:6].float(), (side, side)).to(torch.uint8)
    grey, index = (part.pin_memory() if device.type == "cuda" else part for part in (grey, torch.arange(6)))
    return trainer, lambda: Batch(grey, index, context.preprocessing)


# A run ------------------------------------------------------------------------------------------------------------

# main.py with a small network; its first argument is the number of the step in which a signal arrives, 0 for none
RUN = """
import os, signal, sys
from running import shrink_unet
from salad import cli
from salad.training.trainer import Trainer
shrink_unet()
left, step = int(sys.argv.pop(1)), Trainer.step
def counted(self, batch):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGTERM)
    return step(self, batch)
Trainer.step = counted
cli.train(prog_name="main.py")
"""
OF_RUN = [
    *("--isize", "64", "--rep_dim", "8", "--batch_size", "6", "--n_jobs_dataloader", "2", "--n_epochs", "2"),
    *("--ans_select_rate", "0.5", "--ans_size", "3", "--n_views", "2", "--w_syn", "1", "--align", "--crop", "0.8"),
    *("--score", "local", "--deterministic"),
]


def run_main(xp, data, *options, interrupted_in=0):
    env = {**ONE_THREAD, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])}
    words = [str(interrupted_in), "CXR_author", "unet", str(xp), str(data), *options]
    done = subprocess.run([sys.executable, "-c", RUN, *words], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == (128 + signal.SIGTERM if interrupted_in else 0), done.stderr


@pytest.fixture(scope="module")
def film_data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=64, num_train=12, num_val=3, num_test=1)
    return root


@pytest.mark.slow
def test_a_deterministic_run_that_is_resumed_ends_as_one_that_was_not(device, film_data, tmp_path):
    options = [*OF_RUN, "--device", device.type]
    run_main(tmp_path / "whole", film_data, *options)
    run_main(tmp_path / "xp", film_data, *options, interrupted_in=7)
    assert len(read_lines(tmp_path / "xp/metrics.jsonl")) == 3
    run_main(tmp_path / "xp", film_data, *options, "--resume")
    whole, resumed = (read_lines(tmp_path / name / "metrics.jsonl") for name in ("whole", "xp"))
    assert without_timings(resumed) == without_timings(whole)
    ours, theirs = (read_tar(tmp_path / name / "last.tar") for name in ("xp", "whole"))
    for content in (ours, theirs):
        del content["config"]["xp_path"]
    assert [key for key in theirs if not same(ours.get(key), theirs[key])] == []


def test_batches_arrive_whole_though_their_buffers_are_used_again(device, films):
    class Films:
        isize = 64

        def __len__(self):
            return 240

        def read(self, index, out):
            out[:] = films[[i % 12 for i in index], 0].numpy() + [[[i % 7]] for i in index]

    loader = Loader(Films(), batch_size=8, num_threads=2, seed=0, pin_memory=device.type == "cuda")
    read = [(batch.normalized(device), batch.index.to(device, non_blocking=True)) for batch in loader.epoch(0)]
    assert len(read) == 30
    for grey, index in read:
        expected = films[index.cpu() % 12] + (index.cpu() % 7)[:, None, None, None].to(torch.uint8)
        assert torch.equal(grey.cpu(), expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
def test_a_batch_that_is_too_large_for_the_gpu():
    with (
        pytest.raises(MachineError, match=r"^out of memory on cuda:.*--batch_size 16"),
        batch_advice(torch.device("cuda:0"), batch_size=32, amp=None),
    ):
        torch.empty(2**45, device="cuda:0")


# Parts ------------------------------------------------------------------------------------------------------------


def unit_rows(num_rows, dtype, seed=0):
    return F.normalize(torch.randn(num_rows, 32, dtype=dtype, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_scores_from_the_memory_are_those_of_the_cpu(device, dtype, bound, record_property):
    rows, queries = unit_rows(3000, dtype), unit_rows(300, dtype, seed=1)
    for name, score in (
        ("knn", lambda z, rows: knn_angle(z, rows, k=50)),
        ("weighted", lambda z, rows: weighted_prototype(z, rows, k=50, temperature=0.1)),
    ):
        difference = largest(score(queries.to(device), rows.to(device)), score(queries, rows))
        record_property(name, difference)
        assert difference < bound


def test_anchors_are_those_of_the_cpu(device, record_property):
    rows, options = unit_rows(3000, torch.float64), {"num_anchors": 300, "num_neighbours": 10, "temperature": 0.1}
    ours, theirs = discover_anchors(rows.to(device), **options), discover_anchors(rows, **options)
    record_property("entropy", largest(ours.entropy, theirs.entropy))
    assert largest(ours.entropy, theirs.entropy) < 1e-10
    assert torch.equal(ours.anchors.cpu(), theirs.anchors)
    assert torch.equal(ours.neighbours.cpu().sort().values, theirs.neighbours.sort().values)
    index = torch.arange(0, 3000, 7)
    assert torch.equal(ours.neighbours_of(index.to(device)).cpu() < 0, theirs.neighbours_of(index) < 0)


def test_registration_is_that_of_the_cpu(device, films, record_property):
    template = build_template(shrink(films))
    moved = warp(films.float(), torch.tensor([[0.1, -0.05, 0.06, 0.1]]).expand(12, 4)).round().to(torch.uint8)
    ours, theirs = register(template.to(device), moved.to(device)).cpu(), register(template, moved)
    record_property("parameters", (ours - theirs).abs().max().item())
    assert theirs.abs().max() > 0.03  # else nothing was registered
    assert (ours - theirs).abs().max() <= 2 * UNIT  # they are rounded to multiples of it
    assert largest(build_template(shrink(films.to(device))), template) < 1e-2


@pytest.mark.parametrize("kind", ["standardize", "clahe"])
def test_normalisation_is_that_of_the_cpu(device, films, kind):
    ours, theirs = normalize(films.to(device), kind).cpu().int(), normalize(films, kind).int()
    assert (ours - theirs).abs().max() <= 1 and (ours != theirs).float().mean() < 0.01


def test_views_and_synthetic_anomalies_are_those_of_the_cpu(device, films, record_property):
    def drawn(on):
        torch.manual_seed(3)
        with DrawsOfCpu():
            views = AUGMENTATIONS["ssl"].views(films.to(on), num_views=2)
            return (*views, *corrupt(films.to(on) / 255))

    for name, ours, theirs in zip(("views", "targets", "corrupted", "mask"), drawn(device), drawn(CPU), strict=True):
        share = ((ours.cpu() - theirs).abs() > 1e-3).float().mean().item()
        record_property(name, share)
        assert share < 1e-3, name  # a pixel at the edge of a rectangle may fall on its other side


def test_the_patch_memory_is_that_of_the_cpu(device, record_property):
    features = torch.randn(40, 24, 8, 8, generator=torch.Generator().manual_seed(0))
    scores = []
    for on in (device, CPU):
        cells = pool_cells(PatchMaps(features[:32].to(on)), 3).features
        memory = PatchMemory.build(cells, max_rows=20)
        scores.append(memory.scores(PatchMaps(features.to(on))))
    record_property("scores", largest(*scores))
    assert largest(*scores) < 1e-3  # its rows are in half precision


def test_a_seed_gives_the_same_memory_on_every_device(device):
    rows = []
    for on in (device, CPU):
        seed_everything(5, deterministic=False)
        rows.append(MemoryBank(9, 4, temperature=0.1, momentum=0.5, device=on).rows.cpu())
    assert torch.equal(*rows)
