"""Films as a hospital sends them: columns of their headers, kinds that the model does not know, a receiver in front."""

import contextlib
import csv
import io
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import Result
from dicom_files import SECRET, dataset, written
from PIL import Image
from running import ONE_THREAD, PROGRAM, REPOSITORY, SHORT, invoke, read_csv, read_tar, stopped, train

from salad.cli import main
from salad.datasets import phantom

EXAMPLES = REPOSITORY / "examples/watch"
TAGS = "SOPInstanceUID,ViewPosition,InstanceNumber"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Twelve normal films, eight of them to train on, and three of each class to score; PA and AP in turn."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    phantom.write_phantom(root, size=80, num_train=8, num_val=4, num_test=3)
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        elements = {"ViewPosition": ["PA", "AP"][number % 2], "SOPInstanceUID": f"1.2.3.{number}"}
        write(path.with_suffix(".dcm"), read_pixels(path), **elements)
        path.unlink()
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    xp = tmp_path_factory.mktemp("run")
    train(xp, data, "--normalize", "standardize", "--n_epochs", 2, "--k", 5)
    return xp


@pytest.fixture
def predict(run):
    """A function that runs the command in this process and returns its result."""

    def call(*words: object) -> Result:
        return invoke(main, "predict", "--load_model", run / "model.tar", "--device", "cpu", *words)

    return call


def read_pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


def write(path: Path, pixels: np.ndarray, **elements: object) -> Path:
    path.write_bytes(written(dataset(pixels, **{"BodyPartExamined": "CHEST", **elements})))
    return path


def rows_of(result: Result) -> list[dict[str, str]]:
    assert result.exit_code == 0, result.stderr
    return list(csv.DictReader(io.StringIO(result.stdout, newline="")))


@pytest.fixture
def films(data, tmp_path) -> Path:
    """A PA film, a lateral one, a hand, a MONOCHROME1 one and a PNG, all of the same pixels; and a film cut off."""
    pixels = pydicom.dcmread(next((data / "test").rglob("*.dcm"))).pixel_array
    folder = tmp_path / "films"
    folder.mkdir()
    write(folder / "1.dcm", pixels, ViewPosition="PA", InstanceNumber=7)
    write(folder / "2.dcm", pixels, ViewPosition="LL")
    write(folder / "3.dcm", pixels, BodyPartExamined="HAND", ViewPosition="AP")
    write(folder / "4.dcm", 255 - pixels, PhotometricInterpretation="MONOCHROME1", ViewPosition="")
    Image.fromarray(pixels).save(folder / "5.png")
    (folder / "6.dcm").write_bytes((folder / "1.dcm").read_bytes()[:-3000])
    return folder


def test_columns_of_the_header_and_notes_of_the_kind(predict, films, run):
    assert read_tar(run / "model.tar")["told"]["view"] == {"AP": 4, "PA": 4}

    result = predict(films, "--dicom_tags", TAGS)

    rows = rows_of(result)
    assert [*rows[0]][-4:] == ["note", *TAGS.split(",")]
    assert [row["ViewPosition"] for row in rows] == ["PA", "LL", "AP", "", "", "PA"]
    assert [row["InstanceNumber"] for row in rows] == ["7", "", "", "", "", "7"]
    assert {row["SOPInstanceUID"] for row in rows} == {"1.2.3.4", ""} and rows[5]["error"]
    kinds = ["lateral view", "body part HAND", "MONOCHROME1 pixels"]
    trained = ["AP and PA", "CHEST", "MONOCHROME2"]
    strange = [row["note"].partition(";")[0] for row in rows]
    assert strange[1:4] == [
        f"{kind}, but the model was trained on {on}" for kind, on in zip(kinds, trained, strict=True)
    ]
    assert not any("trained on" in row["note"].partition(";")[0] for row in (rows[0], rows[4], rows[5]))
    scores = [float(row["score"]) for row in rows[:3]]
    assert scores == pytest.approx(scores[:1] * 3, abs=1e-5)  # the kind is said, and the score stays
    summary = ", ".join(f"{kind} (1)" for kind in kinds)
    assert f"drift: films of a kind that the model was not trained on: {summary}; the column note" in result.stderr
    assert SECRET not in result.stdout + result.stderr


def test_a_hand_is_noticed_by_a_model_of_a_chest_set_without_headers(films, tmp_path):
    phantom.write_phantom(tmp_path / "data", size=64, num_train=8, num_val=3, num_test=1)
    trained = invoke(main, "train", "CXR_phantom", "unet", tmp_path / "xp", tmp_path / "data", *SHORT)
    assert trained.exit_code == 0, trained.stderr
    model = tmp_path / "xp/model.tar"
    assert read_tar(model)["told"] == {"part": {"CHEST": 8}}

    rows = rows_of(invoke(main, "predict", "--load_model", model, "--device", "cpu", films))

    assert [row["note"].partition(";")[0] for row in rows if "trained on" in row["note"]] == [
        "body part HAND, but the model was trained on CHEST"
    ]


def test_films_that_are_enrolled_are_of_a_known_kind(run, films, tmp_path):
    normals, model = tmp_path / "normals", tmp_path / "enrolled.tar"
    normals.mkdir()
    for number in range(3):
        rng = np.random.default_rng(number)
        write(normals / f"{number}.dcm", phantom.draw_radiograph(rng, size=80, abnormal=False), ViewPosition="LL")

    enrolled = invoke(main, "enrol", run / "model.tar", normals, "--out", model, "--device", "cpu")
    assert enrolled.exit_code == 0, enrolled.stderr

    assert read_tar(model)["told"]["view"] == {"AP": 4, "PA": 4, "lateral": 3}
    rows = rows_of(invoke(main, "predict", "--load_model", model, "--device", "cpu", films))
    assert ["but the model was trained on" in row["note"] for row in rows] == [False, False, True, True, False, False]


def test_what_may_identify_is_written_only_where_that_is_allowed(predict, films):
    for words, reason in [
        (["--dicom_tags", "PatientName"], "--dicom_tags PatientName: may identify a patient"),
        (["--allow_identifying"], "--allow_identifying is for the columns of --dicom_tags"),
    ]:
        assert reason in stopped(predict(films, *words))
    (line, *_) = predict(
        films, "--dicom_tags", "PatientName", "--allow_identifying", "--format", "jsonl"
    ).stdout.splitlines()
    assert json.loads(line)["PatientName"] == SECRET


def test_an_output_with_other_columns_is_not_appended_to(predict, films, tmp_path):
    words = [films / "1.dcm", "--out", tmp_path / "out.csv", "--append"]
    for _ in range(2):
        assert predict(*words, "--dicom_tags", TAGS).exit_code == 0
    before = (tmp_path / "out.csv").read_bytes()

    for other in ([], ["--dicom_tags", "SOPInstanceUID"], ["--dicom_tags", TAGS, "--format", "jsonl"]):
        assert "cannot be appended to" in stopped(predict(*words, *other))

    assert (tmp_path / "out.csv").read_bytes() == before and len(read_csv(tmp_path / "out.csv")) == 2


def command_of(unit: str) -> list[str]:
    """The words that a service of examples/watch gives to the program."""
    (line,) = re.findall(r"^ExecStart=(.*)$", (EXAMPLES / unit).read_text(encoding="utf-8"), re.MULTILINE)
    return shlex.split(line.partition("/salad ")[2])


@contextlib.contextmanager
def receiver(folder: Path):
    """A storage service on the loopback, which writes what it is sent under a hidden name, and then renames it."""
    from pynetdicom import AE, AllStoragePresentationContexts, evt

    def store(event) -> int:
        hidden = folder / f".{event.request.AffectedSOPInstanceUID}.part"
        hidden.write_bytes(event.encoded_dataset())
        hidden.rename(folder / f"{event.request.AffectedSOPInstanceUID}.dcm")
        return 0x0000

    server = AE(ae_title="SALAD")
    server.supported_contexts = AllStoragePresentationContexts
    running = server.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield running.socket.getsockname()[1]
    finally:
        running.shutdown()


def send(ds: pydicom.Dataset, *, port: int) -> None:
    """Send a film by C-STORE."""
    from pynetdicom import AE

    client = AE()
    client.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
    association = client.associate("127.0.0.1", port)
    assert association.is_established
    try:
        assert association.send_c_store(ds).Status == 0x0000
    finally:
        association.release()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_units_are_those_of_systemd(tmp_path):
    for path in EXAMPLES.glob("salad-*"):
        text = path.read_text(encoding="utf-8").replace("/opt/salad/.venv/bin/salad", sys.executable)
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    units = sorted(tmp_path.iterdir())
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and len(units) == 3


def test_service_night_and_crontab_run_the_same_watch():
    watch = command_of("salad-watch.service")
    cron = (EXAMPLES / "crontab").read_text(encoding="utf-8")
    night = command_of("salad-night.service")
    at = night.index("--report")
    assert night[:at] + night[at + 2 :] == watch
    assert " ".join(watch) in cron and "2>> /srv/salad/watch.log" in cron


@pytest.mark.slow
def test_a_film_that_a_modality_sends_has_its_line_with_its_score(run, data, predict, tmp_path):
    incoming, out = tmp_path / "incoming", tmp_path / "scores.csv"
    incoming.mkdir()

    def placed(word: str) -> str:
        return word.replace("/srv/salad/model.tar", str(run / "model.tar")).replace("/srv/salad", str(tmp_path))

    films = sorted((data / "test").rglob("*.dcm"))[:2]
    expected = [float(row["score"]) for row in rows_of(predict(*films))]
    command = [sys.executable, "-c", PROGRAM, *map(placed, command_of("salad-night.service")), "--interval", "0.1"]
    env = {**ONE_THREAD, "PYTHONPATH": str(REPOSITORY)}

    with (
        subprocess.Popen(command, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as watch,
        receiver(incoming) as port,
    ):
        try:
            assert any("watching" in line for line in watch.stderr)  # it is ready
            for number, film in enumerate(films, start=1):
                send(pydicom.dcmread(film), port=port)
                deadline = time.monotonic() + 60
                while not out.exists() or len(out.read_bytes().splitlines()) <= number:
                    assert watch.poll() is None and time.monotonic() < deadline
                    time.sleep(0.02)
            watch.send_signal(signal.SIGINT)
            assert watch.wait(30) == 130
        finally:
            watch.kill()

    rows = read_csv(out)
    assert [float(row["score"]) for row in rows] == pytest.approx(expected, abs=1e-5)
    sent = [pydicom.dcmread(film) for film in films]
    assert [row["SOPInstanceUID"] for row in rows] == [ds.SOPInstanceUID for ds in sent]
    assert [Path(row["path"]).name for row in rows] == [f"{ds.SOPInstanceUID}.dcm" for ds in sent]
    assert len({*expected}) == 2
    page = (tmp_path / "night.html").read_text(encoding="utf-8")
    assert all(str(row["path"]) in page and row["SOPInstanceUID"] in page for row in rows)
