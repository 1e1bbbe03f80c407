"""The figures of the book: colour-blind safe, told apart in grey by marker and line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm
from torch import Tensor

from speechunlearn.lab.results import TITLES

PALETTE = "colorblind"
_MARKERS = ["o", "s", "D", "^", "v", "P", "X", "<", ">", "p", "*"]
LINES = ["-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1))]
_HATCHES = ["", "///", "..."]
#: bars of one colour
_GREY = {"color": "lightgrey", "edgecolor": "black"}


def styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return a marker and a colour for each name.

    Both go round, each after its own number, so that it takes 110 names to repeat a pair.
    """
    pairs = zip(cycle(_MARKERS), cycle(sns.color_palette(PALETTE)), strict=False)
    return {
        name: {"marker": marker, "color": colour}
        for name, (marker, colour) in zip(names, pairs, strict=False)
    }


#: a method's marker and colour in every figure, by its name and by its title
OF_METHOD = styles(TITLES)
OF_METHOD |= {TITLES[name]: style for name, style in OF_METHOD.items()}


def panels(
    width: float | int, height: float | int, rows: int = 1, columns: int = 1, **shared: Any
) -> Any:
    """Return a figure of so many inches, and its panels."""
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **shared)


def _curves(axis: Axes, table: pd.DataFrame, **how: Any) -> None:
    """Draw each column over the index; one that is called as a method looks as the method does."""
    style_of = styles(table) | OF_METHOD
    for (name, column), line in zip(table.items(), cycle(LINES), strict=False):
        axis.plot(column, label=name, **{**style_of[name], "linestyle": line, **how})
    axis.legend(frameon=False)


def _histogram(values: Sequence[float], lines: Mapping[float, Mapping[str, Any]]) -> Figure:
    """Draw how often values are there, and lines at some of them."""
    figure, axis = panels(5.5, 2.8)
    sns.histplot(x=list(values), ax=axis, bins=20, **_GREY)
    for at, how in lines.items():
        axis.axvline(at, **{"color": "black", **how})
    axis.legend(frameon=False, fontsize=8)
    return figure


def clip_counts(manifest: pd.DataFrame) -> Figure:
    """Draw clips by class and split, and the durations of each split."""
    figure, (left, right) = panels(9, 3.2, 1, 2)
    order = [s for s in ("train", "validation", "test") if s in set(manifest["split"])]
    same: dict[str, Any] = {"hue": "split", "hue_order": order, "palette": PALETTE}
    sns.countplot(
        manifest.sort_values("label"), y="label", ax=left, edgecolor="black", linewidth=0.5,
        legend=False, **same,
    )
    for bars, hatch in zip(left.containers, _HATCHES, strict=False):
        plt.setp(bars, hatch=hatch)
    left.set(xlabel="clips", ylabel="")
    sns.ecdfplot(manifest, x="seconds", ax=right, **same)
    for line, style in zip(right.get_lines(), LINES, strict=False):
        line.set_linestyle(style)
    right.set(xlabel="duration (s)", ylabel="share of clips")
    right.get_legend().set_title("")
    return figure


def training_curves(histories: dict[str, pd.DataFrame]) -> Figure:
    """Draw training loss by epoch, one line a model.

    Args:
        histories: title -> columns epoch, loss

    """
    figure, axis = panels(5.5, 3.2)
    losses = {title: history.set_index("epoch")["loss"] for title, history in histories.items()}
    _curves(axis, pd.DataFrame(losses), markersize=4)
    axis.set(xlabel="epoch", ylabel="training loss (nats)", ylim=(0, None))
    return figure


def confusion(predictions: pd.DataFrame, labels: Sequence[str]) -> Figure:
    """Draw the confusion matrix of one set of clips, each row as shares of its class."""
    classes, few = range(len(labels)), len(labels) <= 10
    shares = pd.crosstab(predictions["label"], predictions["prediction"], normalize="index")
    figure, axis = panels(5.2, 4.2) if few else panels(6.4, 5.4)
    # numbers where there is room for them, shades where there is not
    sns.heatmap(
        shares.reindex(index=classes, columns=classes, fill_value=0), annot=few, fmt=".2f",
        cmap="Greys", vmin=0, vmax=1, cbar=not few, ax=axis, xticklabels=labels,
        yticklabels=labels, annot_kws={"size": 8}, cbar_kws={"label": "share of the class"},
    )
    axis.set(xlabel="model says", ylabel="true class")
    axis.tick_params(axis="x", rotation=45)
    return figure


def clip_and_copy(
    waveform_z: Float[Tensor, " time"], copy: Float[Tensor, " time"], sampling_rate: int
) -> Figure:
    """Draw a clip, its adversarial copy and their difference: waveform and spectrogram."""
    pieces = {"clip": waveform_z, "adversarial copy": copy, "difference": copy - waveform_z}
    figure, axes = panels(10, 4.4, 2, 3, sharex=True, sharey="row")
    for (title, piece), (above, below) in zip(pieces.items(), axes.T, strict=True):
        above.plot(np.arange(len(piece)) / sampling_rate, piece, linewidth=0.5, color="black")
        above.set_title(title)
        below.specgram(
            piece.numpy() + 1e-9, NFFT=400, Fs=sampling_rate, noverlap=240, cmap="magma",
            vmin=-120, vmax=-30,
        )
        below.set_xlabel("time (s)")
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
    place = {method: y for y, method in enumerate(order)}
    figure, axes = panels(
        2.2 + 2.1 * len(sizes), max(5, 0.6 * len(order)), 2, len(sizes), sharex=True, sharey=True,
        squeeze=False,
    )
    titles = {"forget": "forget set", "unseen": "unseen speakers"}
    for row, (split, title) in zip(axes, titles.items(), strict=True):
        for axis, n in zip(row, sizes, strict=True):
            part = table[(table["n_forget"] == n) & (table["split"] == split)].set_index("method")
            for method in (m for m in order if m in part.index):
                score, y, how = part.loc[method], place[method], OF_METHOD[method]
                axis.plot([score["low"], score["high"]], [y, y], color=how["color"], linewidth=2)
                axis.plot(score["value"], y, markersize=7, **how)
            if paper is not None:
                printed = paper[(paper["n_forget"] == n) & paper["method"].isin(order)]
                y = printed["method"].map(place).astype(float) + 0.25
                axis.plot(printed[split], y, "x", color="grey", markersize=5)
            if "retrain" in part.index:
                axis.axvline(part.loc["retrain", "value"], color="grey", linewidth=0.8, zorder=0)
            axis.set(title=f"N = {n}" if split == "forget" else "", xlim=(-0.03, 1.03))
        row[len(sizes) // 2].set_xlabel(f"UAR, {title}")
        row[0].set_yticks(range(len(order)), [TITLES[m] for m in order])
    axes[0, 0].invert_yaxis()
    return figure


def uar_over_tau(scores: pd.DataFrame, baseline: float | None = None) -> Figure:
    """Draw UAR on unseen speakers over tau for each N, both adversarial methods: Figure 2.

    Args:
        scores: tidy rows with method, n_forget, tau, value
        baseline: UAR of the original model, drawn as a line

    """
    by_size = dict(list(scores.groupby("n_forget")))
    figure, axes = panels(
        1.2 + 2.3 * len(by_size), 2.9, 1, len(by_size), sharey=True, squeeze=False
    )
    for axis, (n, scores_of_size) in zip(axes[0], by_size.items(), strict=True):
        curves = scores_of_size.pivot(index="tau", columns="method", values="value")
        _curves(axis, curves.rename(columns=TITLES))
        if baseline is not None:
            axis.axhline(baseline, color="grey", linewidth=0.8, label="before unlearning")
        axis.get_legend().remove()
        axis.set(title=f"N = {n}", xlabel="tau", ylim=(0, 1))
    axes[0, 0].set_ylabel("UAR, unseen speakers")
    axes[0, -1].legend(frameon=False, fontsize=8)
    return figure


def legend_below(figure: Figure, axis: Axes, **how: Any) -> None:
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", frameon=False, **how)


def losses(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the cumulative distribution of the forget set's losses under several models.

    Args:
        tables: per-clip predictions by what the model is called

    """
    figure, axis = panels(5.5, 3.2)
    for (name, table), line in zip(tables.items(), cycle(LINES), strict=False):
        loss = table.loc[table["split"] == "forget", "loss"].clip(lower=1e-6)
        colour = OF_METHOD.get(name, {}).get("color", "black")
        sns.ecdfplot(x=loss, ax=axis, label=name, linestyle=line, color=colour, log_scale=True)
    axis.set(xlabel="loss on a forgotten clip (nats)", ylabel="share of the clips at most there")
    axis.legend(frameon=False)
    return figure


def forgetting_and_cost(table: pd.DataFrame) -> Figure:
    """Draw each method's average gap beside what it keeps and what it costs.

    Args:
        table: of `speechunlearn.lab.leaderboard.ranking`

    """
    figure, axes = panels(9, 4 + 0.05 * len(table), 1, 2, sharey=True)
    for row in table.itertuples():
        how = OF_METHOD[row.method]
        face = how["color"] if row.forget_only else "none"
        for axis, across in zip(axes, (row.relative_utility, row.forward_backward), strict=True):
            axis.plot([across] * 2, [row.gap_low, row.gap_high], color=how["color"], linewidth=0.8)
            axis.plot(
                across, row.gap, markerfacecolor=face, linestyle="none", markersize=7,
                label=TITLES[row.method], **how,
            )
    axes[0].set(xlabel="share of the original's UAR kept, unseen", ylabel="average gap")
    axes[1].set(xlabel="clips sent forward and backward", xscale="symlog")
    legend_below(figure, axes[1], ncols=6, fontsize=9)
    return figure


def growth(table: pd.DataFrame, axes: Mapping[str, str]) -> Figure:
    """Draw seconds over each size, both on logarithmic axes: medians, and the range over turns.

    Args:
        table: of `speechunlearn.lab.scaling.measured`
        axes: what each axis is called

    """
    names = [TITLES[method] for method in TITLES if method in set(table["method"])]
    grid = sns.relplot(
        table.assign(method=table["method"].map(TITLES)), kind="line", x="size", y="seconds",
        col="axis", col_order=[axis for axis in axes if axis in set(table["axis"])], col_wrap=3,
        hue="method", style="method", hue_order=names, style_order=names, estimator="median",
        errorbar=("pi", 100), err_style="bars",
        markers=[OF_METHOD[name]["marker"] for name in names],
        palette=[OF_METHOD[name]["color"] for name in names], height=2.7, aspect=1.15,
        facet_kws={"sharex": False},
    )
    for axis, panel in grid.axes_dict.items():
        sizes = sorted(table.loc[table["axis"] == axis, "size"].unique())
        panel.set(xscale="log", yscale="log", xlabel=axes[axis], title="")
        panel.set_xticks(sizes, [f"{size:g}" for size in sizes])
        panel.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    sns.move_legend(grid, "upper center", bbox_to_anchor=(0.5, 0), ncols=len(names), title=None)
    return grid.figure


def random_splits(imbalances: Sequence[float], chosen: float) -> Figure:
    """Draw how uneven random splits are, and the one that is taken.

    Args:
        imbalances: of splits that were drawn at random
        chosen: of the split that is taken

    """
    figure = _histogram(
        imbalances, {chosen: {"linestyle": "--", "label": "the split that is taken"}}
    )
    label = "imbalance (0: each part has its share of everything)"
    figure.axes[0].set(xlabel=label, ylabel="splits", xlim=(0, None))
    return figure


def seen_and_unseen(losses: pd.DataFrame) -> Figure:
    """Draw the loss by step, one line a set of clips.

    Args:
        losses: a column a set of clips, a row a step

    """
    figure, axis = panels(5.5, 3.2)
    _curves(axis, losses, marker="")
    axis.set(xlabel="steps", ylabel="loss (nats)", ylim=(0, None))
    return figure


def loss_pairs(losses: pd.DataFrame) -> Figure:
    """Draw each clip's loss under two models, joined by a line.

    Args:
        losses: two columns, a model each, a row a clip

    """
    figure, axis = panels(5.5, 3.2)
    rows = losses.clip(lower=1e-6).sort_values(losses.columns[0], ignore_index=True)
    axis.vlines(rows.index, rows.min(axis=1), rows.max(axis=1), color="grey", linewidth=0.8)
    _curves(axis, rows, linestyle="none")
    axis.set(xlabel="clips to forget", ylabel="loss (nats)", yscale="log", xticks=[])
    return figure


def attack_steps(losses: Sequence[float], offsets: Sequence[float], tau: float) -> Figure:
    """Draw the target's loss and the mean abs(delta) before each step of an attack."""
    figure, (left, right) = panels(8, 2.8, 1, 2)
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
    figure, axis = panels(6, 0.8 + 0.28 * len(means))
    axis.barh(list(means), list(means.values()), **_GREY)
    axis.set(xlabel="mean importance of a weight", xscale="log")
    axis.invert_yaxis()
    return figure


def resampled(differences: Sequence[float], interval: tuple[float, float, float]) -> Figure:
    """Draw the differences of two models on resamples.

    Args:
        differences: one a resample
        interval: the difference on the clips as they are, lower and upper end

    """
    value, low, high = interval
    figure = _histogram(differences, {
        value: {"label": "on the clips as they are"},
        low: {"linestyle": "--", "label": "95 % of the resamples lie between"},
        high: {"linestyle": "--"},
        0: {"color": "grey", "linestyle": ":", "label": "no difference"},
    })
    figure.axes[0].set(xlabel="difference of UAR", ylabel="resamples")
    return figure


def what_tau_means(curve: pd.DataFrame) -> Figure:
    """Draw the target's loss and the signal-to-noise ratio over tau.

    Args:
        curve: columns tau; copy and noise (the target's loss of each, nats); snr and bound (dB)

    """
    figure, (left, right) = panels(8, 3, 1, 2)
    named = {"copy": "adversarial copy", "noise": "random noise"}
    _curves(left, curve.set_index("tau")[list(named)].rename(columns=named))
    left.set(xlabel="tau", ylabel="loss of the target (nats)", ylim=(0, None))
    named = {"snr": "adversarial copy", "bound": "all samples moved by tau"}
    _curves(right, curve.set_index("tau")[list(named)].rename(columns=named))
    right.set(xlabel="tau", ylabel="signal-to-noise ratio (dB)")
    return figure


def alternation(passes: pd.DataFrame) -> Figure:
    """Draw what each pass of SCRUB does to the two losses.

    Args:
        passes: columns pass (``start``, ``max`` or ``min``), forget (divergence from the teacher)
            and retain (cross-entropy), one row after each pass

    """
    figure, axis = panels(5.5, 3.2)
    named = {"forget": "forget: divergence from the teacher", "retain": "retain: cross-entropy"}
    _curves(axis, passes.reset_index(drop=True)[list(named)].rename(columns=named))
    axis.set_xticks(range(len(passes)), list(passes["pass"]))
    axis.set(xlabel="after each pass", ylabel="nats", ylim=(0, None))
    return figure


def dampened(
    of_forget: Float[np.ndarray, " weights"], of_all: Float[np.ndarray, " weights"],
    selection: float,
) -> Figure:
    """Draw the importance of weights to the forget set over that to all clips; SSD's choice."""
    figure, axis = panels(5, 3.6)
    chosen, colour = of_forget > selection * of_all, sns.color_palette(PALETTE)[1]
    axis.loglog(of_all[~chosen], of_forget[~chosen], ".", c="grey", ms=3, label="left as they are")
    axis.loglog(of_all[chosen], of_forget[chosen], "^", c=colour, ms=3, label="dampened")
    ends = np.array([of_all[of_all > 0].min(), of_all.max()])
    axis.plot(ends, selection * ends, color="black", linewidth=0.8)
    axis.set(xlabel="importance to all clips", ylabel="importance to the forget set")
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
    figure, axes = panels(8, 0.9 + 0.24 * len(names), 1, 2, sharex=True, sharey=True)
    drawn = {"the original's answer": answer, "the target": target}
    for axis, (title, values), hatch in zip(axes, drawn.items(), _HATCHES, strict=False):
        axis.barh(names, values[shown], hatch=hatch, **_GREY)
        axis.set(title=title, xlabel="probability", xlim=(0, 1))
    axes[0].invert_yaxis()
    return figure


def pairs(
    members: Float[np.ndarray, " members"], nonmembers: Float[np.ndarray, " nonmembers"]
) -> Figure:
    """Draw every pair of a member and a non-member: dark where the member has the lower loss."""
    figure, axis = panels(5.5, 3.4)
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
    figure, axis = panels(5.5, 3)
    both = np.concatenate([inside, outside, [value]])
    grid = np.linspace(-0.5, 1.5, 300) * np.ptp(both) + both.min()
    shadows = {"heard the clip": inside, "never heard it": outside}
    densities = {
        name: norm.pdf(grid, values.mean(), values.std(ddof=1)) for name, values in shadows.items()
    }
    _curves(axis, pd.DataFrame(densities, index=grid), marker="")
    for values, how in zip(shadows.values(), styles(shadows).values(), strict=True):
        axis.plot(values, np.zeros_like(values), linestyle="none", **how)
    axis.axvline(value, color="black", linestyle=":", label="the attacked model")
    axis.set(xlabel="logit-scaled confidence of the true class", ylabel="density")
    axis.legend(frameon=False, fontsize=8)
    return figure


def protected_patch(
    before: Float[np.ndarray, " time"], after: Float[np.ndarray, " time"], patch: slice,
    weights: Float[np.ndarray, " taps"], sampling_rate: int,
) -> Figure:
    """Draw a clip before and after its patch is blurred, what changed, and the class's filter."""
    figure, (left, right) = panels(10, 2.8, 1, 2, width_ratios=(3, 1))
    seconds = np.arange(len(before)) / sampling_rate
    left.plot(seconds, before, linewidth=0.5, color="black", label="clip")
    left.plot(
        seconds[patch], after[patch], linewidth=0.5, color=sns.color_palette(PALETTE)[1],
        label="its patch, blurred",
    )
    left.axvspan(seconds[patch][0], seconds[patch][-1], color="lightgrey", zorder=0)
    left.set(xlabel="time (s)", ylabel="amplitude (standard deviations)")
    left.legend(frameon=False, fontsize=8)
    right.vlines(np.arange(len(weights)), 0, weights, color="black", linewidth=1)
    right.set(xlabel="tap", ylabel="weight", ylim=(0, None))
    return figure


def unlearnability(table: pd.DataFrame, shares: pd.DataFrame) -> Figure:
    """Draw UAR on clean speech over SNR, a point a filter and patch, and over the share protected.

    Args:
        table: method, patch_seconds, snr_db, value, low, high
        shares: share, value, low, high

    """
    figure, (left, right) = panels(9, 3.4, 1, 2, sharey=True)
    look = styles(table["method"].unique())
    for method, rows in table.groupby("method"):
        bars = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
        name = {"poscuda": "PosCUDA", "cuda": "CUDA"}[str(method)]
        left.errorbar(
            rows["snr_db"], rows["value"], bars, linestyle="none", label=name, capsize=2,
            **look[str(method)],
        )
    left.set(xlabel="SNR (dB)", ylabel="UAR on clean speech", ylim=(0, 1))
    if look:
        left.legend(frameon=False, fontsize=8)
    bars = [shares["value"] - shares["low"], shares["high"] - shares["value"]]
    right.errorbar(shares["share"], shares["value"], bars, color="black", marker="o", capsize=2)
    right.set(xlabel="share of clips protected")
    return figure


def attribute_plane(
    pooled: Float[np.ndarray, "clips width"], erased: Float[np.ndarray, "clips width"],
    values: Sequence[str],
) -> Figure:
    """Draw clips on the first two components of a representation, before and after an erasure.

    Args:
        pooled: before
        erased: after, drawn on its own components
        values: of the attribute, one a clip

    """
    figure, axes = panels(7.5, 3.4, columns=2)
    names = sorted(set(values))
    for axis, points, title in zip(axes, (pooled, erased), ("before", "after"), strict=True):
        centred = points - points.mean(axis=0)
        at = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
        for name, style in styles(names).items():
            chosen = at[np.asarray(values) == name]
            axis.scatter(*chosen.T, label=name, s=12, alpha=0.7, **style)
        axis.set(title=title, xlabel="first component", ylabel="second component")
    legend_below(figure, axes[0], ncols=len(names))
    return figure


def claim_intervals(rows: pd.DataFrame, quantity: str) -> Figure:
    """Draw a value and its interval a row; a claim holds to the right of the line at 0.

    Args:
        rows: columns ``value``, ``low`` and ``high``, and names as the index, the first on top
        quantity: what is drawn

    """
    rows = rows.iloc[::-1]
    figure, axis = panels(6, 0.8 + 0.4 * len(rows))
    axis.axvline(0, color="black", linestyle=":")
    axis.hlines(range(len(rows)), rows["low"], rows["high"], color="black")
    axis.plot(rows["value"], range(len(rows)), "o", color="black")
    axis.set_yticks(range(len(rows)), list(rows.index))
    axis.set_xlabel(quantity)
    return figure
