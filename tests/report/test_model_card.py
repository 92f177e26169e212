"""The model card of test.py: what it says, and that nothing in it breaks out of its line."""

import csv
import re
import shutil
from types import SimpleNamespace

import pytest
from running import TINY, invoke, read_json, stopped, train

from salad import cli
from salad.config import Config, describe_changes
from salad.datasets import phantom
from salad.report.model_card import escaped
from salad.runs.folder import CARD_MARK, RunFolder

PATIENT = "PATIENT-4711"
FINDINGS = ("*nodule*", "`mass` <img src=x>", "line\nbreak **bold**")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The card of a tiny model whose table has views and hostile findings, and the folders behind it."""
    root = tmp_path_factory.mktemp("card")
    data, xp = root / "secret folder", root / "xp"
    phantom.write_phantom(data, size=32, num_train=8, num_val=4, num_test=6)
    with (data / "labels.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        writer.writerow(["path", "patient_id", "finding", "view"])
        for i, file in enumerate(sorted(data.rglob("*.png"))):
            finding = "" if "normal" in file.parent.name.split(".")[1:] else FINDINGS[i % 3]
            writer.writerow([file.relative_to(data).as_posix(), f"{PATIENT}-{i // 2}", finding, ["PA", "A|P"][i % 2]])
    train(xp, data, "--cache", "off")
    return SimpleNamespace(xp=xp, data=data, text=card(xp, data), metrics=read_json(xp / "metrics.json"))


def card(xp, data, *options):
    """The text of the card of a test."""
    result = invoke(cli.test, "CXR_author", "unet", xp, data, *TINY, "--cache", "off", *options)
    assert result.exit_code == 0, result.stderr
    assert "model card: " in result.stderr and result.output.splitlines()[-1].startswith("AUC score = ")
    return ((options[1] if options else xp) / "model_card.md").read_text(encoding="utf-8")


def section(text, name):
    return text.split(f"## {name}\n")[1].split("\n## ")[0]


def cells(text):
    """The cells of each row of the table, by the name of the metric."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert {len(row) for row in rows} == {4}  # in spite of findings with a pipe
    return {row[0]: row[1:] for row in rows}


def test_the_card_tells_model_data_and_use(made):
    model, data = section(made.text, "Model"), section(made.text, "Data")
    assert made.text.startswith(f"{CARD_MARK}\n\n# Model card: unet for CXR\\_author\n")
    assert "not a medical device" in section(made.text, "Intended use")
    assert made.metrics["made_from"]["model"] in model and "64 x 64 px" in model and "--ans\\_size 3" in model
    assert re.search(r"\*\*Training time:\*\* \d+ s in 2 epochs", model)
    assert "**Training images:** 8 images: 8 normal (0.normal); 4 patients; A\\|P 4, PA 4" in data
    assert "**Validation images:** 8 images: 4 normal (0.normal), 4 abnormal (1.abnormal); 4 patients" in data
    assert "**Test images:** 12 images: 6 normal (0.normal), 6 abnormal (1.abnormal); 6 patients" in data
    assert "**Licence of the images:** not known to the program" in data and "**Drift:** " in data
    assert "predict --load_model model.tar" in section(made.text, "How to score with it")


def test_the_numbers_are_those_of_the_test(made):
    table, metrics = cells(section(made.text, "Results on the test images")), made.metrics
    auc = metrics["auc"]
    assert table["AUC of the model's score"][:2] == [f"{auc['value']:.4f}", f"{auc['low']:.4f} to {auc['high']:.4f}"]
    assert table["AUC of the mean grey level"][0] == f"{metrics['baseline_auc']['image_mean']['value']:.4f}"
    assert table["Threshold"] == [
        f"{metrics['at_threshold']['threshold']:#.6g}",
        "",
        "95 % of 4 validation normals score at or below it",
    ]
    for view, shown in (("PA", "PA"), ("A|P", r"A\|P")):
        assert table[f"AUC, view {shown}"] == [
            f"{metrics['auc_by_view'][view]['value']:.4f}",
            table[f"AUC, view {shown}"][1],
            "3 normal, 3 abnormal",
        ]
    for warning in metrics["warnings"]:
        assert escaped(warning) in section(made.text, "Warnings")
    missing = section(made.text, "Not measured")
    assert "Localisation" in missing and "By sex, age:" in missing and "AUC, average" not in missing


def test_nobody_and_no_path_is_named_and_names_stay_in_their_line(made):
    assert PATIENT not in made.text and str(made.data) not in made.text and made.data.name not in made.text
    assert "<img" not in re.sub(r"\\<", "", made.text) and "line\nbreak" not in made.text
    assert {r"AUC, finding \*nodule\*", r"AUC, finding \`mass\` \<img src=x\>"} <= cells(made.text).keys()


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a|b", r"a\|b"),
        ("`x` *y* _z_", r"\`x\` \*y\* \_z\_"),
        ("two\nlines\x1b", r"two\\nlines\\x1b"),
        ("[a](b) <i> & #1 ~~", r"\[a\](b) \<i\> \& \#1 \~\~"),
        ("https://a.b: c", r"https\://a.b: c"),
        (r"a\|b", r"a\\\|b"),
    ],
)
def test_nothing_in_a_name_is_markdown(text, safe):
    assert escaped(text) == safe


def test_without_abnormal_films_and_val_the_card_says_what_is_missing(made, tmp_path):
    shutil.copytree(made.data, tmp_path / "data", ignore=shutil.ignore_patterns("1.abnormal", "val", "labels.csv"))
    shutil.copy(made.xp / "model.tar", tmp_path)  # without its config.json and metrics.jsonl
    text = card(
        made.xp, tmp_path / "data", "--out", tmp_path / "out", "--load_model", tmp_path / "model.tar", "--score", "svdd"
    )
    missing = section(text, "Not measured")
    for line in (
        "AUC, average precision and operating points: the test holds no abnormal image",
        "Threshold, ",
        "By finding, view",
    ):
        assert line in missing
    assert "undefined" not in text and "All images belong to one class" in text
    assert section(text, "Data").count("images:** not known to the program") == 3  # licence, train/ and val/
    assert "**Training time:** not known" in text


def test_a_card_of_the_user_is_kept_and_an_own_one_replaced(made, tmp_path):
    words = [made.xp, made.data, *TINY, "--cache", "off", "--out", tmp_path]
    (tmp_path / "model_card.md").write_text("# my notes")
    result = invoke(cli.test, "CXR_author", "unet", *words)
    assert result.exit_code == 0 and (tmp_path / "model_card.md").read_text() == "# my notes"
    assert f"{tmp_path / 'model_card.md'}: is not by test.py, so it is kept" in result.stderr
    RunFolder(tmp_path).clear()
    assert (tmp_path / "model_card.md").read_text() == "# my notes"
    (tmp_path / "model_card.md").write_text(f"{CARD_MARK}\nold")
    assert "holds results (model_card.md) that do not say" in stopped(invoke(cli.test, "CXR_author", "unet", *words))
    assert invoke(cli.test, "CXR_author", "unet", *words, "--overwrite").exit_code == 0
    assert "\nold" not in (tmp_path / "model_card.md").read_text(encoding="utf-8")
    RunFolder(tmp_path).clear()
    assert not (tmp_path / "model_card.md").exists()


def test_options_are_told_by_what_they_change(tmp_path):
    given = {"dataset_name": "CXR_author", "net_name": "unet", "xp_path": tmp_path, "data_path": tmp_path}
    assert describe_changes(Config.of(given).as_json()) == "none"
    strong = Config.of({**given, "recipe": "strong"})  # its values are set by the command line
    assert describe_changes({**strong.as_json(), "cache": "x", "no_such": 1}).startswith("recipe strong, --")
    assert (
        describe_changes({"net_name": "unet", "lr": 0.5, "lr_milestone": [3, 4], "recipe": "gone"})
        == "--lr 0.5, --lr_milestone 3 4"
    )
