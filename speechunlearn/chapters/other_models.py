"""Which claims hold for other encoders, and what a model keeps of unlabelled clips: two tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from speechunlearn.audit import membership, metrics, statistics
from speechunlearn.lab import results

RESULTS = results.COMMITTED.parent / "benchmarks" / "architectures.csv"
FIXMATCH = RESULTS.with_name("fixmatch.csv")
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
                judged.append({"architecture": name, "claim": claim, **_interval(differences)})
    return pd.DataFrame(judged)


def _interval(differences: np.ndarray) -> dict[str, Any]:
    runs, (mean, low, high) = len(differences), statistics.t_interval(differences)
    verdict = "yes" if low > 0 else "no" if high < 0 else "undecided"
    return {"value": mean, "low": low, "high": high, "runs": runs, "verdict": verdict}


def carried_over(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the claims (rows) by architecture (columns): verdict and number of runs."""
    cells = judged["verdict"] + " (n\u00a0=\u00a0" + judged["runs"].astype(str) + ")"
    wide = judged.assign(cell=cells).pivot(index="claim", columns="architecture", values="cell")
    order = [claim for claim in CLAIMS if claim in wide.index]
    return wide.loc[order].fillna("not run").rename(columns=TITLES).rename_axis(columns=None)


def unlabelled(table: pd.DataFrame) -> pd.DataFrame:
    """Return what FixMatch's models say of unlabelled clips to forget: means and t-intervals.

    Args:
        table: rows of `FIXMATCH`

    Returns:
        by method: ``runs``, and for the consistency loss (nats), the AUC of the attack on it and
        the UAR of unseen speakers the mean, ``low`` and ``high``

    """
    who = table["method"].str.replace(r"^retrained .*", "retrained", regex=True)
    said = {}
    for method, group in table.groupby(who, sort=False):
        by_run = group.groupby("run")[["consistency", "auc", "unseen_uar"]].mean()
        intervals = {name: _interval(by_run[name].to_numpy()) for name in by_run}
        said[method] = {("", "runs"): len(by_run)} | {
            (name, part): interval[part]
            for name, interval in intervals.items() for part in ("value", "low", "high")
        }
    return pd.DataFrame(said).T


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Return `unlabelled` with a cell a mean and its interval."""
    titles = {
        "consistency": "consistency loss (nats)", "auc": "attack AUC", "unseen_uar": "unseen UAR",
    }
    text = {
        title: [results.with_interval(*row) for row in table[name].to_numpy()]
        for name, title in titles.items()
    }
    index = table.index.map(lambda name: results.TITLES.get(name, str(name).capitalize()))
    runs = table["", "runs"].astype(int).to_numpy()
    return pd.DataFrame({"runs": runs, **text}, index=index.rename("method"))


def of_unlabelled(table: pd.DataFrame) -> None:
    """Say what `unlabelled` decides: is there memory of unlabelled clips, and who reaches it."""
    original, retrained = table.loc["original"], table.loc["retrained"]
    runs = int(original["", "runs"])

    def told(name: str, score: str) -> str:
        value, low, high = (table.loc[name, (score, part)] for part in ("value", "low", "high"))
        return results.with_interval(value, low, high)

    apart = bool(original["auc", "low"] > retrained["auc", "high"])
    remembered = (
        "the intervals do not overlap: the unlabelled clips are remembered" if apart else
        "the intervals overlap: undecided whether the unlabelled clips are remembered"
    )
    display(Markdown(
        f"The attack on the consistency loss has an AUC of {told('original', 'auc')} on the "
        f"original and of {told('retrained', 'auc')} on retrained models (n = {runs} runs); "
        f"{remembered}. The loss itself is {told('original', 'consistency')} nats beside "
        f"{told('retrained', 'consistency')}."
    ))
