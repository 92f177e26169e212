"""What tables beside class folders, and the names of files, tell of images."""

import os
from pathlib import Path

import pytest

from salad.datasets import annotate, read_split
from salad.datasets.annotate import patient_from_name


def read(data_path, split="train"):
    return {sample.name: sample for sample in read_split("CXR_author", data_path, split).samples}


@pytest.mark.parametrize("is_kermany", [False, True])
@pytest.mark.parametrize(
    ("stem", "patient"),
    [
        ("00000231_013", "231"),
        ("00030805_000", "30805"),
        ("20200101_001", None),  # a day, not a patient
        ("00000231_13", None),
        ("person12_bacteria_45", "person12_bacteria"),
        ("person12_virus_45", "person12_virus"),  # counted anew: another child
        ("person12_virus_45_2", "person12_virus"),
        ("person12", None),
        ("PERSON12_VIRUS_45", "person12_virus"),
        ("00000231_013 (1)", "231"),
        ("00000231_013 - Copy", "231"),
    ],
)
def test_patients_from_names(stem, patient, is_kermany):
    assert patient_from_name(stem, is_kermany=is_kermany) == patient


def test_names_of_normal_kermany_images_count_in_that_set_alone(write_folders):
    images = ["train/0.normal/IM-0115-0001.png", "train/0.normal/IM-0115-0002-0001.png"]
    assert [sample.patient for sample in read(write_folders(*images)).values()] == [None, None]
    series = ["train/0.normal/NORMAL2-IM-0115-0001.png"]
    assert [sample.patient for sample in read(write_folders(*series)).values()] == ["IM-0115"] * 2 + ["NORMAL2-IM-0115"]


def test_names_of_known_sets_tell_that_they_are_chests(write_folders):
    data_path = write_folders("train/0.normal/00000001_000.png", "train/0.normal/IM-0115-0001.png")
    (data_path / "labels.csv").write_text("path,patient\n00000001_000.png,7\n")
    assert [(sample.patient, sample.part) for sample in read(data_path).values()] == [("7", "CHEST"), (None, None)]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".CSV"])
def test_table_by_path(write_folders, suffix):
    data_path = write_folders("train/0.normal/a.png", "train/1.ill/a.png")
    rows = [
        "path,finding_labels,patient_id,age,view",
        "train/0.normal/a.png,No Finding,7,50,PA",
        "./train/1.ill/a.png,Edema|Mass,8,51,AP",
    ]
    separator = "\t" if suffix == ".tsv" else ","
    (data_path / f"labels{suffix}").write_text("\n".join(rows).replace(",", separator))
    normal, ill = read(data_path).values()
    assert (normal.patient, normal.view, normal.findings) == ("7", "PA", ("No Finding",))
    assert (ill.patient, ill.view, ill.findings) == ("8", "AP", ("Edema", "Mass"))
    assert [normal.label, ill.label] == [0, 1]


def test_official_table_by_file_name_and_table_before_name(write_folders):
    data_path = write_folders("train/0.normal/00000001_000.png", "train/0.normal/00000002_000.png")
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
    (data_path / "Data_Entry_2017.csv").write_text(header + "00000001_000.png,No Finding,0,99,41,F,AP\n")
    listed, other = read(data_path).values()
    assert (listed.patient, listed.view, listed.findings) == ("99", "AP", ("No Finding",))
    assert (other.patient, other.view, other.findings) == ("2", None, ())


def test_rows_of_one_image_are_joined(write_folders):
    data_path = write_folders("train/0.normal/a.png")
    (data_path / "boxes.csv").write_text("image,finding\na.png,Mass\na.png,Edema\na.png,Mass\n")
    (data_path / "people.csv").write_text("file,patient\na.png,p\n")
    (sample,) = read(data_path).values()
    assert (sample.patient, sample.findings) == ("p", ("Mass", "Edema"))


def test_label_counts_where_there_is_no_finding(write_folders):
    data_path = write_folders("train/0.normal/a.png", "train/0.normal/b.png", "train/0.normal/c.png")
    (data_path / "t.csv").write_text("path,label,finding\na.png,0,\nb.png,1,\nc.png,1,virus\n")
    assert [sample.findings for sample in read(data_path).values()] == [("normal",), ("abnormal",), ("virus",)]


def test_a_name_that_two_images_have_tells_neither(write_folders):
    data_path = write_folders("train/0.normal/a.png", "train/1.ill/a.png", "train/1.ill/b.png")
    (data_path / "t.csv").write_text("image,patient\na.png,7\nb.png,8\n")
    assert [sample.patient for sample in read(data_path).values()] == [None, None, "8"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_tables_as_programs_save_them(write_folders, encoding, newline, delimiter):
    data_path = write_folders("train/0.normal/r\u00f6ntgen.png")
    rows = [
        [" Image_Path", "PATIENT-ID ", "Patient  Age", ""],
        [".\\train\\0.normal\\r\u00f6ntgen.png ", "7", "058Y", "PA"],
    ]
    text = newline.join(delimiter.join(row) for row in rows)
    (data_path / "t.csv").write_bytes(text.encode(encoding))
    (sample,) = read(data_path).values()
    assert (sample.patient, sample.age, sample.view) == ("7", 58, None)


def test_a_table_can_name_any_file(write_folders):
    data_path = write_folders("train/0.normal/a.png")
    (data_path / "train/0.normal/a.png").rename(os.fsdecode(os.fsencode(data_path / "train/0.normal/") + b"/r\xf6.png"))
    (data_path / "t.csv").write_bytes(b"path,patient\nr\xf6.png,7\n")
    assert [(name, sample.patient) for name, sample in read(data_path).items()] == [
        (r"train/0.normal/r\udcf6.png", "7")
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"a,b\n1,2\n",
        b"path\nx.png\n",  # says nothing of it
        b"patient,view\n1,PA\n",  # of no image
        b"path,patient\n\xff\xfe\x00.png,1\nshort\n",
        b'path,patient\n"open',
        b"path,patient\na.png,1\na.png,1,2\n",
        b"path,patient\n" + b"x" * 200_000 + b",1\n",  # longer than a cell may be
    ],
)
def test_other_tables_say_nothing_and_stop_nothing(write_folders, content):
    data_path = write_folders("train/0.normal/a.png")
    (data_path / "t.csv").write_bytes(content)
    assert read(data_path)["train/0.normal/a.png"].patient is None


def test_a_table_of_images_with_a_broken_row_is_named_and_left_out(write_folders, caplog):
    data_path = write_folders("train/0.normal/a.png")
    (data_path / "t.csv").write_text("path,patient\na.png,1\nb.png,Mass, left\n")
    (data_path / "u.csv").write_text("path,view\na.png,PA\n")
    (sample,) = read(data_path).values()
    assert (sample.patient, sample.view) == (None, "PA")
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "t.csv: line 3 has 3 fields, but there are 2 columns" in record.message


def test_what_is_no_table_is_never_opened(write_folders, monkeypatch):
    data_path = write_folders("train/0.normal/a.png")
    os.mkfifo(data_path / "pipe.csv")  # reading it would wait for ever
    (data_path / "folder.csv").mkdir()
    (data_path / "link.csv").symlink_to("absent")
    monkeypatch.setattr(annotate, "MAX_TABLE_BYTES", 10)
    (data_path / "large.csv").write_text("path,patient\na.png,1\n")
    assert read(data_path)["train/0.normal/a.png"].patient is None


def test_odd_names_are_matched(write_folders):
    name = "r\u00f6ntgen, 1.png"
    data_path = write_folders(f"train/0.normal/{name}")
    (data_path / "t.csv").write_text(f'\ufeffpath,patient\n"{name}",5\n', encoding="utf-8")
    assert [sample.patient for sample in read(data_path).values()] == ["5"]
    assert Path(name).suffix == ".png"


@pytest.mark.parametrize(
    "path",
    ["C:\\data\\train\\0.normal\\a.png", "/mnt/data/train/0.normal/a.png", "TRAIN/0.Normal/A.PNG", "A.png",
     '"""train/0.normal/a.png"""', "file:///data/train/0.normal/a.png"],
)  # fmt: skip
def test_a_table_of_another_system_is_matched(write_folders, path):
    data_path = write_folders("train/0.normal/a.png", "train/0.normal/b.png")
    (data_path / "t.csv").write_text(f"path,patient_id\n{path},12.0\nother/b.png,7\n")
    assert [sample.patient for sample in read(data_path).values()] == ["12", None]


@pytest.mark.parametrize("text", ["", "nan", "None", "<NA>", "N/A", "unknown", "-", "Anonymous"])
def test_an_unknown_patient_of_a_table_is_nobody(write_folders, text):
    data_path = write_folders("train/0.normal/00000231_013.png", "train/0.normal/b.png")
    (data_path / "t.csv").write_text(f"file,patient,sex,view\n00000231_013.png,{text},,\nb.png,{text},{text},{text}\n")
    known, other = read(data_path).values()
    assert known.patient == "231"  # of the name
    assert (other.patient, other.sex, other.view) == (None, None, None)
