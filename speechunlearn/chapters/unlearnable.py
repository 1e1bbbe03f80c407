"""What a model learns of protected recordings: the committed table of real speech, and a trial."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

from speechunlearn.audit import metrics, statistics
from speechunlearn.dataset.protection import Key, protect
from speechunlearn.lab.results import COMMITTED, MISSING, number, with_interval
from speechunlearn.lab.study import Study
from speechunlearn.models import training

NAMES = {"none": "not protected", "poscuda": "PosCUDA", "cuda": "CUDA"}
#: that of the committed main table
PATCH_SECONDS = 0.25
#: trained from scratch
MODELS = ("mfcc conv", "mfcc gru", "mfcc transformer", "raw conv")
_CONDITION = ["task", "model", "method", "patch_seconds", "taps", "blur", "share", "attack"]


def committed() -> pd.DataFrame:
    """Return the rows of ``benchmarks/protection.py``: one a condition and run."""
    return pd.read_csv(COMMITTED.parent / "benchmarks" / "protection.csv", dtype={"commit": str})


def ratings() -> pd.DataFrame:
    """Return the rows of ``benchmarks/protection.py --mos``: means of a run's clips."""
    return pd.read_csv(COMMITTED.parent / "benchmarks" / "protection_mos.csv")


def points(
    rows: pd.DataFrame, by: Sequence[str], value: str = "uar", bounded: bool = True
) -> pd.DataFrame:
    """Return the mean over runs, its 95 % t interval and the number of runs, by condition.

    Intervals of recalls are cut at 0 and 1, unless they are of differences.

    Examples:
        >>> rows = pd.DataFrame({"method": ["none"] * 3, "uar": [0.7, 0.8, 0.9]})
        >>> points(rows, ["method"]).round(3).to_dict("records")
        [{'method': 'none', 'value': 0.8, 'low': 0.552, 'high': 1.0, 'n': 3}]

    """
    table = pd.DataFrame(
        [(*condition, *statistics.t_interval(of.to_numpy()), len(of))
         for condition, group in rows.groupby(list(by), sort=False)
         if len(of := group[value].dropna())],
        columns=[*by, "value", "low", "high", "n"],
    )  # fmt: skip
    if bounded and value in ("uar", "recall_one"):
        table[["low", "high"]] = table[["low", "high"]].clip(0, 1)
    return table


def _text(table: pd.DataFrame, digits: int = 2) -> list[str]:
    return [
        with_interval(row.value, row.low, row.high, digits) if row.n > 1
        else number(row.value, digits)
        for row in table.itertuples()
    ]  # fmt: skip


def _runs(table: pd.DataFrame, index: list[str]) -> pd.Series:
    """Return of how many runs the numbers of each row are."""
    n = table.groupby(index, sort=False)["n"].agg(["min", "max"])
    return n["min"].astype(str).where(n["min"] == n["max"], n.astype(str).agg("–".join, axis=1))


def answer() -> str:
    """Return the chapter's answer."""
    rows = committed()
    words = rows[(rows["task"] == "keyword") & (rows["model"] == "mfcc conv")]
    uar = points(words[words["question"] == "main"], ["method"]).set_index("method")
    voices = rows[(rows["question"] == "main") & (rows["task"] == "speaker")]
    voices = points(voices[voices["model"] == "mfcc conv"], ["method"]).set_index("method")
    said, named = (
        {name: with_interval(*table.loc[name, ["value", "low", "high"]]) for name in table.index}
        for table in (uar, voices)
    )
    changes = rows[(rows["model"] == "quality") & (rows["question"] == "main")]
    snr = points(changes[changes["task"] == "keyword"], ["method"], "snr_db").set_index("method")
    decibels = {
        name: f" at {number(snr.loc[name, 'value'], 0)} dB" if name in snr.index else ""
        for name in uar.index
    }
    attacked = rows[(rows["question"] == "attack") & (rows["task"] == "keyword")]
    attacked = points(attacked[attacked["method"] == "poscuda"], ["attack"])
    best = attacked[attacked["n"] > 1].sort_values("value").iloc[-1]
    return (
        f"Only in part. A model trained on words of which a patch of {PATCH_SECONDS} s was blurred "
        f"(PosCUDA{decibels['poscuda']}) names clean words of other speakers with a UAR of "
        f"{said['poscuda']}; trained on unprotected words, {said['none']}; on words that are "
        f"blurred from end to end (CUDA{decibels['cuda']}), {said['cuda']}. Of what a trainer does "
        f"against PosCUDA, *{best['attack']}* went furthest here, to "
        f"{with_interval(best['value'], best['low'], best['high'])}. Speakers are named with "
        f"{named['poscuda']} after PosCUDA, {named['none']} without. (Arabic words, small models "
        f"on MFCC trained from scratch, n = {int(uar['n'].min())} runs of words, "
        f"{int(voices['n'].min())} of speakers.)"
    )


def main(rows: pd.DataFrame) -> pd.DataFrame:
    """Show UAR on clean speech by task and model: not protected, PosCUDA, CUDA, what these cost."""
    return _beside(rows[(rows["question"] == "main") & (rows["model"] != "quality")], "model")


def _beside(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return the methods side by side, and what each costs: differences of runs, their mean."""
    index = ["task", by]
    table = points(rows, [*index, "method"])
    runs = rows.pivot_table(index=[*index, "run"], columns="method", values="uar", sort=False)
    for method in [name for name in NAMES if name in runs and name != "none"]:
        cost = (runs["none"] - runs[method]).dropna().reset_index(name="uar")
        cost = points(cost, index, bounded=False).assign(method=f"{NAMES[method]} costs")
        table = pd.concat([table, cost])
    return _wide(table.assign(text=_text(table)), index)


def _wide(table: pd.DataFrame, index: list[str]) -> pd.DataFrame:
    wide = table.assign(method=table["method"].replace(NAMES)).pivot_table(
        index=index, columns="method", values="text", aggfunc="first", sort=False
    )
    columns = [name for name in NAMES.values() if name in wide]
    columns += [name for name in wide if name not in columns]
    wide = wide[columns].fillna("not run").rename_axis(columns=None)
    return wide.assign(n=_runs(table, index))


def quality(rows: pd.DataFrame) -> pd.DataFrame:
    """Show UAR, SNR and Fréchet distance for each patch, filter and blur that was tried."""
    words = rows[rows["question"].isin(["main", "sweep"]) & (rows["task"] == "keyword")]
    words = words[words["model"].isin(["mfcc conv", "quality"]) & (words["method"] != "none")]
    halves = words["frechet_halves"].mean()
    unprotected = ratings().query("task == 'keyword'").drop_duplicates("run")
    display(Markdown(
        f"Two random halves of the unprotected clips lie {number(halves)} apart: of half as many "
        "clips each, few enough that most of it is chance. Their MOS is estimated as "
        f"{_text(points(unprotected, ['task'], 'mos_unprotected'))[0]}, n = {len(unprotected)}."
    ))
    by = ["method", "patch_seconds", "taps", "blur"]
    words = pd.concat([words, ratings().query("task == 'keyword'")])
    table: dict[str, pd.Series] = {}
    for value, title, digits in (
        ("uar", "UAR on clean speech", 2), ("snr_db", "SNR (dB)", 1),
        ("frechet", "Fréchet distance", 2), ("mos", "MOS, estimated", 2),
    ):
        column = points(words.dropna(subset=[value]), by, value)
        table[title] = column.assign(text=_text(column, digits)).set_index(by)["text"]
        table["n"] = _runs(column, by)
    table["n"] = table.pop("n")  # the last column
    wide = pd.DataFrame(table).fillna("not run").sort_index().reset_index()
    patch = wide["patch_seconds"].map("{:g}".format).where(wide["method"] != "cuda", "all")
    wide = wide.assign(method=wide["method"].map(NAMES), patch_seconds=patch)
    return wide.rename(columns={"patch_seconds": "patch (s)"}).set_index("method")


def trade_off(rows: pd.DataFrame) -> pd.DataFrame:
    """Return mean SNR and UAR with its interval for each patch, filter and blur."""
    words = rows[rows["question"].isin(["main", "sweep"]) & (rows["task"] == "keyword")]
    by = ["method", "patch_seconds", "taps", "blur"]
    uar = points(words[words["model"] == "mfcc conv"], by).set_index(by)
    snr = points(words[words["model"] == "quality"], by, "snr_db").set_index(by)["value"]
    return uar.assign(snr_db=snr).dropna(subset=["snr_db"]).reset_index()


def over_share(rows: pd.DataFrame) -> pd.DataFrame:
    """Return UAR with its interval by the share of clips that is protected, 0 and 1 included."""
    words = rows[rows["question"].isin(["main", "share"]) & (rows["task"] == "keyword")]
    words = words[(words["model"] == "mfcc conv") & (words["method"] != "cuda")]
    words = words.assign(share=words["share"].where(words["method"] != "none", 0.0))
    return points(words, ["share"]).sort_values("share")


def attacks(rows: pd.DataFrame) -> pd.DataFrame:
    """Show what a trainer reaches who expects protection; beside it the same on unprotected speech.

    The first row of a task is a trainer who expects nothing.
    """
    models = rows["model"].isin(["mfcc conv", "nano-english"])
    shown = rows[rows["question"].isin(["main", "attack"]) & models]
    table = _beside(shown.assign(attack=shown["attack"].replace("none", "nothing")), "attack")
    no_matter = table.index.get_level_values("attack") == "clean clips alone"
    return table.mask(no_matter[:, None] & (table == "not run"), MISSING)


def shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Show UAR by model and the share of clips that is protected with PosCUDA."""
    words = rows[rows["question"].isin(["main", "share"]) & (rows["task"] == "keyword")]
    words = words[words["model"].isin(MODELS) & (words["method"] != "cuda")]
    words = words.assign(share=words["share"].where(words["method"] != "none", 0.0))
    table = points(words, ["model", "share"])
    table = table.assign(text=_text(table), share=table["share"].map("{:.0%}".format))
    wide = table.pivot(index="model", columns="share", values="text").fillna("not run")
    wide = wide[sorted(wide, key=lambda share: int(share[:-1]))].rename_axis(columns=None)
    return wide.assign(n=_runs(table, ["model"]))


def one_class(rows: pd.DataFrame) -> pd.DataFrame:
    """Show the recall of one class, by whether it alone is protected, or all, or none."""
    shown = rows[(rows["model"] == "mfcc conv") & rows["question"].isin(["main", "one"])]
    shown = shown[shown["task"].isin(shown.loc[shown["question"] == "one", "task"])]
    protected = np.where(shown["question"] == "one", "it alone", "all")
    shown = shown.assign(protected=np.where(shown["method"] == "none", "none", protected))
    table = points(shown, ["task", "protected", "method"], "recall_one")
    return _wide(table.assign(text=_text(table)), ["task", "protected"]).replace("not run", MISSING)


def made_by(rows: pd.DataFrame) -> None:
    """Say what made the table, and of which conditions there are fewer runs than planned."""
    counted = rows.groupby(_CONDITION)["run"].nunique()
    planned = np.where(counted.index.get_level_values("task") == "keyword", 5, 3)
    display(Markdown(
        f"{len(rows)} rows, {rows['seconds'].sum() / 60:.0f} minutes on {rows['machine'].iloc[0]}; "
        f"code {', '.join(rows['commit'].unique())}. Of {len(counted)} conditions, "
        f"{int((counted < planned).sum())} with fewer runs than planned (5 of keywords, 3 of "
        "speakers and emotions)."
    ))


def trial(study: Study, key: Key, seed: int) -> pd.DataFrame:
    """Train a model on protected clips and one on them as they are; ask both of unseen speakers.

    Args:
        study: corpus and profile
        key: of the protection
        seed: of both models

    Returns:
        a row a model: UAR on what it was trained on, and on unseen speakers' clean clips

    """
    labels = [study.labels[k] for k in study.train.labels.tolist()]
    waveforms = [waveform.numpy() for waveform in study.train.waveforms_z]
    blurred = [torch.from_numpy(waveform) for waveform in protect(waveforms, labels, key)]
    parts = {
        "not protected": study.train,
        "protected": dataclasses.replace(study.train, waveforms_z=blurred),
    }
    rows = {}
    for name, clips in parts.items():
        model = study.fresh(seed)
        training.train(model, clips, study.recipe, seed=seed)
        asked = {"trained on": clips, "unseen speakers, clean": study.unseen}
        rows[name] = {
            title: metrics.uar(
                part.labels.numpy(), training.predict(model, part).argmax(1).numpy(),
                len(study.labels),
            )
            for title, part in asked.items()
        }
    return pd.DataFrame(rows).T
