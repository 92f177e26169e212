"""AUC and its interval."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Auc:
    """Area under the ROC curve.

    Attributes:
        value: in [0, 1]; the share of (normal, abnormal) pairs in which the abnormal one scores higher.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} (95 % CI {self.low:.4f} to {self.high:.4f})"

    def as_json(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)


def auc(labels: Sequence[int], scores: ArrayLike, *, confidence: float = 0.95) -> Auc | None:
    """AUC of raw scores with the interval of DeLong et al. (Biometrics 1988).

    Args:
        labels: 0 normal, 1 abnormal, (N,).
        scores: larger means more anomalous, (N,); only their order counts.
        confidence: of the interval, which is cut to [0, 1]; an AUC of 0 or 1 has an interval of width 0.

    Returns:
        None where one class is missing and no AUC is defined.
    """
    from sklearn.metrics import roc_auc_score  # here, because it takes longer to import than a run to start

    truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    positives, negatives = values[truth == 1], values[truth == 0]
    if not len(positives) or not len(negatives):
        return None
    area = float(roc_auc_score(truth, values))
    # structural components: for each image, the share of the other class that it is ordered rightly against
    variance = sum(
        np.var(component, ddof=1) / len(component) if len(component) > 1 else 0.25
        for component in (_shares_below(negatives, positives), _shares_below(positives, negatives))
    )
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * float(np.sqrt(variance))
    return Auc(area, max(0.0, area - reach), min(1.0, area + reach))


def by_study(studies: Sequence[str], labels: Sequence[int], scores: ArrayLike) -> tuple[list[int], np.ndarray]:
    """Labels and scores of whole studies from those of their images.

    Args:
        studies: of each image, (N,).
        labels: 0 normal, 1 abnormal, (N,); a study with an abnormal image is abnormal.
        scores: of the images, (N,); that of a study is their mean.

    Returns:
        One label and one score a study, in the order of their names.
    """
    names, place = np.unique(np.asarray(studies), return_inverse=True)
    means = np.bincount(place, weights=np.asarray(scores, dtype=np.float64)) / np.bincount(place)
    abnormal = np.bincount(place, weights=np.asarray(labels)) > 0
    return abnormal.astype(int).tolist(), means


def _shares_below(values: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Of each query, the share of values below it; ties count half."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, queries, "left") + np.searchsorted(ordered, queries, "right")) / (2 * len(values))
