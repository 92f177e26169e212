import logging
import random
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from running import invoke, read_csv, read_json, score, train
from tiny_backbone import SCORES, tiny_networks

from salad.cli import main
from salad.datasets import read_split
from salad.datasets.hold_out import hold_out
from salad.samples import Sample, Selection, Split

HELD = Selection(val_share=0.25)


def split_of(patients):
    samples = [Sample(Path(f"{i}.png"), f"{i}.png", i % 2, patient=patient) for i, patient in enumerate(patients)]
    return Split(samples=samples, normal_class="0", classes=("0", "1"), doubts=("odd",))


@given(st.lists(st.sampled_from([None, *"abcdefgh"]), min_size=2, max_size=40), st.floats(0.01, 0.5))
def test_a_share_of_the_patients_is_held_out(patients, share):
    whole = split_of(patients)
    rest, held = hold_out(whole, share)
    people = [{sample.patient or sample.name for sample in one.samples} for one in (whole, rest, held or split_of([]))]
    if len(people[0]) == 1:
        assert rest is whole and held is None
        return
    assert not people[1] & people[2] and people[1] and len(people[2]) == max(1, round(share * len(people[0])))
    order = [sample for sample in whole.samples if sample in rest.samples]
    assert rest.samples == order and {*rest.samples, *held.samples} == {*whole.samples}
    mixed = random.Random(0).sample(whole.samples, len(whole.samples))
    again = hold_out(Split(samples=mixed, normal_class="0", classes=("0", "1")), share)
    assert {*again.val.samples} == {*held.samples}
    assert rest.doubts and not held.doubts  # said once


def test_the_same_patients_on_every_machine():
    _, held = hold_out(split_of([str(number) for number in range(40)]), 0.1)
    found = sorted(int(sample.patient) for sample in held.samples)
    assert found == [4, 24, 32, 38]  # never to change: runs depend on it


def test_a_val_that_is_there_stands(write_folders, caplog):
    names = [f"train/{label}/{i}.png" for label in ("0.normal", "1.abnormal") for i in range(8)]
    data = write_folders(*names, "test/0.normal/a.png")
    with caplog.at_level(logging.INFO):
        found = {name: read_split("CXR_author", data, name, selection=HELD) for name in ("train", "val", "test")}
    assert [len(one.samples) for one in found.values()] == [12, 4, 1]
    assert {sample.name for name in ("train", "val") for sample in found[name].samples} == set(names)
    assert caplog.text.count("val: none, so 4 of 16 training images are held out") == 1
    assert read_split("CXR_author", data, "val") is None

    write_folders("val/0.normal/b.png")
    assert len(read_split("CXR_author", data, "train", selection=HELD).samples) == 16
    (own,) = read_split("CXR_author", data, "val", selection=HELD).samples
    assert own.name == "val/0.normal/b.png"


def test_readers_speak_once(write_folders, caplog):
    data = write_folders("images/a.png", "images/b.png", "images/c.png")
    (data / "data.json").write_text(
        '{"train": {"0": ["a.png", "b.png", "gone.png"]}, "test": {"0": ["c.png"], "1": []}}'
    )
    with caplog.at_level(logging.INFO):
        rest, held = (read_split("MedIAnomaly", data, name, selection=HELD) for name in ("train", "val"))
    assert len(rest.samples) == len(held.samples) == 1
    assert caplog.text.count("1 of 3 images of train are missing") == 1


def test_a_fused_score_needs_no_val_of_the_data_set(data, tmp_path):
    with tiny_networks():
        train(tmp_path, data, *SCORES["fused"], "--val_share", 0.25)
        found = score(tmp_path, data, "--report", "--min_normals", 1, "--heatmaps", tmp_path / "maps")
        log = (tmp_path / "log.txt").read_text(encoding="utf-8")
        lines = invoke(main, "inspect", "CXR_author", data, "--val_share", 0.25).stdout.splitlines()
    config = read_json(tmp_path / "config.json")
    assert config["val_share"] == 0.25 and config["run"]["num_val"] == 2
    assert np.isfinite(found).all() and "" not in [row["percentile"] for row in read_csv(tmp_path / "scores.csv")]
    assert "not at hand" not in log and "leak" not in log  # the training images are known again, without those held out
    assert lines[0].startswith("train  6 images") and lines[1].startswith("val    2 images")
