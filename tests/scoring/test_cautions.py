"""Warnings that go with the scores of a model: what no loss has trained, and what rests on few images."""

from pathlib import Path

import pytest
import torch

from salad.checkpoint import Checkpoint
from salad.config import Config
from salad.memory import MemoryBank
from salad.networks import NETWORKS
from salad.scoring.cautions import cautions_of, training_cautions

OFF = {"w_rec": 0.0, "w_contrast": 0.0, "w_svdd": 0.0}
REC, CONTRAST, SVDD, SYN = ({**OFF, name: 1.0} for name in ("w_rec", "w_contrast", "w_svdd", "w_syn"))
SCORES = ("knn", "weighted", "svdd", "reconstruction", "local")


def config_of(**values):
    return Config.of(
        {"dataset_name": "CXR_author", "data_path": Path(), "xp_path": Path(), "net_name": "unet", **values}
    )


def cautions(config, *, net_name="unet", num_rows=100, k=100, published=False, **training):
    checkpoint = Checkpoint(
        path=Path("model.tar"),
        model_state={NETWORKS[net_name].embedding_weight: torch.zeros(8, 4)},
        bank=MemoryBank(8, 8, temperature=0.1, momentum=0.5),
        config=None if published else config.as_json(),
        normal_class=None,
        row_labels=None,
        svdd=None,
        anchors=None,
        training=training,
    )
    return cautions_of(config, checkpoint, num_rows=num_rows, k=k)


@pytest.mark.parametrize(
    ("net_name", "weights", "round_number", "meaningless"),
    [
        ("unet", REC, 0, set()),  # the decoder starts from the embedding
        ("CXR_resnet18", REC, 0, {"knn", "weighted", "svdd"}),
        ("unet", CONTRAST, 0, {"reconstruction"}),
        ("unet", SVDD, 3, {"reconstruction"}),
        ("unet", SYN, 0, {"knn", "weighted", "svdd", "reconstruction"}),
        ("unet", {}, 0, set()),
        ("CXR_resnet18", {"pre_training_epochs": 2}, -1, {"knn", "weighted", "svdd"}),  # before round 0
        ("CXR_resnet18", {"pre_training_epochs": 2}, 0, set()),
    ],
)
def test_a_score_of_what_no_loss_has_trained_is_meaningless(net_name, weights, round_number, meaningless):
    for score in SCORES:
        config = config_of(net_name=net_name, score=score, **weights)
        found = cautions(config, net_name=net_name, round=round_number)
        assert [line.startswith(f"the score {score} is meaningless") for line in found] == [True] * (
            score in meaningless
        )
        if round_number >= 0:
            assert training_cautions(config, k=0) == found
        assert cautions(config, net_name=net_name, published=True) == ()


def test_every_part_of_a_fused_score_counts():
    config = config_of(score="fused", fuse=("knn", "local", "reconstruction"), **SYN)
    assert [line.split(" is ")[0] for line in cautions(config)] == ["the score knn", "the score reconstruction"]


def test_a_model_from_before_the_end_of_its_first_epoch_is_hardly_trained():
    assert cautions(config_of(), epoch=0, round=0) == (
        "the model is hardly trained: model.tar is from before the end of its first epoch",
    )
    assert cautions(config_of(), epoch=1, round=0) == ()


def test_few_rows_and_few_images_are_said():
    assert cautions(config_of(), num_rows=30, k=30) == (
        "k is 30 instead of 100: the memory has no more rows of normal images",
    )
    assert cautions(config_of(k=30), num_rows=30, k=30) == ()
    views = cautions(config_of(n_views=4, k=30), num_rows=36, k=30)
    assert views == ("only 9 normal images to train on: fewer than 10 do not show what is normal",)
