"""What a report says of models: scores on every set, a membership attack, and what is missing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from speechunlearn.audit import membership, report_card, scoring
from speechunlearn.audit import predictions as per_clip
from speechunlearn.models import training
from speechunlearn.tool import verdicts
from speechunlearn.tool.checkpoints import WaveformClassifier
from speechunlearn.tool.inputs import ClipSet

SPLITS = ("forget", "retain", "unseen")
_RESAMPLES = 1000
#: number of retrained models -> why there is no report card
_NO_CARD = {
    0: "no retrained models were given",
    1: "one retrained model was given, and a spread needs two or more",
}
_CHECK = (
    "Is this the right list, with the labels, the crop and the sampling that the model was trained "
    "with?"
)
_NO_UNSEEN = "no unseen clips were given, which the retrained models are compared on"


def table(model: WaveformClassifier, parts: Mapping[str, ClipSet]) -> pd.DataFrame:
    """Return what a model says of every clip: see `speechunlearn.audit.predictions.table`."""
    batch_size = 1 if model.answers_alone else 32
    clips = {name: part.clips for name, part in parts.items()}
    logits = training.answers(model, clips, batch_size=batch_size)
    hashes = {name: of.hashes for name, of in clips.items()}
    about = pd.concat([part.about for part in parts.values()], ignore_index=True)
    return per_clip.table(logits, hashes, about, list(model.labels))


def scores(predictions: pd.DataFrame, n_labels: int) -> dict[str, dict[str, float]]:
    """Return UAR, accuracy and mean loss on every set, by its name."""
    by_split: dict[str, dict[str, float]] = {split: {} for split in SPLITS}
    for (split, metric), value in scoring.scores(predictions, n_labels).items():
        if metric != "mia_auc":
            by_split[split][metric] = value
    return {split: metrics for split, metrics in by_split.items() if metrics}


def attack(predictions: pd.DataFrame, *, seed: int) -> dict[str, Any] | None:
    """Return what the attack on the loss reaches, with intervals; None without unseen clips.

    Args:
        predictions: of `table`
        seed: of the bootstrap, see `speechunlearn.audit.statistics.draw_clips`

    """
    sides = [predictions[predictions["split"] == split] for split in ("forget", "unseen")]
    forget, unseen = sides
    if forget.empty or unseen.empty:
        return None
    reached = membership.performance(
        membership.loss_membership_attack(forget["loss"], unseen["loss"]),
        (list(forget["cluster"]), list(unseen["cluster"])),
        n_resamples=_RESAMPLES, generator=np.random.default_rng(seed),
    )
    return {
        "auc": reached.auc._asdict(), "eer": reached.eer._asdict(), "tpr": reached.tpr._asdict(),
        "members": reached.n_members, "nonmembers": reached.n_nonmembers, "fpr": reached.fpr,
        "resampled": list(reached.resampled),
    }


def card(
    predictions: pd.DataFrame, references: Sequence[pd.DataFrame], n_labels: int, *, seed: int
) -> dict[str, Any] | None:
    """Return a model's report card beside retrained models, or None where it can't be made.

    An attack that so few clips do not allow is left out, see `left_out`.

    Args:
        predictions: of `table`
        references: the same of models retrained without the forget set; two or more
        n_labels: number of classes
        seed: of the attacks' folds

    """
    if len(references) < 2 or not (predictions["split"] == "unseen").any():
        return None
    chosen = [*on_card(predictions), *report_card.DISTANCES]
    auditor = report_card.Auditor(references, n_labels=n_labels, seed=seed, chosen=chosen)
    judged = auditor.card(predictions)
    return {"passed": judged.passed, "scores": judged.scores.to_dict("records")}


def on_card(predictions: pd.DataFrame) -> list[str]:
    """Return the scores of `speechunlearn.audit.report_card.SCORES` that the clips allow."""
    return [name for name in report_card.SCORES if name not in left_out(predictions)]


def left_out(predictions: pd.DataFrame) -> dict[str, str]:
    """Return the attacks that the clips do not allow, and why.

    Args:
        predictions: of `table`, with unseen clips

    Examples:
        >>> clips = pd.DataFrame({"split": ["forget", "unseen"], "cluster": ["01", "02"]})
        >>> left_out(clips)["mia_regression"]
        'it needs two clips on each side: 1 to forget, 1 unseen'
        >>> left_out(clips)["mia_svc"]
        'it learns from retain clips, and from some unseen speakers to be asked about others: 0
        retain clips and 1 unseen speaker(s) were given'

    """
    number = predictions["split"].value_counts()
    forget, unseen, retain = (int(number.get(split, 0)) for split in ("forget", "unseen", "retain"))
    speakers = predictions.loc[predictions["split"] == "unseen", "cluster"].nunique()
    reasons = {}
    if min(forget, unseen) < 2:
        reasons["mia_regression"] = (
            f"it needs two clips on each side: {forget} to forget, {unseen} unseen"
        )
    if speakers < 2 or retain == 0:
        reasons["mia_svc"] = (
            "it learns from retain clips, and from some unseen speakers to be asked about others: "
            f"{retain} retain clips and {speakers} unseen speaker(s) were given"
        )
    return reasons


def verdict(
    tables: Mapping[str, pd.DataFrame],
    references: Sequence[pd.DataFrame],
    report: Mapping[str, Any],
    n_labels: int,
    *,
    seed: int,
) -> dict[str, Any]:
    """Return the verdict on the last of some models, and what it rests on.

    Args:
        tables: when -> `table` of the model; of two, the first is the original
        references: the same of models retrained without the forget set
        report: ``scores`` and ``cards`` of the same models
        n_labels: number of classes
        seed: of the clips that are left untouched, see `speechunlearn.tool.verdicts.tried`

    Returns:
        ``verdict``, ``power`` (of the card, a list; empty where it can't be tried), and ``change``
        (of the answers, None without the original): see `speechunlearn.tool.verdicts`

    """
    whens = list(tables)
    judged, card = tables[whens[-1]], report["cards"][whens[-1]]
    change, original, rows = None, None, []
    if len(whens) > 1:
        before, original = tables[whens[0]], report["cards"][whens[0]]
        change = verdicts.change(before, judged)
        if card is not None:
            rows = verdicts.tried(before, references, n_labels, seed=seed, scores=on_card(before))
    decided = verdicts.decide(
        card, references=len(references), original=original, rows=rows,
        no_card=_NO_CARD.get(len(references), _NO_UNSEEN) if card is None else "",
        shown=_shown(report["scores"], whens, change, by_itself=card is None),
    )
    return {"verdict": decided, "power": rows, "change": change}


def doubts(report: Mapping[str, Any]) -> list[str]:
    """Return notes where a model does not seem to know the clips that it was trained on.

    Args:
        report: ``membership`` (when -> `attack`), ``scores`` (when -> `scores`) and ``model``, with
            its labels; of two models the first is the original, of one the forget clips are no
            longer to be known

    """
    whens = list(report["membership"])
    notes = []
    trained_on = ("forget", "retain") if len(whens) > 1 else ("retain",)
    half_way = (1 + 1 / len(report["model"]["labels"])) / 2
    known = report["scores"][whens[0]]
    for split in (split for split in trained_on if split in known):
        if known[split]["uar"] < half_way:
            notes.append(
                f"the model does not seem to know the {split} clips, which it is said to have been "
                f"trained on: it gives {known[split]['accuracy']:.0%} of them their label. {_CHECK}"
            )
    attack = report["membership"][whens[0]] if len(whens) > 1 else None
    if attack is not None and attack["auc"]["value"] <= 0.5:
        notes.append(
            "the original does not seem to know the clips to forget: its losses on them are no "
            "lower than on the unseen clips (attack on the loss, AUC "
            f"{attack['auc']['value']:.3f}). {_CHECK}"
        )
    return notes


def _shown(
    scores: Mapping[str, Any], whens: Sequence[str], change: dict[str, Any] | None, by_itself: bool
) -> str:
    """Return what a model's answers to the clips to forget show by themselves."""
    first, *_, last = (scores[when]["forget"] for when in (whens[0], *whens))
    said = "What the model itself shows: on the clips to forget "
    if change is None:
        return (
            f"{said}its UAR is {last['uar']:.3f} and its mean loss {last['mean_loss']:.3f} nats."
        ) if by_itself else ""
    if not (by_itself or change["hardly"]):
        return ""
    return (
        f"{said}the UAR went from {first['uar']:.3f} to {last['uar']:.3f} and the mean loss from "
        f"{first['mean_loss']:.3f} to {last['mean_loss']:.3f} nats, and of {change['clips']} "
        f"predictions {change['predictions']} changed: "
    ) + (
        "the model hardly changed there: it answers as the original does, and nothing shows that "
        "it forgot them."
        if change["hardly"] else
        "whether a model that never heard them would answer so, only retrained models show."
    )


def missing(
    predictions: pd.DataFrame, parts: Mapping[str, ClipSet], n_references: int
) -> list[dict[str, str]]:
    """Return what can't be assessed, and why.

    Args:
        predictions: of `table`
        parts: the sets that are given
        n_references: number of retrained models that are given

    """
    without, unseen = "retain" not in parts, "unseen" in parts
    where = "whether the model is where one that never saw the clips would be"
    count = "none was" if n_references == 0 else f"{n_references} was"
    single = "of a single clip there is no interval"
    gaps = [
        (without, "what the model keeps of the clips it was trained on",
         "no retain clips were given"),
        (not unseen, "what the model keeps on speech it never saw", "no unseen clips were given"),
        (not unseen, "whether an attacker can tell that the forget clips were trained on",
         "an attack needs clips that were not: no unseen clips were given"),
        (n_references < 2, where,
         f"it needs two or more models retrained without the forget clips: {count} given"),
        (n_references > 1 and not unseen, where, "it needs unseen clips as well"),
        *(
            (n_references > 1, report_card.SCORES[name].removesuffix(", AUC"), why)
            for name, why in (left_out(predictions).items() if unseen else ())
        ),
        *(
            (unseen and (predictions["split"] == name).sum() == 1,
             f"how far other {name} clips would move the attack on the loss", single)
            for name in ("forget", "unseen")
        ),
        (True, "what an attack finds that knows each clip by itself",
         "it needs several models trained with and without the forget clips; "
         "chapter 09 of the book makes them"),
        *(
            (not part.has_speakers, f"how much the {name} clips' speakers differ",
             "their list names no speakers: its clips count as independent, "
             "so that intervals are too narrow where speakers recur")
            for name, part in parts.items()
        ),
    ]
    return [{"what": what, "why": why} for is_missing, what, why in gaps if is_missing]
