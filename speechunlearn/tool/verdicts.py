"""Is a model like those that were retrained without the clips? In words, with what decides.

A report card that is passed says nothing where a model that forgot nothing would pass it, too.
So two more things are asked of a card before it says *like*: does the original fail it, and do
models fail it in which half of the clips were left untouched?
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from speechunlearn.audit.predictions import LOGIT
from speechunlearn.audit.report_card import DISTANCES, JUDGED_DISTANCES, SCORES, Auditor
from speechunlearn.errors import ParameterError

LIKE = "indistinguishable from retraining"
NOT_LIKE = "distinguishable from retraining"
UNKNOWN = "cannot be told"

#: shares of untouched clips that a card is tried on, in this order
SHARES = (1.0, 0.75, 0.5, 0.25)
#: the share that a card has to notice, or what passes it is no verdict
MUST_NOTICE = 0.5
#: a share is noticed where no more than one in so many of its models passes
ONE_IN = 5
#: a share's models: so many retrained models at most, each mixed so many times
_LEFT_OUT, _DRAWS = 4, 3
#: answers hardly changed where no more than this share of predictions did, and the probability of
#: the label by no more than this on average
HARDLY = 0.05

#: what is taken over with a clip's answer
_ANSWER = ("prediction", "loss", "confidence", "entropy", "modified_entropy")


class Tried(TypedDict):
    """How a report card judges models with some clips untouched.

    Attributes:
        untouched: share of the clips to forget that the original answers
        clips: their number
        models: number of models that were made so
        passed: number of these that pass

    """

    untouched: float
    clips: int
    models: int
    passed: int


def change(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, Any]:
    """Return how far a model's answers to the clips to forget are from another's.

    Args:
        before: of `speechunlearn.audit.predictions.table`
        after: the same of the other model

    Returns:
        ``clips`` (their number), ``predictions`` (how many are given another class),
        ``confidence`` (mean absolute difference of the label's probability) and ``hardly`` (both
        are below `HARDLY`)

    Examples:
        >>> clips = pd.DataFrame({"split": "forget", "hash": ["a", "b"], "prediction": [0, 1],
        ...                       "confidence": [1.0, 0.75]})
        >>> change(clips, clips.assign(prediction=0, confidence=[1.0, 0.25]))
        {'clips': 2, 'predictions': 1, 'confidence': 0.25, 'hardly': False}

    """
    one, other = (
        table[table["split"] == "forget"].set_index("hash").sort_index()
        for table in (before, after)
    )
    moved = int((one["prediction"] != other["prediction"]).sum())
    confidence = float((one["confidence"] - other["confidence"]).abs().mean())
    hardly = moved <= HARDLY * len(one) and confidence <= HARDLY
    return {
        "clips": len(one), "predictions": moved, "confidence": confidence, "hardly": hardly
    }


def untouched(
    retrained: pd.DataFrame, original: pd.DataFrame, clips: Sequence[str]
) -> pd.DataFrame:
    """Return the table of a retrained model to which some clips to forget are as they were.

    Args:
        retrained: of `speechunlearn.audit.predictions.table`
        original: the same of the model that was trained on all clips
        clips: hashes of clips of the forget set, which the original answers

    """
    columns = [c for c in retrained if c in _ANSWER or str(c).startswith(LOGIT)]
    chosen = ((retrained["split"] == "forget") & retrained["hash"].isin(clips)).to_numpy()
    answers = original[original["split"] == "forget"].set_index("hash")[columns]
    mixed = retrained.copy()
    mixed.loc[chosen, columns] = answers.loc[retrained.loc[chosen, "hash"]].to_numpy()
    return mixed.astype(retrained.dtypes.to_dict())


def tried(
    original: pd.DataFrame,
    references: Sequence[pd.DataFrame],
    n_labels: int,
    *,
    seed: int,
    scores: Sequence[str] = tuple(SCORES),
) -> list[Tried]:
    """Try report cards on models of which it is known how many clips they forgot.

    Of such a model some clips to forget are answered by the original, the others, and all else,
    by a retrained model; it is judged by the other retrained models. These are one fewer than a
    real card has, so that it notices no less than is found here.

    Args:
        original: of `speechunlearn.audit.predictions.table`
        references: the same of retrained models; with fewer than three nothing can be tried
        n_labels: number of classes
        seed: of the clips that are drawn, and of the attacks' folds
        scores: those of the card, of `speechunlearn.audit.report_card.SCORES`

    Returns:
        a row a share of `SHARES`, from all clips to the first share that is not noticed; of shares
        that are as many clips, rounded up, the largest

    """
    if len(references) < 3:
        return []
    auditor = Auditor(
        references, n_labels=n_labels, seed=seed, chosen=[*scores, *JUDGED_DISTANCES]
    )
    clips = sorted(original.loc[original["split"] == "forget", "hash"])
    generator = np.random.default_rng(seed)
    rows: list[Tried] = []
    for share in SHARES:
        n = math.ceil(share * len(clips))
        if rows and rows[-1]["clips"] == n:
            continue
        draws = 1 if n == len(clips) else _DRAWS
        passed = [
            auditor.card(untouched(reference, original, drawn), without=left_out).passed
            for left_out, reference in enumerate(references[:_LEFT_OUT])
            for drawn in (generator.choice(clips, n, replace=False).tolist() for _ in range(draws))
        ]
        rows.append(Tried(untouched=share, clips=n, models=len(passed), passed=sum(passed)))
        if not noticed(rows[-1]):
            break
    return rows


def noticed(row: Tried) -> bool:
    """Return whether a card notices models with so many untouched clips.

    Examples:
        >>> [noticed(Tried(untouched=0.5, clips=8, models=20, passed=n)) for n in (4, 5)]
        [True, False]

    """
    return row["passed"] * ONE_IN <= row["models"]


def least(rows: Sequence[Tried]) -> Tried | None:
    """Return the row of the least share of untouched clips that is noticed, with all above it.

    Args:
        rows: of `tried`, from all clips on

    """
    reached = list(itertools.takewhile(noticed, rows))
    return reached[-1] if reached else None


def decide(
    card: Mapping[str, Any] | None,
    *,
    references: int,
    original: Mapping[str, Any] | None = None,
    rows: Sequence[Tried] = (),
    no_card: str = "",
    shown: str = "",
) -> dict[str, Any]:
    """Return the verdict on a model.

    Args:
        card: its report card (``passed``, and ``scores`` as
            `speechunlearn.audit.report_card.Card.scores`, as dicts); None where there is none
        references: number of retrained models on it
        original: the card of the model before unlearning; None where it is not known
        rows: of `tried`, from all clips on
        no_card: why there is no card
        shown: what the model's answers show by themselves, a sentence or more

    Returns:
        ``value`` (`LIKE`, `NOT_LIKE` or `UNKNOWN`), ``why`` (what decides, in words) and
        ``figure`` (the score that decides: ``score``, ``value``, ``retrained``, ``low``, ``high``;
        None where no score does)

    Raises:
        ParameterError: neither a card nor why there is none

    """
    if card is None:
        if not no_card:
            raise ParameterError("no_card: without a card there must be a reason")
        return {"value": UNKNOWN, "why": f"{no_card}. {shown}".strip(), "figure": None}
    judged = [row for row in card["scores"] if row["judged"]]
    # the farther above 1, the farther outside
    farthest = max(judged, key=_off)
    beside = f"one more of {references} retrained models"
    passes = f"all {len(judged)} scores lie where {beside} would"
    value, smallest = UNKNOWN, least(rows)
    if not card["passed"]:
        value, failed = NOT_LIKE, sum(not row["passed"] for row in judged)
        why = (
            f"{_said(farthest)}, where {beside} would be from {_ends(farthest)}; {failed} of "
            f"{len(judged)} scores lie outside."
        )
    elif original is None:
        why = (
            f"{passes}, but without the original it cannot be checked whether a model that forgot "
            "nothing would pass as well."
        )
    elif original["passed"]:
        why = f"{passes}, but so do those of the original, which forgot nothing."
    elif not rows:
        why = (
            f"{passes}, but what such a card notices can only be checked with three or more "
            f"retrained models: {references} were given."
        )
    elif smallest and smallest["clips"] <= math.ceil(MUST_NOTICE * rows[0]["clips"]):
        value, shown = LIKE, ""
        why = (
            f"{passes}, next to its limit {_said(farthest)}, limits {_ends(farthest)}. "
            f"{notices(rows)}."
        )
    else:
        last = rows[-1]
        why = (
            f"{passes}, but so do those of {last['passed']} of {last['models']} models with "
            f"{last['clips']} of {rows[0]['clips']} clips untouched."
        )
    figure = {key: farthest[key] for key in ("score", "value", "retrained", "low", "high")}
    return {"value": value, "why": f"{why} {shown}".strip(), "figure": figure}


def notices(rows: Sequence[Tried]) -> str:
    """Return the least share of untouched clips that a card notices, in words."""
    smallest = least(rows)
    if smallest is None:
        return "Such a card does not even notice when all clips are untouched"
    return (
        f"The least share of untouched clips that such a card notices is "
        f"{smallest['untouched']:.0%} ({smallest['clips']} of {rows[0]['clips']}: "
        f"{smallest['passed']} of {smallest['models']} such models pass)"
    )


def _off(row: Mapping[str, Any]) -> float:
    """Return how far a score is from the middle of its interval, in halves of this."""
    if row["score"] in DISTANCES:  # which have but an upper limit
        return _ratio(row["value"], row["high"])
    middle, half = (row["low"] + row["high"]) / 2, (row["high"] - row["low"]) / 2
    return _ratio(abs(row["value"] - middle), half)


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else (0.0 if a <= 0 else math.inf)


def _said(row: Mapping[str, Any]) -> str:
    name = (SCORES | DISTANCES)[row["score"]]
    return f"{name}, is {row['value']:.3f}" if "," in name else f"{name} is {row['value']:.3f}"


def _ends(row: Mapping[str, Any]) -> str:
    high = row["high"] if row["score"] in DISTANCES else min(row["high"], 1.0)
    return f"{max(row['low'], 0.0):.3f} to {high:.3f}"

