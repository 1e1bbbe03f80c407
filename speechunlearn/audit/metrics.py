"""Scores of one model on one set of clips, and their distance to the retrained model's.

The functions read the per-clip predictions table, a DataFrame with one row a clip and the columns

- ``split``: ``"forget"``, ``"retain"``, ``"unseen"`` or ``"removed"`` (unseen clips of classes
  that were to be forgotten)
- ``hash``, ``speaker``: content hash and speaker of the clip
- ``label``, ``prediction``: true and predicted class, integers from 0
- ``loss``: cross-entropy of the true class in nats
- ``confidence``: softmax probability of the true class
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped
from numpy.typing import ArrayLike

from speechunlearn.errors import ParameterError, require

SPLITS = ("forget", "retain", "unseen", "removed")

Labels = Sequence[object] | Shaped[np.ndarray, " clips"] | pd.Series


def check_predictions(predictions: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse a predictions table that can't be used.

    Args:
        predictions: per-clip predictions table
        columns: names of the columns that the caller is about to use beside ``split``

    Raises:
        ParameterError: if the table has no row, lacks a column, holds a missing value in one
            or an unknown split

    """
    check_columns("predictions", predictions, ["split", *columns])
    unknown = sorted(set(predictions["split"].unique()) - set(SPLITS))
    require(not unknown, f"predictions holds the splits {unknown}, known are {SPLITS}")


def check_columns(name: str, table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise ParameterError unless a table has rows and these columns, without a missing value."""
    missing = [column for column in columns if column not in table.columns]
    require(not missing, f"{name} lacks the columns {missing}, it has {list(table.columns)}")
    require(len(table), f"{name} has no rows")
    for column in columns:
        gaps = int(table[column].isna().sum())
        require(not gaps, f"{name}: {gaps} missing values in column {column!r}")


def check_unit(name: str, value: float) -> None:
    """Raise ParameterError unless a value is in [0, 1]."""
    require(0 <= value <= 1, f"{name} must be in [0, 1], got {value}")


def numbers(name: str, values: ArrayLike, classes: int | None = None) -> Float[np.ndarray, ...]:
    """Return numbers in double precision, a row a clip.

    Args:
        name: of the argument, for messages
        values: a number a clip, or a row of them
        classes: least number of columns of a table; None where each clip has one number

    Raises:
        ParameterError: another shape, no clips, or a number that is not finite

    """
    array, n_dimensions = np.asarray(values, dtype=float), 1 if classes is None else 2
    held = "a number" if classes is None else f"{classes} or more columns"
    fits = array.ndim == n_dimensions and array.size and array.shape[-1] >= (classes or 1)
    require(fits, f"{name} must hold clips and {held} of each, got the shape {array.shape}")
    bad = array[~np.isfinite(array)]
    if bad.size:
        raise ParameterError(f"{name} must be finite, got {bad[0]}")
    return array


def uar(truth: Labels, prediction: Labels, n_labels: int) -> float:
    r"""Unweighted average recall over the classes present in the truth.

    .. math::

        \text{UAR} = \frac{1}{|P|} \sum_{k \in P}
            \frac{\text{true positive}_k}{\text{true positive}_k + \text{false negative}_k},
        \quad P = \{k : k \text{ occurs in the truth}\}

    A prediction of a class that is absent from the truth is an error of the clip's true class.
    It does not add that class to the average. This is scikit-learn's ``balanced_accuracy_score``.
    ``audmetric.unweighted_average_recall`` differs: it also averages over absent classes, with
    recall 0 (0.25 in the first example), and when its label set is cut to the classes present, it
    ignores clips that are predicted as another class (1.0 there).

    Args:
        truth: true class of every clip, from 0
        prediction: predicted class of every clip
        n_labels: number of classes: it fixes which values are valid and does not change the score

    Returns:
        UAR in [0, 1]

    Raises:
        ParameterError: if ``truth`` is empty, the lengths differ
            or a value is no class

    Examples:
        >>> uar([0, 0], [0, 1], 2)
        0.5
        >>> uar([0, 0, 1, 1, 1, 1], [0, 2, 1, 1, 1, 0], 7)
        0.625

    """
    classes, correct = _correct(truth, prediction, n_labels)
    total, hits = np.bincount(classes), np.bincount(classes, weights=correct)
    present = total > 0
    return float(np.mean(hits[present] / total[present]))


def accuracy(truth: Labels, prediction: Labels, n_labels: int) -> float:
    """Share of clips whose predicted class is the true one.

    Args:
        truth: true class of every clip
        prediction: predicted class of every clip
        n_labels: number of classes

    Returns:
        accuracy in [0, 1]

    Raises:
        ParameterError: if ``truth`` is empty, the lengths differ
            or a value is no class

    Examples:
        >>> accuracy([0, 0, 1, 1, 1], [0, 2, 1, 1, 1], 3)
        0.8

    """
    return float(np.mean(_correct(truth, prediction, n_labels)[1]))


def _correct(
    truth: Labels, prediction: Labels, n_labels: int
) -> tuple[Int[np.ndarray, " clips"], Shaped[np.ndarray, " clips"]]:
    """The true classes, and whether each clip is classified correctly."""
    check_as_many(truth, prediction)
    require(len(truth), "truth is empty")
    known = list(range(n_labels))
    sides: list[np.ndarray] = [np.asarray(truth), np.asarray(prediction)]
    for name, classes in zip(("truth", "prediction"), sides, strict=True):
        unknown = classes[~np.isin(classes, known)].tolist()
        if unknown:
            raise ParameterError(f"{name} holds {unknown[0]!r}, which is not in {known}")
    return sides[0].astype(np.intp), sides[0] == sides[1]


def check_as_many(truth: Labels, prediction: Labels) -> None:
    """Raise ParameterError unless every clip has a prediction."""
    n, m = len(truth), len(prediction)
    require(n == m, f"truth and prediction must have one length, got {n} and {m}")


def by_split(predictions: pd.DataFrame, columns: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Cut a predictions table into its splits, after :func:`check_predictions`.

    Args:
        predictions: per-clip predictions table
        columns: names of the columns that the caller is about to use

    Returns:
        rows of the table by split, in the order of ``SPLITS``, without the absent splits

    Raises:
        ParameterError: as :func:`check_predictions`

    """
    check_predictions(predictions, columns)
    groups = dict(list(predictions.groupby("split")))
    return {split: groups[split] for split in SPLITS if split in groups}


def check_same_clips(
    predictions: pd.DataFrame, reference: pd.DataFrame, columns: Sequence[str] = ("hash", "label")
) -> None:
    """Refuse two tables that are not of the same clips, in any order: no distance means anything.

    Args:
        predictions: per-clip predictions table
        reference: the same of another model
        columns: what is equal of the same clips

    Raises:
        ParameterError: splits, or a column of a split's clips, that differ

    """
    parts, others = (by_split(table, columns) for table in (predictions, reference))
    splits = list(parts), list(others)
    require(splits[0] == splits[1], "predictions has the splits {}, reference {}".format(*splits))
    for split, part in parts.items():
        clips, of_reference = (
            sorted(of[list(columns)].itertuples(index=False)) for of in (part, others[split])
        )
        told = f"reference must have the clips of predictions: {split!r} differs in "
        told += f"{', '.join(columns)} ({len(clips)} clips, {len(of_reference)} in reference)"
        require(clips == of_reference, told)


def distance_to_retrained(value: float, reference: float) -> float:
    """Absolute difference of a score to the retrained model's: abs(value - reference).

    The target of unlearning is the model that never saw the forget set. Its UAR on the forget
    set is about that on unseen clips, neither 0 nor chance.

    Args:
        value: score of the unlearned model
        reference: the same score of the model retrained without the forget set

    Returns:
        distance in the unit of the score, at least 0

    Examples:
        >>> distance_to_retrained(0.0, 0.875)
        0.875

    """
    return abs(float(value - reference))


#: the scores of each split's clips, given the number of classes, by their name in tables
SCORES: dict[str, Callable[[pd.DataFrame, int], float]] = {
    "uar": lambda clips, n_labels: uar(clips["label"], clips["prediction"], n_labels),
    "accuracy": lambda clips, n_labels: accuracy(clips["label"], clips["prediction"], n_labels),
    "mean_loss": lambda clips, n_labels: float(clips["loss"].mean()),
}
