"""What each chapter answers, in a sentence or two: computed from committed results on real speech.

Beside a share stand its 95 % interval and its number of runs, and after an answer what it was
made from.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from speechunlearn import corpora
from speechunlearn.chapters import other_models, unlearnable
from speechunlearn.lab import experiments, leaderboard, probing, results, sentences
from speechunlearn.lab.results import COMMITTED, TITLES, Results

SETTING = "validation"


def of_committed(chapter: str) -> None:
    """Show a chapter's answer.

    Args:
        chapter: name of its notebook

    """
    display(Markdown(ANSWERS[chapter]()))


def _emotions() -> Results:
    return results.committed("cpu", "ravdess").reported().select(setting=SETTING)


def _table(shown: Results, kind: str = "clips") -> pd.DataFrame:
    """Return UARs by method and part: of the largest forget sets, where there are several sizes."""
    table = results.table_of_methods(
        shown, SETTING, forget_kind=kind, generator=np.random.default_rng(0)
    )
    largest = table[table["n_forget"] == table["n_forget"].max()]
    return largest.set_index(["method", "split"])


def _about(shown: Results, table: pd.DataFrame | None = None) -> str:
    """Return what an answer is of."""
    evaluations = shown.evaluations
    titles = " and ".join(
        corpora.get(name).title.partition(":")[0] for name in evaluations["corpus"].unique()
    )
    runs = len(evaluations[["seed", "forget_id"]].drop_duplicates())
    runs = runs if table is None else int(table["runs"].max())
    n = 0 if table is None else int(table["n_forget"].iloc[0])
    size = f"N = {n} clips to forget, " if n else ""
    return (
        f" ({titles}, profile `cpu`, encoder `{evaluations['encoder'].iloc[0]}`, {size}"
        f"n = {runs} {'run' if runs == 1 else 'runs'}.)"
    )


def _difference(shown: Results, other: str, method: str) -> str:
    """Return by how much a method's UAR on unseen speakers differs from another's."""
    tests = results.tests_against(
        shown, SETTING, other, (method,), generator=np.random.default_rng(0)
    )
    (row,) = tests[tests["n_forget"] == tests["n_forget"].max()].to_dict("records")
    return results.with_interval(row["difference"], row["low"], row["high"])


def _uar(table: pd.DataFrame, method: str, split: str = "forget") -> str:
    return results.with_interval(*table.loc[(method, split), ["value", "low", "high"]])


def _corpus() -> str:
    shown = _emotions()
    clips = pd.concat([
        shown.of_evaluation(evaluation) for evaluation in
        shown.select(method="original").evaluations["evaluation"]
    ])
    heard, unseen = (
        set(clips.loc[clips["split"].isin(parts), "speaker"])
        for parts in (("forget", "retain"), ("unseen",))
    )
    return (
        f"Models are trained on {len(heard)} speakers and tested on {len(unseen)} others, of whom "
        f"{len(heard & unseen)} are among the first; the recordings to forget are drawn from those "
        f"that a model was trained on.{_about(shown)}"
    )


def _memory() -> str:
    shown = _emotions()
    table = _table(shown)
    attack = table.loc[("original", "forget"), "mia_auc"]
    retrained = table.loc[("retrain", "forget"), "mia_auc"]
    return (
        f"Yes: UAR is {_uar(table, 'original')} on clips that it was trained on and "
        f"{_uar(table, 'original', 'unseen')} on unseen speakers. An attack on the loss tells "
        f"these clips from those of unseen speakers with an AUC of {attack:.2f}; of models "
        f"retrained without the clips it is {retrained:.2f}.{_about(shown, table)}"
    )


def _labels() -> str:
    shown = _emotions()
    table = _table(shown)
    return (
        f"UAR on the forget set falls from {_uar(table, 'original')} to {_uar(table, 'ran_lab')}; "
        f"models that were retrained without it have {_uar(table, 'retrain')}. On unseen speakers "
        f"random labels change UAR by {_difference(shown, 'original', 'ran_lab')}."
        f"{_about(shown, table)}"
    )


def _copies() -> str:
    shown = _emotions()
    table = _table(shown)
    unlike = sentences.unlike_the_paper(shown.evaluations, ["adv_ela"])
    reduced = f" Reduced variant: {unlike}." if unlike else ""
    return (
        f"Adv. + Ela. leaves a UAR of {_uar(table, 'adv_ela')} on the forget set, where models "
        f"retrained without it have {_uar(table, 'retrain')}.{_about(shown, table)}{reduced}"
    )


def _claims() -> str:
    shown = _emotions()
    table = _table(shown)
    verdicts = experiments.claims(
        shown, SETTING, chance=1 / shown.n_labels, generator=np.random.default_rng(0)
    )["verdict"].value_counts()
    counted = ", ".join(f"{word}: {count}" for word, count in verdicts.items())
    interval = _difference(shown, "ran_lab", "adv")
    return (
        f"On unseen speakers Adv. has a UAR that differs from that of random labels by {interval}"
        f".{_about(shown, table)} Of {verdicts.sum()} tests of the paper's claims, {counted}."
    )


def _tau() -> str:
    shown = results.committed("cpu", "ravdess").select(forget_id=experiments.DEVELOPMENT)
    table = experiments.shape_over_tau(shown)
    inside = int(table["rises, then falls"].sum())
    lowest, highest = table["best"].min(), table["best"].max()
    return (
        f"In {inside} of {len(table)} curves (a method and an N each) the UAR on unseen speakers "
        "rises, then falls, over tau, as in the paper's figure; the best tau keeps a UAR of "
        f"{lowest:.2f} to {highest:.2f}. One run a point: no interval, and nothing is "
        f"decided.{_about(shown)}"
    )


def _closest(shown: Results, kind: str) -> str:
    """Return which method comes closest to retraining in UAR, and how close."""
    table = _table(shown, kind)
    apart = table["distance"].unstack()[["forget", "unseen"]].sum(axis=1)
    apart = apart.drop(index=["original", "retrain"])
    best = str(apart.idxmin())
    return (
        f"Of {len(apart)} methods, {TITLES[best]} comes closest, picked by these same runs: its "
        f"UAR on the forget set is {_uar(table, best)}, where models retrained without it have "
        f"{_uar(table, 'retrain')} and the original has {_uar(table, 'original')}; on what is "
        f"unseen {_uar(table, best, 'unseen')}, {_uar(table, 'retrain', 'unseen')} and "
        f"{_uar(table, 'original', 'unseen')}.{_about(shown.select(forget_kind=kind), table)}"
    )


def _words(kind: str) -> Callable[[], str]:
    return lambda: _closest(results.committed("cpu", "arabic_speech_commands", "keyword"), kind)


def _voices() -> str:
    return _closest(results.committed("cpu", "arabic_speech_commands", "speaker"), "class")


def _audit() -> str:
    board = leaderboard.committed("cpu-arabic_speech_commands").ranking.set_index("method")
    methods = board.drop(index=["retrain", "original"])
    original, retrained = board.loc["original"], board.loc["retrain"]
    none = int((methods["cards_passed"] == 0).sum())
    return (
        "By models that were retrained without the clips: a report card is passed where each score "
        "lies where that of one more retrained model would. Retrained models pass "
        f"{retrained['cards_passed']:.0f} of {retrained['cards']:.0f} cards, the original "
        f"{original['cards_passed']:.0f} of {original['cards']:.0f}; of {len(methods)} methods, "
        f"{none} pass none. (Arabic words, profile `cpu`, n = {original['runs']:.0f} runs.)"
    )


def _ranks() -> str:
    said = []
    for folder in sorted(path.parent for path in leaderboard.FOLDER.glob("*/ranking.csv")):
        board = leaderboard.committed(folder.name)
        table = board.ranking.set_index("method")
        table = table[table["forget_only"] & (table.index != "original")]
        first, second = table.iloc[0], table.iloc[1]
        evaluations = board.results.evaluations.iloc[0]
        title = corpora.get(evaluations["corpus"]).title.partition(":")[0]
        said.append(
            f"{title}, {evaluations['task']}: {TITLES[table.index[0]]}, "
            f"{results.with_interval(first['gap'], first['gap_low'], first['gap_high'])} "
            f"(next: {TITLES[table.index[1]]}, {second['gap']:.2f}, p = {second['p']:.2f}; "
            f"n = {first['runs']:.0f} runs)"
        )
    return (
        "Of the methods that use the forget set alone, by the average gap to retraining. "
        f"{'. '.join(said)}. With three runs no first place is certain."
    )


def _request() -> str:
    rows = pd.read_csv(COMMITTED.parent / "benchmarks" / "requests.csv", dtype={"kind": str})
    rows = rows[rows["kind"] == "16"]
    who = rows["who"].str.partition(" ")[0]
    scores = rows.groupby(["request", who])[["loss", "auc"]].mean().unstack()
    requests = len(scores)
    drawn = np.random.default_rng(0).integers(requests, size=(2000, requests))
    said = []
    for name, words in (("loss", "mean loss on its clips"), ("auc", "AUC of the attack on it")):
        gap = scores[name].sub(scores[name]["retrained"], axis=0)
        before, after = gap["original"].to_numpy(), gap["unlearned"].to_numpy()
        closed = 1 - after[drawn].mean(axis=1) / before[drawn].mean(axis=1)
        interval = (1 - after.mean() / before.mean(), *np.quantile(closed, [0.025, 0.975]))
        said.append(f"{results.with_interval(*interval)} in the {words}")
    return (
        "`forget` writes another model, and a report that begins with a verdict. Of the gap "
        "between the original and models retrained without the clips it closed, with 1 for all of "
        f"it, {' and '.join(said)}. (Arabic words, an AST that a plain loop trained, "
        f"n = {requests} requests of 16 clips.)"
    )


def _cost() -> str:
    said = []
    for folder in sorted(path.parent for path in leaderboard.FOLDER.glob("*/ranking.csv")):
        board = leaderboard.committed(folder.name)
        passes = board.ranking.set_index("method")["forward_backward"]
        evaluations = board.results.evaluations.iloc[0]
        title = corpora.get(evaluations["corpus"]).title.partition(":")[0]
        share = 100 * passes[leaderboard.OURS] / passes["retrain"]
        said.append(f"{share:.0f} % ({title}, {evaluations['task']})")
    return (
        "Counted in clips that are sent forward and backward, which depends on no machine, "
        f"{TITLES[leaderboard.OURS]} took {', '.join(said)} of retraining, scoring left out, with "
        "the epochs of the committed leaderboards. Below is how this grows with each size."
    )


def _attribute() -> str:
    rows = probing.kept(probing.RESULTS)
    cells = probing.committed().set_index(probing.CELL)

    def uar(*cell: str) -> str:
        return results.with_interval(*cells.loc[cell, ["uar", "low", "high"]])

    linear = ("gender", "projected", "linear", "unseen speakers")
    tuned = ("gender", "encoder", "fine-tuned", "model's speakers")
    task = ("task", "logits", "", "")
    return (
        "Not by what was tried. After LEACE a linear probe of other speakers tells the gender from "
        f"what the head is given with a UAR of {uar(*linear, 'leace')}, before it "
        f"{uar(*linear, 'original')}, after gradient reversal {uar(*linear, 'reversal 1')}; a "
        f"fine-tuned encoder with {uar(*tuned, 'original')} and {uar(*tuned, 'reversal 1')}. UAR "
        f"of emotions on unseen speakers: {uar(*task, 'original')}, with LEACE "
        f"{uar(*task, 'leace')}, with reversal {uar(*task, 'reversal 1')}. (RAVDESS, profile "
        f"`cpu`, encoder `{rows['encoder'].iloc[0]}`, {rows['speaker'].nunique()} unseen speakers, "
        f"n = {rows['run'].nunique()} runs.)"
    )


def _other_models() -> str:
    judged = other_models.claims(other_models.rows())
    remembers = judged[judged["claim"] == next(iter(other_models.CLAIMS))]
    said = [
        f"{other_models.TITLES[row['architecture']]} "
        f"{results.with_interval(row['value'], row['low'], row['high'])} (n = {row['runs']} runs)"
        for row in remembers.to_dict("records")
    ]
    verdicts = judged["verdict"].value_counts()
    counted = ", ".join(f"{word}: {count}" for word, count in verdicts.items())
    return (
        "By how much an attack on the loss knows the clips better on the original than on models "
        f"retrained without them, AUC: {'; '.join(said)}. Of {len(judged)} pairs of a claim and "
        f"an architecture, {counted}. (Arabic words; wav2vec 2.0 from `nano-english`, Moonshine "
        "tiny from its pre-trained weights, the others from random ones.)"
    )


#: by the name of a chapter's notebook
ANSWERS: dict[str, Callable[[], str]] = {
    "01_corpus": _corpus,
    "02_finetuning": _memory,
    "03_baselines": _labels,
    "04_adversarial_and_elastic": _copies,
    "05_table1": _claims,
    "06_ablation": _tau,
    "07_keyword_spotting": _words("clips"),
    "07_keyword_spotting_class": _words("class"),
    "07_keyword_spotting_speaker": _words("speaker"),
    "08_speaker_identification": _voices,
    "09_audit": _audit,
    "10_leaderboard": _ranks,
    "11_request": _request,
    "12_cost": _cost,
    "13_unlearnable_audio": unlearnable.answer,
    "14_attribute": _attribute,
    "15_other_models": _other_models,
}
