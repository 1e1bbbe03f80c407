"""The figures of the book: colour-blind safe, told apart in grey by marker and line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.stats import norm
from torch import Tensor

from speechunlearn.lab.results import TITLES

PALETTE = "colorblind"
_MARKERS = ["o", "s", "D", "^", "v", "P", "X", "<", ">", "p", "*"]
_LINES = ["-", "--", "-.", ":"]
_HATCHES = ["", "///", "..."]


def _styles(names: Sequence[str]) -> dict[str, tuple[str, tuple[float, float, float]]]:
    """Return a marker and a colour for each name.

    Both go round, each after its own number, so that it takes 110 names to repeat a pair.
    """
    colours = sns.color_palette(PALETTE)
    return dict(zip(names, zip(cycle(_MARKERS), cycle(colours), strict=False), strict=False))


def clip_counts(manifest: pd.DataFrame) -> Figure:
    """Draw clips by class and split, and the durations of each split."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    order = [s for s in ("train", "validation", "test") if s in set(manifest["split"])]
    sns.countplot(
        manifest.sort_values("label"), y="label", hue="split", hue_order=order, palette=PALETTE,
        ax=left, edgecolor="black", linewidth=0.5,
    )
    for bars, hatch in zip(left.containers, _HATCHES, strict=False):
        for bar in bars:
            bar.set_hatch(hatch)
    left.set(xlabel="clips", ylabel="")
    left.get_legend().remove()  # the other panel has it, and room for it
    sns.ecdfplot(manifest, x="seconds", hue="split", hue_order=order, palette=PALETTE, ax=right)
    for line, style in zip(right.get_lines(), ["-", "--", ":"], strict=False):
        line.set_linestyle(style)
    right.set(xlabel="duration (s)", ylabel="share of clips")
    right.get_legend().set_title("")
    return figure


def training_curves(histories: dict[str, pd.DataFrame]) -> Figure:
    """Draw training loss by epoch, one line a model.

    Args:
        histories: title -> columns epoch, loss

    """
    figure, axis = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
    styles = _styles(list(histories))
    for (title, history), line in zip(histories.items(), cycle(_LINES), strict=False):
        marker, colour = styles[title]
        axis.plot(
            history["epoch"], history["loss"], marker=marker, color=colour, linestyle=line,
            label=title, markersize=4,
        )
    axis.set(xlabel="epoch", ylabel="training loss (nats)")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
    return figure


def confusion(predictions: pd.DataFrame, labels: Sequence[str]) -> Figure:
    """Draw the confusion matrix of one set of clips, each row as shares of its class."""
    counts = pd.crosstab(predictions["label"], predictions["prediction"]).reindex(
        index=range(len(labels)), columns=range(len(labels)), fill_value=0
    )
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    figure, axis = plt.subplots(figsize=(5.2, 4.2), layout="constrained")
    sns.heatmap(
        shares, annot=True, fmt=".2f", cmap="Greys", vmin=0, vmax=1, cbar=False, ax=axis,
        xticklabels=labels, yticklabels=labels, annot_kws={"size": 8},
    )
    axis.set(xlabel="model says", ylabel="true class")
    axis.tick_params(axis="x", rotation=45)
    return figure


def clip_and_copy(
    waveform_z: Float[Tensor, " time"], copy: Float[Tensor, " time"], sampling_rate: int
) -> Figure:
    """Draw a clip, its adversarial copy and their difference: waveform and spectrogram."""
    pieces = {"clip": waveform_z, "adversarial copy": copy, "difference": copy - waveform_z}
    figure, axes = plt.subplots(
        2, 3, figsize=(10, 4.4), sharex=True, sharey="row", layout="constrained"
    )
    for (title, piece), column in zip(pieces.items(), axes.T, strict=True):
        values = piece.numpy()
        seconds = np.arange(len(values)) / sampling_rate
        column[0].plot(seconds, values, linewidth=0.5, color="black")
        column[0].set_title(title)
        column[1].specgram(
            values + 1e-9, NFFT=400, Fs=sampling_rate, noverlap=240, cmap="magma",
            vmin=-120, vmax=-30,
        )
        column[1].set_xlabel("time (s)")
    axes[0, 0].set_ylabel("amplitude (standard deviations)")
    axes[1, 0].set_ylabel("frequency (Hz)")
    return figure


def by_method(table: pd.DataFrame, paper: pd.DataFrame | None = None) -> Figure:
    """Draw UAR on the forget set and on unseen speakers by method and N, with intervals.

    Args:
        table: of `speechunlearn.lab.results.table_of_methods`
        paper: the paper's numbers, columns method, n_forget, forget, unseen; drawn as crosses

    """
    sizes = sorted(table["n_forget"].unique())
    order = [m for m in TITLES if m in set(table["method"])]
    figure, axes = plt.subplots(
        2, len(sizes), figsize=(2.2 + 2.1 * len(sizes), max(5, 0.6 * len(order))), sharex=True,
        sharey=True, squeeze=False, layout="constrained",
    )
    styles = _styles(list(TITLES))
    for row, (split, title) in zip(
        axes, {"forget": "forget set", "unseen": "unseen speakers"}.items(), strict=True
    ):
        for axis, n in zip(row, sizes, strict=True):
            part = table[(table["n_forget"] == n) & (table["split"] == split)].set_index("method")
            for y, method in enumerate(order):
                if method not in part.index:
                    continue
                marker, colour = styles[method]
                value, low, high = part.loc[method, ["value", "low", "high"]]
                axis.plot([low, high], [y, y], color=colour, linewidth=2)
                axis.plot(value, y, marker=marker, color=colour, markersize=7)
                if paper is not None:
                    theirs = paper[(paper["method"] == method) & (paper["n_forget"] == n)]
                    if len(theirs):
                        axis.plot(
                            theirs[split].iloc[0], y + 0.25, marker="x", color="grey",
                            markersize=5, linestyle="none",
                        )
            if "retrain" in part.index:
                axis.axvline(part.loc["retrain", "value"], color="grey", linewidth=0.8, zorder=0)
            axis.set_title(f"N = {n}" if split == "forget" else "")
            axis.set_xlim(-0.03, 1.03)
        row[0].set_yticks(range(len(order)), [TITLES[m] for m in order])
        row[len(sizes) // 2].set_xlabel(f"UAR, {title}")
    axes[0, 0].invert_yaxis()
    return figure


def uar_over_tau(scores: pd.DataFrame, baseline: float | None = None) -> Figure:
    """Draw UAR on unseen speakers over tau for each N, both adversarial methods: Figure 2.

    Args:
        scores: tidy rows with method, n_forget, tau, value
        baseline: UAR of the original model, drawn as a line

    """
    sizes = sorted(scores["n_forget"].unique())
    figure, axes = plt.subplots(
        1, len(sizes), figsize=(1.2 + 2.3 * len(sizes), 2.9), sharey=True, squeeze=False,
        layout="constrained",
    )
    colours = sns.color_palette(PALETTE, 2)
    for axis, n in zip(axes[0], sizes, strict=True):
        for method, marker, style, colour in zip(
            ("adv", "adv_ela"), "os", ("-", "--"), colours, strict=True
        ):
            part = scores[(scores["n_forget"] == n) & (scores["method"] == method)]
            part = part.sort_values("tau")
            axis.plot(
                part["tau"], part["value"], marker=marker, linestyle=style, color=colour,
                label=TITLES[method], markersize=5,
            )
        if baseline is not None:
            axis.axhline(baseline, color="grey", linewidth=0.8, label="before unlearning")
        axis.set(title=f"N = {n}", xlabel="tau", ylim=(0, 1))
    axes[0, 0].set_ylabel("UAR, unseen speakers")
    axes[0, -1].legend(frameon=False, fontsize=8)
    return figure


def over_n(table: pd.DataFrame, chance: float) -> Figure:
    """Draw UAR on the forget set and on unseen speakers over N, one line a method.

    Retraining, which the others should come close to, is a band: its interval.

    Args:
        table: of `speechunlearn.lab.results.table_of_methods`
        chance: UAR of a guess

    """
    shown = ["original", "remain", "ran_lab", "adv", "adv_ela"]
    lines = [*_LINES, (0, (6, 1, 1, 1, 1, 1))]
    order = [m for m in shown if m in set(table["method"])]
    sizes = sorted(table["n_forget"].unique())
    styles = _styles(order)
    # one above the other: side by side they could not be read on a phone
    figure, axes = plt.subplots(2, 1, figsize=(6, 6.8), sharex=True, layout="constrained")
    titles = {"forget": "on the forget set", "unseen": "on unseen speakers"}
    for axis, (split, title) in zip(axes, titles.items(), strict=True):
        part = table[table["split"] == split].set_index(["method", "n_forget"])
        x = np.arange(len(sizes))
        reference = part.loc["retrain"].loc[sizes]
        axis.fill_between(x, reference["low"], reference["high"], color="0.85", zorder=0)
        axis.plot(x, reference["value"], color="black", linewidth=2.5, label="Retrained: the aim")
        for i, (method, line) in enumerate(zip(order, lines, strict=False)):
            marker, colour = styles[method]
            own = part.loc[method].loc[sizes]
            shift = (i - (len(order) - 1) / 2) * 0.11  # or intervals would hide each other
            errors = [own["value"] - own["low"], own["high"] - own["value"]]
            axis.errorbar(
                x + shift, own["value"], yerr=errors, marker=marker, color=colour, linestyle=line,
                linewidth=1.3, elinewidth=0.9, markersize=6, markeredgecolor="black",
                markeredgewidth=0.5, label=TITLES[method],
            )
        axis.axhline(chance, color="0.4", linewidth=0.9, linestyle=(0, (1, 3)), label="chance")
        axis.set_xticks(x, [str(n) for n in sizes])
        axis.set(ylabel=f"UAR {title}", ylim=(-0.03, 1.05))
    axes[1].set_xlabel("N, clips to forget")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    return figure


def losses(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the cumulative distribution of the forget set's losses under several models.

    Args:
        tables: per-clip predictions by what the model is called

    """
    figure, axis = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
    colours = sns.color_palette(PALETTE, len(tables))
    for (name, table), line, colour in zip(tables.items(), cycle(_LINES), colours, strict=False):
        own = table.loc[table["split"] == "forget", "loss"].clip(lower=1e-6)
        sns.ecdfplot(x=own, ax=axis, label=name, linestyle=line, color=colour, log_scale=True)
    axis.set(xlabel="loss on a forgotten clip (nats)", ylabel="share of the clips at most there")
    axis.legend(frameon=False)
    return figure


def forgetting_and_cost(table: pd.DataFrame) -> Figure:
    """Draw each method's average gap beside what it keeps and what it costs.

    Args:
        table: of `speechunlearn.lab.leaderboard.ranking`

    """
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 4 + 0.05 * len(table)), sharey=True, layout="constrained"
    )
    styles = _styles(list(TITLES))
    for record in table.to_dict("records"):
        marker, colour = styles[record["method"]]
        face = colour if record["alone"] else "none"
        for axis, across in ((left, record["kept"]), (right, record["forward_backward"])):
            axis.plot(
                [across] * 2, [record["gap_low"], record["gap_high"]], color=colour, linewidth=0.8
            )
            axis.plot(
                across, record["gap"], marker=marker, color=colour, markerfacecolor=face,
                linestyle="none", markersize=7, label=TITLES[record["method"]],
            )
    left.set(xlabel="share of the original's UAR kept, unseen", ylabel="average gap")
    right.set(xlabel="clips sent forward and backward", xscale="symlog")
    figure.legend(
        *right.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False,
        fontsize=9,
    )
    return figure


def growth(table: pd.DataFrame, axes: Mapping[str, str]) -> Figure:
    """Draw seconds over each size, both on logarithmic axes: medians, and the range over turns.

    Args:
        table: of `speechunlearn.lab.scaling.measured`
        axes: what each axis is called

    """
    shown = [axis for axis in axes if axis in set(table["axis"])]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(3.1 * columns, 2.7 * rows + 0.5), sharey=True, squeeze=False,
        layout="constrained",
    )
    order = [method for method in TITLES if method in set(table["method"])]
    named = table.assign(method=table["method"].map(TITLES))
    names = [TITLES[method] for method in order]
    for axis, panel in zip(shown, panels.flat, strict=False):
        sns.lineplot(
            named[named["axis"] == axis], x="size", y="seconds", hue="method", style="method",
            hue_order=names, style_order=names, estimator="median", errorbar=("pi", 100),
            err_style="bars", markers=_MARKERS[: len(names)], palette=PALETTE, ax=panel,
        )
        panel.set(xscale="log", yscale="log", xlabel=axes[axis], ylabel="seconds")
        sizes = sorted(named.loc[named["axis"] == axis, "size"].unique())
        panel.set_xticks(sizes, [f"{size:g}" for size in sizes])
        panel.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        panel.get_legend().remove()
    for panel in panels.flat[len(shown) :]:
        panel.set_axis_off()
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(names), frameon=False)
    return figure


def random_splits(imbalances: Sequence[float], chosen: float) -> Figure:
    """Draw how uneven random splits are, and the one that is taken.

    Args:
        imbalances: of splits that were drawn at random
        chosen: of the split that is taken

    """
    figure, axis = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
    sns.histplot(x=list(imbalances), ax=axis, color="lightgrey", edgecolor="black", bins=20)
    axis.axvline(chosen, color="black", linestyle="--", label="the split that is taken")
    axis.set(xlabel="imbalance (0: each part has its share of everything)", ylabel="splits")
    axis.set_xlim(left=0)
    axis.legend(frameon=False)
    return figure


def seen_and_unseen(losses: pd.DataFrame) -> Figure:
    """Draw the loss by step, one line a set of clips.

    Args:
        losses: a column a set of clips, a row a step

    """
    figure, axis = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
    colours = sns.color_palette(PALETTE, losses.shape[1])
    for name, line, colour in zip(losses, cycle(_LINES), colours, strict=False):
        axis.plot(losses.index, losses[name], linestyle=line, color=colour, label=name)
    axis.set(xlabel="steps", ylabel="loss (nats)", ylim=(0, None))
    axis.legend(frameon=False)
    return figure


def loss_pairs(losses: pd.DataFrame) -> Figure:
    """Draw each clip's loss under two models, joined by a line.

    Args:
        losses: two columns, a model each, a row a clip

    """
    figure, axis = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
    rows = losses.clip(lower=1e-6).sort_values(losses.columns[0]).reset_index(drop=True)
    axis.vlines(rows.index, rows.min(axis=1), rows.max(axis=1), color="grey", linewidth=0.8)
    for name, marker, colour in zip(rows, "os", sns.color_palette(PALETTE, 2), strict=True):
        axis.plot(
            rows.index, rows[name], marker=marker, color=colour, linestyle="none", label=name
        )
    axis.set(xlabel="clips to forget", ylabel="loss (nats)", yscale="log", xticks=[])
    axis.legend(frameon=False)
    return figure


def attack_steps(losses: Sequence[float], offsets: Sequence[float], tau: float) -> Figure:
    """Draw the target's loss and the mean abs(delta) before each step of an attack."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    left.plot(losses, marker="o", color="black")
    left.set(xlabel="steps", ylabel="loss of the target (nats)", ylim=(0, None))
    right.plot(offsets, marker="s", color="black")
    right.axhline(tau, color="grey", linestyle="--", label="tau")
    right.set(xlabel="steps", ylabel="mean |delta|", ylim=(0, 1.2 * tau))
    right.legend(frameon=False)
    return figure


def by_layer(importance: Mapping[str, Tensor]) -> Figure:
    """Draw the mean importance of the weights of each layer.

    Args:
        importance: by the name of the weight, from the waveform to the logits

    """
    layers: dict[str, list[Tensor]] = {}
    for name, value in importance.items():
        parts = name.partition(".parametrizations")[0].removeprefix("network.").split(".")
        parts = parts[:-1] if parts[-1] in ("weight", "bias") else parts
        number = next((i for i, part in enumerate(parts) if part.isdecimal()), None)
        layer = parts[-2:] if number is None else parts[number - 1 : number + 1]
        layers.setdefault(" ".join(layer), []).append(value.flatten())
    means = {layer: float(np.mean(np.concatenate(values))) for layer, values in layers.items()}
    means = {layer: mean for layer, mean in means.items() if mean > 0}  # an unused one has none
    figure, axis = plt.subplots(figsize=(6, 0.8 + 0.28 * len(means)), layout="constrained")
    axis.barh(list(means), list(means.values()), color="lightgrey", edgecolor="black")
    axis.set(xlabel="mean importance of a weight", xscale="log")
    axis.invert_yaxis()
    return figure


def resampled(differences: Sequence[float], interval: tuple[float, float, float]) -> Figure:
    """Draw the differences of two models on resamples.

    Args:
        differences: one a resample
        interval: the difference on the clips as they are, lower and upper end

    """
    figure, axis = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
    sns.histplot(x=list(differences), ax=axis, color="lightgrey", edgecolor="black", bins=25)
    value, low, high = interval
    axis.axvline(value, color="black", label="on the clips as they are")
    axis.axvline(low, color="black", linestyle="--", label="95 % of the resamples lie between")
    axis.axvline(high, color="black", linestyle="--")
    axis.axvline(0, color="grey", linestyle=":", label="no difference")
    axis.set(xlabel="difference of UAR", ylabel="resamples")
    axis.legend(frameon=False, fontsize=8)
    return figure


def what_tau_means(curve: pd.DataFrame) -> Figure:
    """Draw the target's loss and the signal-to-noise ratio over tau.

    Args:
        curve: columns tau; copy and noise (the target's loss of each, nats); snr and bound (dB)

    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    colours = sns.color_palette(PALETTE, 2)
    for axis, names in (
        (left, {"copy": "adversarial copy", "noise": "random noise"}),
        (right, {"snr": "adversarial copy", "bound": "all samples moved by tau"}),
    ):
        for (column, name), marker, line, colour in zip(
            names.items(), "os", ("-", "--"), colours, strict=True
        ):
            axis.plot(
                curve["tau"], curve[column], marker=marker, linestyle=line, color=colour,
                label=name,
            )
        axis.set_xlabel("tau")
        axis.legend(frameon=False, fontsize=8)
    left.set(ylabel="loss of the target (nats)", ylim=(0, None))
    right.set_ylabel("signal-to-noise ratio (dB)")
    return figure


def alternation(passes: pd.DataFrame) -> Figure:
    """Draw what each pass of SCRUB does to the two losses.

    Args:
        passes: columns pass (``start``, ``max`` or ``min``), forget (divergence from the teacher)
            and retain (cross-entropy), one row after each pass

    """
    figure, axis = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
    for column, name, marker, line, colour in zip(
        ("forget", "retain"), ("forget: divergence from the teacher", "retain: cross-entropy"),
        "os", ("-", "--"), sns.color_palette(PALETTE, 2), strict=True,
    ):
        axis.plot(
            range(len(passes)), passes[column], marker=marker, linestyle=line, color=colour,
            label=name,
        )
    axis.set_xticks(range(len(passes)), list(passes["pass"]))
    axis.set(xlabel="after each pass", ylabel="nats", ylim=(0, None))
    axis.legend(frameon=False)
    return figure


def dampened(
    of_forget: Float[np.ndarray, " weights"], of_all: Float[np.ndarray, " weights"],
    selection: float,
) -> Figure:
    """Draw the importance of weights to the forget set over that to all clips; SSD's choice."""
    figure, axis = plt.subplots(figsize=(5, 3.6), layout="constrained")
    chosen = of_forget > selection * of_all
    for inside, marker, colour, name in (
        (~chosen, ".", "grey", "left as they are"),
        (chosen, "^", sns.color_palette(PALETTE)[1], "dampened"),
    ):
        axis.plot(
            of_all[inside], of_forget[inside], marker=marker, color=colour, linestyle="none",
            markersize=3, label=name,
        )
    ends = np.array([of_all[of_all > 0].min(), of_all.max()])
    axis.plot(ends, selection * ends, color="black", linewidth=0.8)
    axis.set(
        xscale="log", yscale="log", xlabel="importance to all clips",
        ylabel="importance to the forget set",
    )
    axis.legend(frameon=False)
    return figure


def struck_out(
    answer: Float[np.ndarray, " classes"], target: Float[np.ndarray, " classes"],
    labels: Sequence[str],
) -> Figure:
    """Draw what the original says of a clip, and DELETE's target: that without the true class.

    The ten classes that the original finds likeliest are shown, the likeliest first.
    """
    shown = np.argsort(-answer, kind="stable")[:10]
    names = [labels[i] for i in shown]
    figure, axes = plt.subplots(
        1, 2, figsize=(8, 0.9 + 0.24 * len(names)), sharex=True, sharey=True,
        layout="constrained",
    )
    for axis, values, hatch, title in zip(
        axes, (answer, target), ("", "///"), ("the original's answer", "the target"), strict=True
    ):
        axis.barh(names, values[shown], color="lightgrey", edgecolor="black", hatch=hatch)
        axis.set(title=title, xlabel="probability", xlim=(0, 1))
    axes[0].invert_yaxis()
    return figure


def pairs(
    members: Float[np.ndarray, " members"], nonmembers: Float[np.ndarray, " nonmembers"]
) -> Figure:
    """Draw every pair of a member and a non-member: dark where the member has the lower loss."""
    figure, axis = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
    won = np.sort(members)[:, None] < np.sort(nonmembers)[None, :]
    axis.pcolormesh(won, cmap="Greys", vmin=-0.2, vmax=1.4)
    axis.set(
        xlabel="clips not trained on, by their loss", ylabel="forgotten clips, by their loss",
        xticks=[], yticks=[],
    )
    return figure


def likelihoods(
    value: float, inside: Float[np.ndarray, " inside"], outside: Float[np.ndarray, " outside"]
) -> Figure:
    """Draw one clip's confidence under the attacked model between those of shadow models."""
    figure, axis = plt.subplots(figsize=(5.5, 3), layout="constrained")
    both = np.concatenate([inside, outside, [value]])
    reach = 0.5 * (both.max() - both.min())
    grid = np.linspace(both.min() - reach, both.max() + reach, 300)
    for values, line, marker, colour, name in zip(
        (inside, outside), ("-", "--"), "os", sns.color_palette(PALETTE, 2),
        ("heard the clip", "never heard it"), strict=True,
    ):
        density = norm.pdf(grid, values.mean(), values.std(ddof=1))
        axis.plot(grid, density, linestyle=line, color=colour, label=name)
        axis.plot(values, np.zeros_like(values), marker=marker, color=colour, linestyle="none")
    axis.axvline(value, color="black", linestyle=":", label="the attacked model")
    axis.set(xlabel="logit-scaled confidence of the true class", ylabel="density")
    axis.legend(frameon=False, fontsize=8)
    return figure
