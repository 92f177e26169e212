"""boxes.csv beside class folders."""

import pytest

from salad.datasets import read_split
from salad.errors import InputError

HEADER = "path,x,y,width,height"


def read(data_path, split="test"):
    return {sample.path.name: sample for sample in read_split("CXR_author", data_path, split).samples}


@pytest.fixture
def folders(write_folders):
    return write_folders("train/0.normal/n.png", "test/0.normal/a.png", "test/1.ill/b.png", "test/1.ill/c.png")


@pytest.mark.parametrize("name", ["boxes.csv", "Boxes.CSV", "boxes.tsv"])
def test_boxes_and_their_labels(folders, name):
    rows = [
        f"{HEADER},label",
        "test/1.ill/b.png,1,2,3.5,4,Mass",
        "./test/1.ill/b.png,0,0,1,1,Edema",
        "test/1.ill/b.png,5,5,1,1,Mass",
        "test/1.ill/c.png,,,,,",
    ]
    (folders / name).write_text("\n".join(rows).replace(",", "\t" if name.endswith("tsv") else ","))
    found = read(folders)
    assert found["b.png"].boxes == ((1, 2, 4.5, 6), (0, 0, 1, 1), (5, 5, 6, 6))
    assert found["b.png"].findings == ("Mass", "Edema")
    assert found["a.png"].boxes == found["c.png"].boxes == () and found["c.png"].findings == ()


def test_findings_of_a_table_come_before_the_labels_of_boxes(folders):
    (folders / "boxes.csv").write_text(f"{HEADER},label\nb.png,1,2,3,4,Mass\nc.png,1,2,3,4,Mass\n")
    (folders / "labels.csv").write_text("path,finding,view\ntest/1.ill/b.png,Pneumonia,AP\n")
    found = read(folders)
    assert (found["b.png"].findings, found["b.png"].view) == (("Pneumonia",), "AP")
    assert found["c.png"].findings == ("Mass",) and found["c.png"].boxes == ((1, 2, 4, 6),)


def test_a_table_of_that_name_without_boxes_is_one_of_findings(folders):
    (folders / "boxes.csv").write_text("path,label\ntest/1.ill/b.png,Mass\n")
    found = read(folders)["b.png"]
    assert found.findings == ("Mass",) and found.boxes == ()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("b.png,1,2,x,4", "boxes.csv: line 3: column 'width' is 'x', which is no number: boxes are in pixels"),
        ("b.png,1,,3,4", "line 3: column 'y' is '', which is no number"),
        ("b.png,inf,2,3,4", "line 3: column 'x' is 'inf'"),
        ("b.png,1,2,3,0", "line 3: column 'height' is 0, but must be above 0"),
        ("b.png,1,2,-3,4", "line 3: column 'width' is -3, but must be above 0"),
        (",1,2,3,4", "line 3: column 'path' is empty: name the image of the box"),
        ("b.png,1,2,3,4,5", "line 3 has 6 fields, but there are 5 columns"),
    ],
)
def test_a_row_that_is_no_box_is_named(folders, row, said):
    (folders / "boxes.csv").write_text(f"{HEADER}\nc.png,1,2,3,4\n{row}\n")
    with pytest.raises(InputError) as raised:
        read(folders)
    assert said in str(raised.value)


def test_boxes_of_no_image_that_is_named(folders):
    (folders / "boxes.csv").write_text("image,x,y,width,height\nb.png,1,2,3,4\n")
    with pytest.raises(InputError, match="boxes.csv: has no column 'path'; .*; is it 'image'?"):
        read(folders)


def test_boxes_of_absent_images_are_said(folders, caplog):
    rows = ["test/1.ill/gone.png,1,2,3,4", "test/1.ill/b.png,1,2,3,4", "elsewhere/d.png,1,2,3,4"]
    (folders / "boxes.csv").write_text("\n".join([HEADER, *rows]))
    read(folders)
    assert "boxes of 1 images that are not in test/ are not used, the first: test/1.ill/gone.png" in caplog.text
    caplog.clear()
    read(folders, "train")
    assert caplog.text == ""
