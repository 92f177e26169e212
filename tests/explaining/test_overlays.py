"""Pictures of `test.py --heatmaps`."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from running import TINY, invoke, read_csv, read_json, stopped, train

from salad import cli
from salad.explaining.overlays import file_names


def test_a_picture_of_every_image(data, tmp_path):
    train(tmp_path / "xp", data)
    result = invoke(cli.test, "CXR_author", "unet", tmp_path / "xp", data, *TINY, "--heatmaps", tmp_path / "maps/here")
    assert result.exit_code == 0, result.stderr
    names = [row["path"].replace("/", "__") + ".png" for row in read_csv(tmp_path / "xp/scores.csv")]
    assert sorted(path.name for path in (tmp_path / "maps/here").iterdir()) == sorted(names)
    with Image.open(tmp_path / "maps/here" / names[0]) as picture:
        assert picture.mode == "RGB" and picture.width > 3 * 384 and picture.height > 384
    assert "localisation" not in read_json(tmp_path / "xp/metrics.json") and "pixel AUC" not in result.stderr


def test_a_folder_that_cannot_be_made(data, tmp_path):
    train(tmp_path / "xp", data)
    (tmp_path / "file").touch()
    folder = tmp_path / "file/maps"
    line = stopped(invoke(cli.test, "CXR_author", "unet", tmp_path / "xp", data, *TINY, "--heatmaps", folder))
    assert line.startswith(f"Error: --heatmaps {folder}: cannot be made")


@given(st.lists(st.text(max_size=150), max_size=8))
def test_file_names_are_safe_and_different(names):
    found = file_names([*names, "../../etc/passwd", "..", "", "a/b.png", "a__b.png", "A__B.PNG", "a" * 300])
    assert len({name.lower() for name in found}) == len(found) == len(names) + 7
    for name in found:
        assert name == Path(name).name and name.endswith(".png") and len(name.encode()) < 200
        assert not name.startswith(".") and set(name).isdisjoint("/\\:\0\n")
