"""Say in a line where a number rests on few images."""

from __future__ import annotations

FEW_TO_TRAIN, FEW_OF_A_CLASS, FEW_TO_CALIBRATE = 10, 10, 20  # fewer images than these are said


def few_to_train(num_normal: int) -> tuple[str, ...]:
    """Warn of few normal images to train on; empty if there are enough."""
    if num_normal >= FEW_TO_TRAIN:
        return ()
    return (f"only {_normals(num_normal)} to train on: fewer than {FEW_TO_TRAIN} do not show what is normal",)


def few_for_auc(name: str, *, num_normal: int, num_abnormal: int) -> tuple[str, ...]:
    """Warn of an AUC from few images of a class; empty if there are enough, or if there is no AUC.

    Args:
        name: name of the split, ``val`` or ``test``.
        num_normal: number of normal images.
        num_abnormal: number of abnormal images.
    """
    if min(num_normal, num_abnormal) >= FEW_OF_A_CLASS or not num_normal or not num_abnormal:
        return ()
    return (
        f"the AUC on {name} compares only {num_normal} normal with {num_abnormal} abnormal: below {FEW_OF_A_CLASS} of "
        "a class it says little",
    )


def not_measured(*, num_normal: int, num_abnormal: int, has_threshold: bool) -> tuple[str, ...]:
    """Say what test images of one class cannot show, and what they can; empty if there are both classes.

    Args:
        num_normal: number of normal images.
        num_abnormal: number of abnormal images.
        has_threshold: True if validation normals have set a threshold.
    """
    if num_normal and num_abnormal:
        return ()
    lacking, rate, other = (
        ("abnormal", "specificity", "sensitivity") if num_normal else ("normal", "sensitivity", "specificity")
    )
    measured = f"the {rate} is, on {num_normal + num_abnormal} images"
    can = measured if has_threshold else f"nor is the {rate}, for lack of a threshold"
    return (f"no {lacking} test image: AUC and {other} are not measured; {can}",)


def few_to_calibrate(num_normal: int, *, least: int, is_fused: bool = False) -> tuple[str, ...]:
    """Warn of a threshold, percentiles and the standards of a fused score from few normal images.

    Args:
        num_normal: number of normal images that were held out, at least 1.
        least: `min_normals`; of fewer images there is neither a threshold nor percentiles.
        is_fused: True if these images also standardise the parts of a fused score.

    Returns:
        The warnings; empty if there are enough images.
    """
    if num_normal >= FEW_TO_CALIBRATE:
        return ()
    count = _normals(num_normal)
    lines = [f"threshold and percentiles come from only {count}; below {FEW_TO_CALIBRATE} they are rough"]
    if num_normal < least:
        lines = [f"no threshold and no percentiles: only {count}, fewer than --min_normals {least}"]
    if is_fused:
        lines.append(f"the parts of the fused score are standardised by only {count}")
    return tuple(lines)


def _normals(count: int) -> str:
    return f"{count} normal image{'s' * (count != 1)}"
