"""The command lines: what they take, and how they refuse what they cannot do."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner
from running import (
    REPOSITORY,
    SHORT,
    TINY,
    assert_same_scores,
    invoke,
    read_csv,
    read_json,
    read_tar,
    refuse_test,
    score,
    stopped,
    train,
)

from salad import cli
from salad.cli import main
from salad.cli.runs import without_resume
from salad.config import ARGUMENTS, OPTIONS, Config
from salad.config.data import num_cores
from salad.config.declare import TEST, TRAIN

COMMANDS = {"main.py": cli.train, "test.py": cli.test}

# The two lines of the requirements, as typed.
TRAIN_LINE = (
    "python main.py CXR_author CXR_resnet18 log/CXR_test data/author --lr 0.0001 --n_epochs 30 --lr_milestone 100 "
    "--batch_size 32 --weight_decay 1e-6 --n_jobs_dataloader 12 --isize 224 --rep_dim 200 --w_rec 0.5 --w_svdd 0.5"
)
TEST_LINE = (
    "python test.py CXR_author unet log/finaltest/ data/author --batch_size 32 --n_jobs_dataloader 12 --isize 256 "
    "--k 150 --rep_dim 200 --load_model log/test4/model_round10.tar"
)

# Every option of main.py in the requirements, with the default that its help must state.
TRAIN_DEFAULTS = {
    "batch_size": "32", "rep_dim": "200", "seed": "2", "device": "auto", "optimizer_name": "adam", "lr": "0.0001",
    "lr_milestone": "100", "weight_decay": "1e-06", "n_epochs": "30", "pre_training_epochs": "0", "k": "100",
    "w_rec": "0.5", "w_svdd": "0.5", "w_contrast": "1.0", "rec_loss": "l1", "objective": "one-class", "nu": "0.1",
    "npc_temperature": "0.1", "npc_momentum": "0.5", "ans_select_rate": "0.1", "ans_size": "10", "weights": "imagenet",
    "train_on": "normal", "augment": "ssl", "n_views": "1", "resize": "squash", "normal_class": "the first",
    "normalize": "fixed", "trim": "off", "crop": "1.0", "align": "off",
    "isize": "256 for unet, 224 for CXR_resnet18", "load_model": "none",
    "n_jobs_dataloader": str(num_cores()), "on_bad_image": "error", "amp": "auto", "deterministic": "off",
    "compile": "off", "overwrite": "off", "resume": "a new run", "load_config": "none", "debug": "off",
}  # fmt: skip
TEST_OPTIONS = {
    "batch_size", "n_jobs_dataloader", "isize", "k", "rep_dim", "load_model", "load_config", "device", "seed",
    "deterministic", "compile", "resize", "normalize", "trim", "crop", "align", "normal_class", "score", "on_bad_image",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny network, scored: 8 rows."""
    xp = tmp_path_factory.mktemp("run") / "xp"
    train(xp, data)
    score(xp, data)
    return xp


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be put at risk."""
    return shutil.copytree(run, tmp_path / "copy")


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the log, which may grow."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "log.txt"}


def refuse_train(xp: Path, data: Path, *options: object, net: str = "unet", dataset: str = "CXR_author") -> str:
    return stopped(invoke(cli.train, dataset, net, xp, data, *SHORT, *options))


# What is taken --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [TRAIN_LINE, TEST_LINE])
def test_the_lines_of_the_requirements_parse_as_typed(line):
    _, program, *words = line.split()
    with COMMANDS[program].make_context(program, list(words)) as context:
        given = {name: value for name, value in context.params.items() if name not in ("load_config", "debug")}
    typed = dict(zip(words[4::2], words[5::2], strict=True))
    for flag, text in typed.items():
        value = given[flag.removeprefix("--")]
        assert str(value) == text or float(value[0] if isinstance(value, tuple) else value) == float(text), flag
    config = Config.of({name: value for name, value in given.items() if value not in (None, ())})
    assert [config.data.dataset_name, config.network.net_name] == words[:2]
    assert [config.output.xp_path, config.data.data_path] == [Path(words[2]), Path(words[3])]


def test_defaults_equal_the_first_line():
    _, program, *words = TRAIN_LINE.split()
    with cli.train.make_context(program, list(words)) as context:
        typed = {name: value for name, value in context.params.items() if value not in (None, ())}
    del typed["n_jobs_dataloader"], typed["debug"]
    names = ("dataset_name", "net_name", "xp_path", "data_path")
    assert Config.of({name: typed[name] for name in names}) == Config.of(typed)
    assert Config.of({**{name: typed[name] for name in names}, "net_name": "unet"}).images.isize == 256


def help_texts(program: str) -> dict[str, str]:
    """Help of every option, by name, with its line breaks taken out."""
    shown = CliRunner().invoke(COMMANDS[program], ["--help"]).stdout
    entries = re.split(r"\n  (?:-h, )?--", shown[shown.index("\nData:") :])[1:]
    return {entry.split()[0]: " ".join(entry.split()) for entry in entries}


def test_main_help_states_every_option_with_its_default():
    texts = help_texts("main.py")
    assert texts.keys() >= TRAIN_DEFAULTS.keys()
    for name, default in TRAIN_DEFAULTS.items():
        stated = re.search(r"\[default: ([^]]*)\]", texts[name])
        assert stated, f"--{name} states no default"
        assert stated[1] == default or stated[1].startswith((f"{default}, ", f"{default};", f"{default} for")), name


@pytest.mark.parametrize("program", COMMANDS)
def test_no_option_is_without_a_default(program):
    stated = {name for name, text in help_texts(program).items() if "[default: " in text}
    assert help_texts(program).keys() - stated == {"help", "version"}


def test_test_help_says_that_the_checkpoint_goes_before_the_defaults():
    shown = " ".join(CliRunner().invoke(cli.test, ["--help"]).stdout.split())
    assert "are those of the training by default" in shown


@pytest.mark.parametrize(("num_allowed", "expected"), [(1, 1), (2, 2), (64, 16)])
def test_threads_are_as_many_as_the_cores_that_may_be_used_up_to_16(monkeypatch, num_allowed, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(num_allowed)), raising=False)
    assert num_cores() == expected


def test_help_has_units_and_a_sentence_for_every_option():
    for program in COMMANDS:
        for name, text in help_texts(program).items():
            words = re.sub(r"\[[^]]*\]", "", text).split()
            assert len(words) >= 2, f"--{name} of {program} is not explained: {text}"
    texts = help_texts("main.py")
    for name, unit in {"isize": "pixels", "n_epochs": "epochs", "lr_milestone": "Epoch", "k": "rows"}.items():
        assert unit in texts[name]


def test_test_help_states_its_options():
    texts = help_texts("test.py")
    assert texts.keys() >= TEST_OPTIONS
    assert "[default: as in training]" in texts["score"]


@pytest.mark.parametrize(("program", "takes"), [("main.py", TRAIN), ("test.py", TEST)])
def test_options_are_those_that_config_declares_and_no_others(program, takes):
    names = [parameter.name for parameter in COMMANDS[program].params]
    declared = [one.name for one in OPTIONS.values() if takes in one.facts.commands]
    assert names[:4] == list(ARGUMENTS)
    assert sorted(names) == sorted([*declared, "normal", "load_config", "debug", "version"])
    assert len(set(names)) == len(names)


def test_no_module_but_config_declares_an_option():
    names = "|".join(OPTIONS)
    declares = re.compile(rf"(option|Option|argument|Argument|add_argument)\(\s*\[?[\"'](--)?({names})[\"']")
    modules = [REPOSITORY / "main.py", REPOSITORY / "test.py", *(REPOSITORY / "salad").rglob("*.py")]
    found = {path.name for path in modules if declares.search(path.read_text(encoding="utf-8"))}
    assert found <= {"detector.py", "data.py", "films.py", "study.py"}  # a default may be called as an option is
    assert declares.search('@click.option("--lr", default=1e-4)')  # what it would catch


@pytest.mark.parametrize("program", COMMANDS)
def test_help_does_not_wait_for_torch(program):
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'torchvision', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr); sys.exit(code)"
    )
    words = [sys.executable, "-c", code, program, "--help"]
    result = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY)
    assert result.returncode == 0 and result.stdout.startswith(f"Usage: {program}")
    assert result.stderr.strip() == "[]"


# Misspelt and unknown -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("program", COMMANDS)
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["CXR_nobody", "unet"], ["CXR_nobody", "CXR_author", "CXR_phantom"]),
        (["CXR_author", "vit"], ["vit", "unet", "CXR_resnet18"]),
    ],
)
def test_unknown_names_list_the_known_ones(program, words, named, run, tmp_path):
    options = ["--load_model", run / "model.tar"] if program == "test.py" else []
    line = stopped(invoke(COMMANDS[program], *words, tmp_path / "xp", tmp_path, *options))
    assert all(name in line for name in named)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--learning_rate", "1"], "--learning_rate"),
        (["--augment", "mixup"], "'mixup' is not one of 'ssl', 'flip'"),
        (["--n_epochs", "many"], "'many' is not a valid integer"),
        (["--lr"], "--lr"),
        (["one too many"], "one too many"),
    ],
)
def test_misspelt_options_are_named(options, named, tmp_path):
    result = CliRunner().invoke(cli.train, ["CXR_author", "unet", str(tmp_path / "xp"), str(tmp_path), *options])
    assert result.exit_code == 2 and result.stdout == ""
    assert named in result.stderr.splitlines()[-1] and result.stderr.splitlines()[-1].startswith("Error: ")
    assert not (tmp_path / "xp").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--lr 0", "--lr is 0.0"),
        ("--lr nan", "--lr is nan"),
        ("--lr inf", "--lr is inf"),
        ("--batch_size 0", "--batch_size is 0"),
        ("--n_views 0", "--n_views is 0"),
        ("--nu 0", "--nu is 0.0"),
        ("--nu 1.5", "--nu is 1.5"),
        ("--npc_momentum 1", "--npc_momentum is 1.0"),
        ("--npc_temperature 0", "--npc_temperature is 0.0"),
        ("--ans_select_rate 1.1", "--ans_select_rate is 1.1"),
        ("--k 0", "--k is 0"),
        ("--seed -2", "--seed is -2"),
        ("--lr_milestone 0", "--lr_milestone is 0"),
        ("--isize 100", "--isize is 100, but unet needs a multiple of 64"),
        ("--w_rec 0 --w_svdd 0 --w_contrast 0", "nothing to train"),
        ("--w_rec 0 --pre_training_epochs 1", "--w_rec is 0"),
    ],
)
def test_values_out_of_bounds_are_named_before_anything_is_written(options, named, data, tmp_path):
    assert named in refuse_train(tmp_path / "xp", data, *options.split())
    assert not (tmp_path / "xp").exists()


def test_resnet_sizes_are_multiples_of_16(data, tmp_path):
    assert "CXR_resnet18 needs a multiple of 16: 96" in refuse_train(tmp_path, data, "--isize", 100, net="CXR_resnet18")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, "cannot be read"),
        ("{", "not a JSON file"),
        ("[1]", "must hold a JSON object"),
        ('{"n_epoch": 3}', "did you mean 'n_epochs'"),
        ('{"n_epochs": 3.5}', "n_epochs is 3.5"),
        ('{"n_epochs": "3"}', "n_epochs is '3'"),
        ('{"deterministic": 1}', "deterministic is 1"),
        ('{"lr": NaN}', "NaN is not a number of JSON"),
        ('{"weight_decay": -1}', "--weight_decay is -1"),
        ('{"score": "best"}', "--score is 'best'"),
    ],
)
def test_faulty_config_files_are_named(text, named, data, tmp_path):
    file = tmp_path / "options.json"
    if text is not None:
        file.write_text(text)
    assert named in refuse_train(tmp_path / "xp", data, "--load_config", file)


def test_null_in_a_config_file_stands_for_the_default(run, data, tmp_path):
    file = tmp_path / "options.json"
    file.write_text('{"isize": null, "k": null, "weights": null}')
    words = ["CXR_author", "unet", tmp_path, data, "--load_model", run / "model.tar", "--n_jobs_dataloader", 0]
    result = invoke(cli.test, *words, "--load_config", file)
    assert result.exit_code == 0, result.stderr


# Devices --------------------------------------------------------------------------------------------------------

ABSENT = ["cuda:99"] + ["cuda"] * (not torch.cuda.is_available()) + ["mps"] * (not torch.backends.mps.is_available())


@pytest.mark.parametrize("program", COMMANDS)
@pytest.mark.parametrize("device", ABSENT)
def test_an_absent_device_is_an_error(program, device, run, data, tmp_path):
    words = ["CXR_author", "unet", tmp_path, data, "--device", device]
    line = stopped(invoke(COMMANDS[program], *words, *(["--load_model", run / "model.tar"] * (program == "test.py"))))
    assert f"'{device}'" in line and "auto" in line


def test_an_unknown_device_is_an_error(data, tmp_path):
    assert "'gpu'" in refuse_train(tmp_path, data, "--device", "gpu")


# The data -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", COMMANDS)
def test_a_missing_data_path_is_named(program, run, tmp_path):
    words = ["CXR_author", "unet", tmp_path / "xp", tmp_path / "nowhere"]
    line = stopped(invoke(COMMANDS[program], *words, *(["--load_model", run / "model.tar"] * (program == "test.py"))))
    assert str(tmp_path / "nowhere") in line


def test_a_test_folder_is_needed_to_score(run, data, tmp_path):
    root = shutil.copytree(data, tmp_path / "data")
    shutil.rmtree(root / "test")
    assert str(root / "test") in refuse_test(tmp_path / "xp", root, "--load_model", run / "model.tar")


@pytest.mark.parametrize(("kept", "word"), [("0.normal", "normal"), ("1.abnormal", "abnormal")])
def test_one_class_in_test_leaves_the_auc_undefined(run, data, tmp_path, kept, word):
    root = shutil.copytree(data, tmp_path / "data")
    shutil.rmtree(root / "test" / ({"0.normal", "1.abnormal"} - {kept}).pop())
    xp = tmp_path / "xp"
    result = invoke(cli.test, "CXR_author", "unet", xp, root, *TINY, "--load_model", run / "model.tar")
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1
    assert "undefined" in result.stdout and f"are {word})" in result.stdout
    rows = read_csv(xp / "scores.csv")
    assert [row["label"] for row in rows] == [str(int(word == "abnormal"))] * 3
    expected = {row["path"]: row["score"] for row in read_csv(run / "scores.csv")}
    assert {row["path"]: row["score"] for row in rows}.items() <= expected.items()
    metrics = read_json(xp / "metrics.json")
    assert metrics["auc"] is None and {*metrics["baseline_auc"].values()} == {None}


@pytest.mark.parametrize("names", [("abnormal", "normal"), ("ABNORMAL", "NORMAL"), ("bacteria", "healthy")])
def test_a_misleading_class_order_is_an_error_that_names_the_way_out(data, tmp_path, names):
    root = tmp_path / "data"
    for name in names:
        shutil.copytree(data / "train/0.normal", root / "train" / name)
    line = refuse_train(tmp_path / "xp", root)
    assert "--normal_class" in line and all(name in line for name in names)
    train(tmp_path / "xp", root, "--normal_class", names[1])
    assert read_tar(tmp_path / "xp/model.tar")["normal_class"] == names[1]


def test_an_unknown_normal_class_lists_the_classes(data, tmp_path):
    line = refuse_train(tmp_path / "xp", data, "--normal_class", "healthy")
    assert "'healthy'" in line and "0.normal" in line and "--normal_class" in line


# k and the memory -----------------------------------------------------------------------------------------------


def test_k_above_the_normal_rows_is_an_error_with_both_numbers(run, data, tmp_path):
    line = refuse_test(tmp_path, data, "--load_model", run / "model.tar", "--k", 9)
    assert "9" in line and "8 rows" in line
    assert not (tmp_path / "scores.csv").exists()
    line = refuse_train(tmp_path / "xp", data, "--k", 9)
    assert "9" in line and "8 rows" in line


def test_the_default_k_shrinks_with_a_warning(run, data, tmp_path):
    words = ["CXR_author", "unet", tmp_path, data, *TINY, "--load_model", run / "model.tar"]
    result = invoke(cli.test, *words)
    assert result.exit_code == 0
    assert score(tmp_path / "eight", data, "--load_model", run / "model.tar", "--k", 8)
    assert_same_scores(tmp_path, tmp_path / "eight")
    assert any("100" in line and "8" in line for line in result.stderr.splitlines()), result.stderr


def test_metrics_json_records_the_k_in_use(run):
    assert read_json(run / "metrics.json")["k"] == 8


def test_more_neighbours_than_rows_are_an_error_before_training(data, tmp_path):
    line = refuse_train(tmp_path, data, "--ans_size", 8)
    assert "--ans_size is 8" in line and "8 memory rows" in line
    assert not (tmp_path / "metrics.jsonl").exists()


# Flags against the checkpoint -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "net", "values"),
    [
        ([], "CXR_resnet18", ("NET_NAME", "CXR_resnet18", "unet")),
        (["--isize", 128], "unet", ("--isize", "128", "64")),
        (["--rep_dim", 16], "unet", ("--rep_dim", "16", "8")),
        (["--resize", "crop"], "unet", ("--resize", "crop", "squash")),
        (["--normalize", "clahe"], "unet", ("--normalize", "clahe", "fixed")),
        (["--trim"], "unet", ("--trim", "True", "False")),
        (["--npc_temperature", 0.2], "unet", ("--npc_temperature", "0.2", "0.1")),
    ],
)
def test_contradicting_flags_name_both_values(run, data, tmp_path, options, net, values):
    line = refuse_test(tmp_path, data, "--load_model", run / "model.tar", *options, net=net)
    assert all(value in line for value in values)
    assert not (tmp_path / "scores.csv").exists()


def test_a_contradicting_network_name_says_which_to_type(run, data, tmp_path):
    line = refuse_test(tmp_path / "xp", data, "--load_model", run / "model.tar", net="CXR_resnet18")
    assert line.endswith("was trained with unet: type that")  # an argument cannot be left out


def test_flags_that_agree_with_the_checkpoint_change_nothing(run, data, tmp_path):
    agreeing = ["--isize", 64, "--rep_dim", 8, "--resize", "squash", "--npc_temperature", 0.1]
    agreeing += ["--normalize", "fixed", "--no_trim"]
    score(tmp_path, data, "--load_model", run / "model.tar", *agreeing)
    assert_same_scores(tmp_path, run)


def test_what_the_checkpoint_knows_need_not_be_typed(run, data, tmp_path):
    words = ["CXR_author", "unet", tmp_path, data, "--n_jobs_dataloader", 0, "--load_model", run / "model.tar"]
    assert invoke(cli.test, *words).exit_code == 0
    assert_same_scores(tmp_path, run)


@pytest.mark.slow
def test_a_run_trained_with_pad_is_scored_with_pad(data, tmp_path):
    root = shutil.copytree(data, tmp_path / "data")
    train(tmp_path / "xp", root, "--resize", "pad")
    expected = score(tmp_path / "xp", root)
    assert score(tmp_path / "xp", root, "--resize", "pad") == pytest.approx(expected, abs=1e-6)
    assert "crop" in refuse_test(tmp_path / "xp", root, "--resize", "crop")


def test_a_start_that_does_not_fit_is_refused_by_main(run, data, tmp_path):
    line = refuse_train(tmp_path / "xp", data, "--rep_dim", 16, "--load_model", run / "model.tar")
    assert "feat.weight" in line and "(8, 8, 1, 1)" in line and "(16, 8, 1, 1)" in line
    assert str(run / "model.tar") in refuse_train(
        tmp_path / "xp", data, "--isize", 16, "--load_model", run / "model.tar", net="CXR_resnet18"
    )


def test_svdd_scores_need_a_centre(data, tmp_path):
    train(tmp_path, data, "--w_svdd", 0)
    assert "--w_svdd" in refuse_test(tmp_path, data, "--score", "svdd")


@pytest.mark.parametrize(("net", "weights"), [("unet", "imagenet"), ("CXR_resnet18", "nowhere.pt")])
def test_unfit_weights_are_refused(data, tmp_path, net, weights):
    assert weights in refuse_train(tmp_path / "xp", data, "--weights", weights, net=net)


def test_weights_of_another_network_are_refused(data, tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"fc.weight": torch.zeros(2, 2)}, path)
    line = refuse_train(tmp_path / "xp", data, "--isize", 16, "--weights", path, net="CXR_resnet18")
    assert str(path) in line and "conv1.weight" in line


# A run that is there already ------------------------------------------------------------------------------------


def test_a_run_is_never_replaced_unasked(copy, data):
    before = contents(copy)
    line = refuse_train(copy, data)
    assert str(copy) in line and "--overwrite" in line
    assert contents(copy) == before


def test_overwrite_replaces_a_run(copy, data):
    before = contents(copy)
    train(copy, data, "--overwrite", "--seed", 3, "--w_contrast", 0)
    after = contents(copy)
    assert "model_round1.tar" in before and "model_round1.tar" not in after
    assert after["model.tar"] != before["model.tar"]
    assert len(after["metrics.jsonl"].splitlines()) == 1


def test_overwrite_leaves_no_scores_of_the_former_model(copy, data):
    train(copy, data, "--overwrite", "--seed", 3)
    assert not {"scores.csv", "metrics.json"} & contents(copy).keys()


@pytest.mark.parametrize(
    "options",
    [
        ["--k", 1000],
        ["--ans_size", 1000],
        ["--device", "cuda:99"],
        ["--isize", 100],
        ["--normal_class", "nobody"],
        ["--load_model", "nowhere.tar"],
        ["--weights", "imagenet"],
        ["--load_config", "nowhere.json"],
    ],
    ids=lambda options: options[0],
)
def test_overwrite_with_a_mistake_loses_nothing(copy, data, options):
    before = contents(copy)
    refuse_train(copy, data, "--overwrite", *options)
    assert contents(copy) == before


def test_overwrite_with_missing_or_empty_data_loses_nothing(copy, data, tmp_path):
    before = contents(copy)
    refuse_train(copy, tmp_path / "nowhere", "--overwrite")
    (tmp_path / "empty/train/0.normal").mkdir(parents=True)
    assert "holds no image" in refuse_train(copy, tmp_path / "empty", "--overwrite")
    assert contents(copy) == before


def test_overwrite_is_not_repeated_by_a_config_file(copy, data):
    train(copy, data, "--overwrite")
    assert "--overwrite" in refuse_train(copy, data, "--load_config", copy / "config.json")


def test_a_failed_test_keeps_the_former_scores(copy, data):
    before = contents(copy)
    refuse_test(copy, data, "--k", 1000)
    (copy / "model.tar").unlink()
    assert str(copy / "model.tar") in refuse_test(copy, data)
    assert {**before, "model.tar": b""} == {**contents(copy), "model.tar": b""}


def test_an_xp_path_that_cannot_be_written_is_an_error(run, data, tmp_path):
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refuse_train(tmp_path / "file", data)
    assert str(tmp_path / "file") in refuse_test(tmp_path / "file/xp", data, "--load_model", run / "model.tar")


# The script itself ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_error_of_the_script_is_one_line_on_stderr(tmp_path):
    words = [sys.executable, "main.py", "CXR_author", "unet", str(tmp_path / "xp"), str(tmp_path / "nowhere")]
    result = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY)
    assert result.returncode == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("Error: ")


def test_commands_are_click_commands_without_hidden_parameters():
    for command in COMMANDS.values():
        assert isinstance(command, click.Command)
        assert not [one for one in command.params if getattr(one, "hidden", False)]


def test_config_json_is_what_load_config_reads(run):
    values = json.loads((run / "config.json").read_text())
    assert "overwrite" not in values
    names = set(OPTIONS)
    assert values.keys() - {"run"} == names - {"overwrite", "resume"}


@pytest.mark.parametrize(
    "typed", ["--resume auto", "--resume=auto", "--resume", "--overwrite", "--resume must --seed 3"]
)
def test_the_command_that_goes_on_is_the_same_run(typed):
    words = without_resume(["main.py", "CXR_author", "unet", "auto", "data", *typed.split(), "--lr", "0.1"])
    seed = ["--seed", "3"] if "--seed" in typed else []
    assert words == ["main.py", "CXR_author", "unet", "auto", "data", *seed, "--lr", "0.1"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (main, ["inspect", "CXR_author", ""]),
        (main, ["inspect", "CXR_author", " "]),
        (main, ["inspect", "NIH", ".", "--split_dir", ""]),
        (main, ["predict", "--load_model", "m.tar", "--watch", ""]),
        (main, ["predict", "--load_model", "", "a.png"]),
        (main, ["predict", "--load_model", "m.tar", "--calibrate", "", "a.png"]),
        (main, ["predict", "--load_model", "m.tar", "--out", "", "a.png"]),
        (main, ["export", "", "--format", "onnx", "--out", "x"]),
        (cli.train, ["CXR_author", "unet", "", "data"]),
        (cli.test, ["CXR_author", "unet", "xp", ""]),
        (cli.train, ["CXR_author", "unet", "xp", "data", "--cache", ""]),
    ],
)
def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch, command, words):
    monkeypatch.chdir(tmp_path)
    result = invoke(command, *words)
    assert result.exit_code == 2 and "an empty path: is a variable not set?" in result.stderr
    assert not [*tmp_path.iterdir()]
