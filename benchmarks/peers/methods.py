"""Methods of `benchmarks.peers` by name."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.quality import METHODS as RECIPES

HUB = "weights of a hub that is not reached without a network"


@dataclass(frozen=True, kw_only=True)
class Method:
    """Method.

    Attributes:
        module: module of this room whose `fit` trains it.
        options: argument of `fit`.
        is_random: True if its scores depend on the seed; others run with the first seed only.
        note: what was reduced or chosen; empty for defaults.
        needs: what keeps it from running here, for methods that run only where they are asked for; empty for others.
    """

    module: str
    options: str
    is_random: bool = False
    note: str = ""
    needs: str = ""

    @property
    def takes_hub(self) -> bool:
        """True if it takes Lite0 from timm."""
        return self.module != "ours"


def _ours(options: str, note: str = "", *, is_random: bool = True) -> Method:
    return Method(module="ours", options=options, is_random=is_random, note=note)


def _anomalib(name: str, note: str = "", needs: str = "", *, is_random: bool = True) -> Method:
    return Method(module="anomalib_models", options=name, is_random=is_random, note=note, needs=needs)


def _features(options: str, *, is_random: bool = False) -> Method:
    return Method(module="features", options=options, is_random=is_random)


METHODS: dict[str, Method] = {
    "ours-strong-lite0": _ours(RECIPES["strong-lite0"]),
    "ours-quick": _ours("unet --recipe quick", is_random=False),
    "ours-strong": _ours(RECIPES["strong"], "without a pretrained network"),
    "ours-paper": _ours(RECIPES["paper-short"], "64 px and one epoch a round in place of 50, to end within minutes"),
    "anomalib-padim": _anomalib("padim", "100 of 176 features"),
    "anomalib-patchcore": _anomalib(
        "patchcore", "features of one stage, and a coreset of 0.4 % in place of 10 %, to end within minutes"
    ),
    "anomalib-dfm": _anomalib("dfm", is_random=False),
    "anomalib-stfpm": _anomalib(
        "stfpm", "5 epochs in place of the 100 of its paper, to end within minutes", "a GPU, or hours"
    ),
    "anomalib-efficientad": _anomalib(
        "efficientad", needs=f"{HUB}, ImageNette, and a GPU for the 70,000 steps of its paper"
    ),
    "anomalib-reverse-distillation": _anomalib(
        "reverse-distillation", needs=f"{HUB} (it takes no Lite0, but a wide ResNet-50), and a GPU"
    ),
    "imgad-knn": Method(module="imgad_pipelines", options="knn"),
    "imgad-mahalanobis": Method(module="imgad_pipelines", options="mahalanobis"),
    "pyod-knn": _features("pyod_knn pooled"),
    "pyod-lof": _features("pyod_lof pooled"),
    "pyod-deepsvdd": _features("pyod_deep_svdd pooled", is_random=True),
    "pyod-autoencoder": _features("pyod_autoencoder pooled", is_random=True),
    "sklearn-knn-pooled": _features("nearest_neighbours pooled"),
    "sklearn-knn-3x3": _features("nearest_neighbours 3x3"),
    "sklearn-ocsvm-pooled": _features("one_class_svm pooled"),
    "sklearn-ocsvm-3x3": _features("one_class_svm 3x3"),
    "sklearn-iforest-pooled": _features("isolation_forest pooled", is_random=True),
    "sklearn-iforest-3x3": _features("isolation_forest 3x3", is_random=True),
}
DEFAULT = tuple(name for name, method in METHODS.items() if not method.needs)
