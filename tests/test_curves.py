import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from running import REPOSITORY, train

from salad.__main__ import main
from salad.runs.curves import Curves, _plot, as_text


def write_run(folder: Path, *, epochs: int = 4, val: bool = True, slope: float = 1.0) -> Path:
    folder.mkdir(parents=True)
    lines = [
        {
            "epoch": epoch,
            "round": 0 if epoch < 3 else 1,
            "loss": 5 - slope * epoch,
            "rec": 1 / epoch,
            "new_term": 2.0 * epoch,
            "lr": 1e-4,
            "seconds": 3.0,
            "num_anchors": 0,
            "val_auc": 0.5 + epoch / 10 if val else None,
            "val_auc_ci95": [0.4, 0.9] if val else None,
        }
        for epoch in range(1, epochs + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def curves(*words):
    return CliRunner().invoke(main, ["curves", *map(str, words)])


def test_every_term_is_drawn_in_the_terminal(tmp_path):
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two", epochs=2, val=False, slope=3)
    result = curves(one, two / "metrics.jsonl")
    assert result.exit_code == 0, result.output
    blocks = re.split(r"\n\n(?=\S)", result.stdout)
    titles = [block.splitlines()[0] for block in blocks]
    assert titles == ["loss (weighted sum of the terms)", "reconstruction", "new_term", "validation AUC"]
    assert f"{one}: last 1\n" in blocks[0] + "\n" and f"{two}/metrics.jsonl: last -1" in blocks[0]
    assert f"{one}: last 0.9, best 0.9" in blocks[3] and str(two) not in blocks[3]
    assert re.findall(r"^ +(-?[\d.]+)(?: [ ▁▂▃▄▅▆▇█]+)?$", blocks[0], re.MULTILINE) == ["4", "-1"] * 2  # one scale
    assert max(len(line) for line in result.stdout.splitlines() if str(tmp_path) not in line) <= 80


@pytest.mark.parametrize("num_epochs", [1, 3, 10, 11, 100, 3000])
def test_the_height_of_a_bar_is_the_value(num_epochs):
    points = [(epoch, float(epoch)) for epoch in range(1, num_epochs + 1)]
    *rows, foot = _plot(points, low=1.0, high=float(num_epochs), last_epoch=num_epochs, columns=20)
    bars = [row[9:].ljust(20)[:20] for row in rows]
    heights = [sum(" ▁▂▃▄▅▆▇█".index(bar[column]) for bar in bars) for column in range(20)]
    drawn = [height for height in heights if height]
    assert drawn == sorted(drawn) and drawn[0] >= 1 and drawn[-1] <= 48
    assert num_epochs == 1 or (drawn[0] <= 5 and drawn[-1] >= 43)
    assert foot.split()[0] == "1" and str(num_epochs) in foot


def test_epochs_without_a_value_are_left_empty():
    bars = _plot([(2, 1.0), (4, 1.0)], low=1.0, high=1.0, last_epoch=4, columns=4)
    assert bars[-2] == "       1  ▁ ▁"


def test_text_on_a_narrow_terminal(tmp_path):
    assert as_text([Curves.read(write_run(tmp_path / "run"))], width=5)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_pictures(tmp_path, suffix):
    runs = [write_run(tmp_path / name) for name in ("a", r"b$\nonsense$", "_c")]
    out = tmp_path / f"curves.{suffix}"
    result = curves(*runs, "--out", out)
    assert result.exit_code == 0 and result.output == "", result.output
    if suffix == "png":
        with Image.open(out) as picture:
            assert picture.width > 1000
    elif suffix == "svg":  # text as text
        text = out.read_text()
        assert all(f">{word}" in text for word in ("new_term", "validation AUC", "epoch (lines: new rounds)"))
        assert text.count("nonsense") and "_c<" in text


def test_mistakes(tmp_path):
    run = write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "young").mkdir()
    (tmp_path / "young/metrics.jsonl").touch()
    for words, message in (
        ([tmp_path / "empty"], "metrics.jsonl: no such file; RUN is an XP_PATH of main.py"),
        ([tmp_path / "young"], "holds no epoch yet"),
        ([run, "--out", tmp_path / "a.gif"], "must end in .png or .svg or .pdf"),
        ([run, "--out", tmp_path / "nowhere/a.png"], "cannot be written (No such file or directory)"),
    ):
        result = curves(*words)
        assert result.exit_code == 2 and message in result.stderr and result.stderr.count("\n") == 1
        assert result.stdout == ""


def test_curves_of_a_real_run_without_heavy_imports(data, tmp_path):
    train(tmp_path / "run", data)
    code = (
        "import sys; from salad.__main__ import main; main(['curves', sys.argv[1]], standalone_mode=False); "
        "assert not {'torch', 'matplotlib', 'sklearn'}.intersection(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "run"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "aggregation" in done.stdout and "Deep SVDD" in done.stdout and "validation AUC" not in done.stdout
