"""Which claims hold for other encoders."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from speechunlearn.audit import membership, metrics, statistics
from speechunlearn.lab import results

RESULTS = results.COMMITTED.parent / "benchmarks" / "architectures.csv"
TITLES = {
    "wav2vec2": "wav2vec 2.0", "ast_requests": "AST, plain loop", "ast": "AST",
    "whisper": "Whisper's encoder", "hubert": "HuBERT", "wavlm": "WavLM",
    "moonshine": "Moonshine tiny",
}  # fmt: skip


def _beside(score: str, method: str, other: str) -> Callable[[pd.DataFrame], pd.Series]:
    """Return by how much a score is larger than with another method, run by run."""
    return lambda values: values[score][method] - values[score][other]


def _closed(score: str, method: str) -> Callable[[pd.DataFrame], pd.Series]:
    """Return by how much more than half of the way to the retrained models a method comes."""

    def more_than_half(values: pd.DataFrame) -> pd.Series:
        gap = values[score]["retrained"] - values[score]["original"]
        return np.sign(gap) * (values[score][method] - values[score]["original"] - gap / 2)

    return more_than_half


#: claim -> what is above 0, run by run, where it holds
CLAIMS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "The original remembers: the attack's AUC is above the retrained models'":
        _beside("auc", "original", "retrained"),
    "Its loss on the forget set is below theirs": _beside("loss", "retrained", "original"),
    "It lies further from them than they from each other (losses, Kolmogorov-Smirnov)":
        _beside("loss_ks", "original", "retrained"),
    "Adv. + Ela. keeps more utility than random labels":
        _beside("unseen_uar", "adv_ela", "ran_lab"),
    "Random labels close more than half of the gap in loss": _closed("loss", "ran_lab"),
    "Adv. + Ela. closes more than half of the gap in loss": _closed("loss", "adv_ela"),
    "Fine-tuning on the rest closes less than half of the gap in loss":
        lambda values: -_closed("loss", "finetune")(values),
    "The method of forget closes more than half of the gap in loss":
        _closed("loss", "perturbed"),
    "It keeps utility: UAR of unseen speakers no more than 0.02 below the original's":
        lambda values: _beside("unseen_uar", "perturbed", "original")(values) + 0.02,
}  # fmt: skip


def rows() -> pd.DataFrame:
    """Return what originals, retrained and unlearned models of every architecture say.

    Beside `RESULTS`: wav2vec 2.0 (`nano-english`) of the committed words, with the smallest forget
    sets of the chapter on keywords, and the requests of 16 clips on an AST that a plain loop
    trained, of the chapter on requests.

    Returns:
        ``architecture``, ``run``, ``method`` (retrained models are ``retrained 0``, ``retrained
        1``, ...), mean ``loss`` of the forget set, ``auc`` of the attack on the loss, UAR of
        unseen speakers, and ``loss_ks`` where it was measured

    """
    requests = pd.read_csv(RESULTS.with_name("requests.csv"), dtype={"kind": str})
    requests = requests.query("system == 'ast' and kind == '16'")
    requests = requests.assign(
        architecture="ast_requests", run=requests["request"],
        method=requests["who"].replace("unlearned", "perturbed"),
    )
    of_each = [_words(), requests, *([pd.read_csv(RESULTS)] if RESULTS.exists() else [])]
    names = ["architecture", "run", "method", "loss", "auc", "unseen_uar", "loss_ks"]
    return pd.concat([table.reindex(columns=names) for table in of_each], ignore_index=True)


def _words() -> pd.DataFrame:
    """Return the rows of wav2vec 2.0, from the predictions of the committed words."""
    shown = results.committed("cpu", "arabic_speech_commands", "keyword").reported()
    shown = shown.select(setting="validation", forget_kind="clips")
    evaluations = shown.evaluations.query("n_forget == n_forget.min()")
    rows = []
    for of in evaluations.to_dict("records"):
        if of["method"] not in ("original", "retrain", "ran_lab", "adv_ela", "finetune"):
            continue
        parts = dict(iter(shown.of_evaluation(of["evaluation"]).groupby("split")))
        losses = {name: parts[name]["loss"].to_numpy(float) for name in ("forget", "unseen")}
        attack = membership.loss_membership_attack(losses["forget"], losses["unseen"])
        unseen = parts["unseen"]
        rows.append({
            "architecture": "wav2vec2", "run": of["seed"],
            "method": "retrained 0" if of["method"] == "retrain" else of["method"],
            "loss": losses["forget"].mean(), "auc": membership.auc(attack),
            "unseen_uar": metrics.uar(unseen["label"], unseen["prediction"], shown.n_labels),
        })
    return pd.DataFrame(rows)


def claims(table: pd.DataFrame) -> pd.DataFrame:
    """Return what becomes of each claim on each architecture.

    Args:
        table: see `rows`

    Returns:
        ``architecture``, ``claim``, ``value`` (mean over runs of what is above 0 where the claim
        holds), its 95 % t-interval ``low`` and ``high``, ``runs``, and ``verdict``: *yes* or *no*
        where the interval lies above or below 0, *undecided* where it holds 0; a claim of fewer
        than two runs has no row

    """
    scores = ["auc", "loss", "loss_ks", "unseen_uar"]
    who = table["method"].str.replace(r"^retrained .*", "retrained", regex=True)
    means = table.groupby(["architecture", "run", who.rename("method")])[scores].mean()
    judged = []
    for name in table["architecture"].unique():
        values = means.loc[name].unstack("method")
        for claim, above in CLAIMS.items():
            try:
                differences = above(values).dropna().to_numpy()
            except KeyError:  # a method that was not run
                continue
            if len(differences) > 1:
                mean, low, high = statistics.t_interval(differences)
                verdict = "yes" if low > 0 else "no" if high < 0 else "undecided"
                judged.append({
                    "architecture": name, "claim": claim, "value": mean, "low": low, "high": high,
                    "runs": len(differences), "verdict": verdict,
                })
    return pd.DataFrame(judged)
