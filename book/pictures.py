"""A picture of what each metric counts, drawn from the worked number of its page.

The numbers are those of a docstring's example, which a test runs; the function is called by the
example, and what it was given is drawn. Orange is what the metric counts, a star is a retrained
model.
"""

from __future__ import annotations

import contextlib
import doctest
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from speechunlearn.audit import closeness, membership, metrics, statistics
from speechunlearn.chapters import figures
from speechunlearn.errors import SpeechUnlearnError

COUNTED = sns.color_palette(figures.PALETTE)[1]
JUDGED = {"marker": "o", "color": "white", "markeredgecolor": "black", "markersize": 9}
RETRAINED = {"marker": "*", "color": "black", "markersize": 13}


def calls(function: Callable[..., Any]) -> list[tuple[dict[str, Any], Any]]:
    """Run a docstring's examples; return what the function was given and returned, each time."""
    noted = []

    def note(*arguments: Any, **named: Any) -> Any:
        value = function(*arguments, **named)
        names = inspect.signature(function).parameters
        noted.append((dict(zip(names, arguments, strict=False)) | named, value))
        return value

    module = vars(inspect.getmodule(function)) | {function.__name__: note}
    for example in doctest.DocTestParser().get_examples(inspect.getdoc(function) or ""):
        with contextlib.suppress(SpeechUnlearnError):
            exec(example.source, module)
    return noted


def of(page: str, function: Callable[..., Any] | None) -> tuple[Figure, str, str]:
    """Draw the picture of a page.

    Args:
        page: name of the metric's page
        function: whose example is the page's worked number; None where none is

    Returns:
        the picture; what it shows, for those who do not see it; its caption

    """
    draw, call = DRAWN[page]
    figure, axis = figures.panels(4, 2.5)
    if function is None:
        caption = draw(axis)
    else:
        given, value = calls(function)[call]
        caption = draw(axis, value, **given)
    axis.spines[["right", "top"]].set_visible(False)
    if axis.get_legend_handles_labels()[1]:
        figures.legend_below(figure, axis, ncols=2, fontsize=9)
    return figure, inspect.getdoc(draw) or "", caption


def save(figure: Figure, path: Path) -> None:
    """Write a picture, the same bytes each time, and close it."""
    matplotlib.rcParams["svg.hashsalt"] = "book"
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


# What several metrics share


def _pairs(
    axis: Axes, judged: Mapping[Any, float], other: Mapping[Any, float], name: str, **how: Any
) -> None:
    """Two marks a row, joined by a line."""
    rows = range(len(judged))
    for row, key in zip(rows, judged, strict=True):
        axis.plot([judged[key], other[key]], [row, row], color=COUNTED, linewidth=4, zorder=1)
    axis.plot(judged.values(), rows, label="model", linestyle="none", **JUDGED)
    others = [other[key] for key in judged]
    axis.plot(others, rows, label=name, linestyle="none", **RETRAINED | how)
    axis.set_yticks(rows, list(judged))
    axis.set(xlim=(-0.05, 1.05), ylim=(len(judged) - 0.5, -0.5))


def _cells(axis: Axes, numbers: Any, counted: Any) -> None:
    """Numbers in a grid, those that count on orange."""
    shades = np.asarray(counted, dtype=float)
    axis.imshow(shades, cmap=matplotlib.colors.LinearSegmentedColormap.from_list(
        "", ["white", COUNTED]), vmin=0, vmax=1, aspect="auto")
    for (row, column), number in np.ndenumerate(np.asarray(numbers)):
        axis.text(column, row, f"{number:g}", ha="center", va="center")
    axis.set(xticks=range(shades.shape[1]), yticks=range(shades.shape[0]))
    axis.set_xticks(np.arange(0.5, shades.shape[1]), minor=True)
    axis.set_yticks(np.arange(0.5, shades.shape[0]), minor=True)
    axis.grid(which="minor", color="black", linewidth=0.5)
    axis.tick_params(which="minor", length=0)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


# One a page


def accuracy(axis: Axes, value: float, truth: Any, prediction: Any, n_labels: int) -> str:
    """A column a clip, with its class above and the model's answer below."""
    right = np.equal(truth, prediction)
    _cells(axis, [truth, prediction], [right, right])
    axis.set_yticks([0, 1], ["class", "model says"])
    axis.set_xlabel("clips")
    return f"{right.sum()} of {len(right)} clips are recognised (orange): {value:g}."


def uar(axis: Axes, value: float, truth: Any, prediction: Any, n_labels: int) -> str:
    """A bar a class, as high as the share of its clips that is recognised, and a line."""
    clips = pd.DataFrame({"class": truth, "right": np.equal(truth, prediction)})
    recalls = clips.groupby("class")["right"].agg(["mean", "sum", "size"])
    names = [f"class {k}:\n{row['sum']:g} of {row['size']:g}" for k, row in recalls.iterrows()]
    axis.bar(names, recalls["mean"], 0.5, color="lightgrey", edgecolor="black")
    axis.axhline(value, color=COUNTED, linewidth=3, label="UAR")
    share = metrics.accuracy(truth, prediction, n_labels)
    axis.axhline(share, color="black", linestyle=":", label="accuracy")
    axis.set(ylabel="recall", ylim=(0, 1), xlim=(-0.7, len(names) - 0.3))
    terms = " + ".join(f"{recall:g}" for recall in recalls["mean"])
    return (f"UAR is the mean of the classes' recalls: ({terms}) / {len(recalls)} = {value:g}. "
            f"Accuracy is that of the clips, {share:.3f}: the larger class weighs more.")


def mean_loss(axis: Axes, value: Any, predictions: pd.DataFrame, n_labels: int) -> str:
    """The curve of minus the logarithm of p, with a mark on it for each clip."""
    losses = predictions.loc[predictions["split"] == "unseen", "loss"].to_numpy()
    p = np.linspace(0.03, 1, 200)
    axis.plot(p, -np.log(p), color="black", linewidth=1)
    axis.plot(np.exp(-losses), losses, label="clip", linestyle="none", zorder=3, **JUDGED)
    mean = value["unseen", "mean_loss"]
    axis.axhline(mean, color=COUNTED, linewidth=3, label="mean loss")
    axis.set(xlabel="probability of the true class", ylabel="loss (nats)", ylim=(0, 3.5))
    terms = " + ".join(f"{loss:g}" for loss in losses)
    return (f"The two unseen clips: ({terms}) / {len(losses)} = {mean:g}. The curve is steep on "
            "the left: a clip that is wrong with certainty outweighs many.")


def mia_auc(axis: Axes, value: Any, member_losses: Any, nonmember_losses: Any) -> str:
    """A row a forgotten clip and a column an unseen one, 1 where the forgotten has less loss."""
    won = np.less.outer(member_losses, nonmember_losses) * 1.0
    won += np.equal.outer(member_losses, nonmember_losses) / 2
    _cells(axis, won, won)
    axis.set_xticks(range(won.shape[1]), nonmember_losses)
    axis.set_yticks(range(won.shape[0]), member_losses)
    axis.set(xlabel="losses of unseen clips", ylabel="losses of\nforgotten clips")
    return (f"Of {won.size} pairs of a forgotten and an unseen clip, the forgotten one has the "
            f"lower loss in {(won == 1).sum()}, an equal one in {(won == 0.5).sum()}: "
            f"{won.sum():g} / {won.size} = {membership.auc(value):g}.")


def mia_performance(axis: Axes, value: float, scores: membership.Scores) -> str:
    """A curve in steps from the lower left to the upper right, and the area below it."""
    order = sorted({*scores.members, *scores.nonmembers}, reverse=True)
    tpr, fpr = ([0, *(_mean(side >= t) for t in order)] for side in scores)
    axis.fill_between(fpr, tpr, color=COUNTED, alpha=0.5, label="AUC")
    axis.plot(fpr, tpr, color="black")
    axis.plot([0, 1], [1, 0], color="grey", linestyle=":", label="errors are equal")
    share, error = membership.tpr_at_fpr(scores), membership.eer(scores)
    axis.plot(share.fpr, share.tpr, label="no false alarm", linestyle="none", zorder=3, **JUDGED)
    axis.set(xlabel="unseen clips accused", ylabel="members found", xlim=(-0.02, 1), ylim=(0, 1.02))
    return (f"Two members score {_listed(scores.members)}, four others "
            f"{_listed(scores.nonmembers)}. The area is {value:g}, the equal error rate {error:g}, "
            f"and {share.tpr:g} of the members lie above every other clip.")


def mia_features(axis: Axes, value: pd.DataFrame, logits: Any, labels: Any) -> str:
    """Three curves over the probability of the true class, with a mark on each."""
    p = np.linspace(0.002, 0.998, 200)
    rest = np.repeat((1 - p)[:, None] / 2, 2, axis=1)
    curves = membership.features(np.log(np.column_stack([p, rest])), np.zeros(len(p), dtype=int))
    for (name, colour), line in zip(
        {"loss": "black", "modified_entropy": COUNTED, "entropy": "grey"}.items(),
        figures.LINES, strict=False,
    ):
        axis.plot(p, curves[name], color=colour, linestyle=line, label=name.replace("_", " "))
        axis.plot(value["confidence"], value[name], linestyle="none", zorder=3, **JUDGED)
    axis.set(xlabel="probability of the true class", ylabel="nats", ylim=(0, 4))
    (row,) = value.to_dict("records")
    return (f"At p = {row['confidence']:g}, the rest shared equally by two other classes: loss "
            f"{row['loss']:.2f}, entropy {row['entropy']:.2f}, modified entropy "
            f"{row['modified_entropy']:.2f}. Where the model is wrong with certainty, on the left, "
            "the entropy is as low as on the right.")


def mia_regression(axis: Axes, value: Any, members: Any, nonmembers: Any, n_folds: int) -> str:
    """A mark a clip, its loss across and its score upwards, and a line at 0."""
    axis.plot(members, value.members, "ko", label="member", markersize=8)
    axis.plot(nonmembers, value.nonmembers, label="not a member", linestyle="none", **JUDGED)
    axis.axhline(0, color=COUNTED, linewidth=3)
    axis.set(xlabel="loss (nats)", ylabel="score (log-odds)")
    return (f"Each clip is scored by a regression on the other fold. All {len(members)} members "
            f"lie above 0 (orange), all {len(nonmembers)} others below: an AUC of "
            f"{membership.auc(value):g}.")


def mia_svc(axis: Axes, value: Any, retain: Any, heldout: Any, forget: Any, unseen: Any) -> str:
    """A curve of the machine's decision over the loss; two marks on it, one above 0, one below."""
    grid = np.linspace(0, 1.5, 200)
    axis.plot(grid, membership.svc_attack(retain, heldout, grid, unseen).members, color="black")
    axis.plot(retain, [-1.9] * len(retain), "k|", markersize=10, label="retained")
    axis.plot(heldout, [-1.9] * len(heldout), "|", color="0.6", markersize=10, label="held apart")
    axis.plot(forget, value.members, label="forgotten", linestyle="none", zorder=3, **JUDGED)
    axis.axhline(0, color=COUNTED, linewidth=3)
    axis.set(xlabel="loss (nats)", ylabel="decision", ylim=(-2.2, 1.7))
    return ("The machine learns from the clips at the bottom. Of the forgotten ones it calls that "
            f"with a loss of {forget[0]:g} a member, above 0 (orange), and that with {forget[1]:g} "
            f"not: a share of {_mean(value.members > 0):g}.")


def mia_matched(
    axis: Axes, value: Any, members: pd.DataFrame, nonmembers: pd.DataFrame, exact: Any
) -> str:
    """Two rows of marks at the clips' durations, members above, and lines between pairs."""
    for pair in zip(value.members, value.nonmembers, strict=True):
        ends = members["seconds"][pair[0]], nonmembers["seconds"][pair[1]]
        axis.plot(ends, [1, 0], color=COUNTED, linewidth=3, zorder=1)
    for table, y in ((members, 1), (nonmembers, 0)):
        large = JUDGED | {"markersize": 17}
        axis.plot(table["seconds"], [y] * len(table), linestyle="none", **large)
        for clip in table.itertuples():
            axis.text(clip.seconds, y, clip.label, ha="center", va="center")
    axis.set_yticks([0, 1], ["others", "members"])
    axis.set(xlabel="duration (s)", ylim=(-0.5, 1.5), xlim=(0.7, 3.3))
    return ("Each member gets the clip of its class (the number) that is nearest in duration, none "
            f"twice. Members are {-value.imbalance.mean_difference:g} s shorter than their "
            "partners on average: what is left of the difference.")


def mia_likelihood_ratio(
    axis: Axes, value: Any, confidences: Any, inside: Any, target: Any
) -> str:
    """Two bell curves over the confidence, and a line where the judged model's lies."""
    heard, rest = confidences[inside], confidences[~inside]
    grid = np.linspace(-5, 8, 200)
    for side, name, how, line in ((heard, "originals", figures.OF_METHOD["original"], "-"),
                                  (rest, "retrained", RETRAINED, "--")):
        axis.plot(grid, norm.pdf(grid, side.mean(), side.std(ddof=1)), line, color=how["color"])
        axis.plot(side, [0] * len(side), linestyle="none", label=name, clip_on=False, zorder=3,
                  **{"markersize": 9} | how)
    axis.axvline(target[0], color=COUNTED, linewidth=3, label="model")
    axis.set(xlabel="logit-scaled confidence of one clip", ylabel="density", ylim=(0, 0.32))
    return (f"At {target[0]:g} (orange) the originals' curve, around {heard.mean():g}, is "
            f"{np.exp(value[0]):.1f} times as high as that of the retrained models, around "
            f"{rest.mean():g}: a score of log {np.exp(value[0]):.1f} = {value[0]:g}.")


def loss_distribution(axis: Axes, value: float, losses: Any, retrained: Any) -> str:
    """Two staircases, the shares of clips up to each loss, and the space between them."""
    grid = np.arange(71) / 10
    model, star = (np.less_equal.outer(side, grid).mean(axis=0) for side in (losses, retrained))
    axis.fill_between(
        grid, model, star, step="post", color=COUNTED, alpha=0.35, label="$W_1$: the area"
    )
    axis.step(grid, model, "k", where="post", label="model")
    axis.step(grid, star, "k--", where="post", label="retrained")
    at = int(np.argmax(abs(model - star)))
    axis.plot([grid[at]] * 2, [model[at], star[at]], color=COUNTED, linewidth=4, label="$D$")
    axis.set(xlabel="loss on a forgotten clip (nats)", ylabel="share up to there")
    area = closeness.loss_emd(losses, retrained)
    return (f"Four clips under each model. The curves are {value:g} apart at most ($D$), and the "
            f"area between them is {area:g} nats ($W_1$): each loss is as much lower.")


def distance(axis: Axes, result: float, value: float, reference: float) -> str:
    """A round mark at the model's score and a star at the retrained model's, joined by a line."""
    _pairs(axis, {"UAR": value}, {"UAR": reference}, "retrained")
    axis.set(xlabel="UAR on the forget set")
    return (f"A model that recognises none of the forgotten clips is |{value:g} − {reference:g}| = "
            f"{result:g} (orange) away from one that never heard them: as far off as can be.")


def tow(axis: Axes, value: float, scores: Any, retrained: Any) -> str:
    """A row a set of clips, with a round mark and a star, joined by a line."""
    _pairs(axis, scores, retrained, "retrained")
    axis.set(xlabel="accuracy or UAR")
    factors = " × ".join(f"{1 - abs(scores[s] - retrained[s]):g}" for s in scores)
    return f"One minus each distance (orange), multiplied: {factors} = {value:g}."


def average_gap(axis: Axes, value: float, scores: Any, retrained: Any) -> str:
    """A row a score, with a round mark and a star; two of them are joined by a line."""
    names = {("forget", "uar"): "forget UAR", ("forget", "mia_auc"): "attack's AUC",
             ("retain", "uar"): "retain UAR", ("unseen", "uar"): "unseen UAR"}
    judged, means = ({name: _mean([one[key] for one in side]) for key, name in names.items()}
                     for side in ([scores], retrained))
    _pairs(axis, judged, means, "mean retrained")
    gaps = [abs(judged[name] - means[name]) for name in judged]
    axis.set(xlabel="score")
    return (f"The first two make the forgetting distance, {_mean(gaps[:2]):g}, the others the "
            f"utility distance, {_mean(gaps[2:]):g}: ({' + '.join(f'{g:g}' for g in gaps)}) / 4 = "
            f"{value:g}.")


def activation_distance(axis: Axes, value: float, probabilities: Any, retrained: Any) -> str:
    """A row a class, with a round mark and a star at the two probabilities, joined by a line."""
    judged, other = ({f"class {k}": p for k, p in enumerate(side[0])}
                     for side in (probabilities, retrained))
    _pairs(axis, judged, other, "retrained")
    axis.set(xlabel="probability, one clip")
    terms = " + ".join(f"{abs(judged[k] - other[k]):.1g}²" for k in judged)
    return f"One clip: √({terms}) = {value:.2f}, the root of the squared distances (orange)."


def zrf(axis: Axes, value: float, probabilities: Any, random_probabilities: Any) -> str:
    """A row a clip, with a round mark and a cross at the probability of the first class."""
    judged, other = ({f"clip {i + 1}": p[0] for i, p in enumerate(side)}
                     for side in (probabilities, random_probabilities))
    _pairs(axis, judged, other, "random network", marker="x", markersize=9)
    axis.set(xlabel="probability of the first of two classes")
    parts = [closeness.zrf(p[None], q[None])
             for p, q in zip(probabilities, random_probabilities, strict=True)]
    return (f"1 − JS is {parts[0]:.3f} where the model is certain and the random network is not "
            f"(orange), and {parts[1]:g} where both guess: {value:.3f} on average.")


def interclass_confusion(
    axis: Axes, value: Any, truth: Any, prediction: Any, classes: Sequence[int]
) -> str:
    """A confusion matrix, with the two cells on orange that lie between the confused classes."""
    table = pd.crosstab(np.array(truth), np.array(prediction))
    counted = [[a != b and {a, b} <= set(classes) for b in table] for a in table.index]
    _cells(axis, table, counted)
    axis.set(xlabel="model says", ylabel="true class")
    return (f"The labels of classes {classes[0]} and {classes[1]} were swapped: {value.n_confused} "
            f"of their {value.n_clips} clips are taken for the other of the two (orange), a share "
            f"of {value.share:g}.")


def anamnesis(
    axis: Axes, value: Any, unlearned: Any, retrained: Any, original_score: float
) -> str:
    """Two rising curves over the steps, with a mark where each comes to the upper line."""
    axis.plot(retrained, "k--", label="retrained")
    axis.plot(unlearned, "k", label="unlearned")
    target = 0.95 * original_score
    axis.axhline(target, color="grey", linestyle=":", label="original, less 5 %")
    for steps, how in ((value.retrained, RETRAINED), (value.unlearned, JUDGED)):
        axis.plot([0, steps], [0.05 + 0.08 * (how is JUDGED)] * 2, color=COUNTED, linewidth=4)
        axis.plot(steps, original_score, clip_on=False, zorder=3, **how)
    axis.set(xlabel="steps of relearning", ylabel="accuracy", ylim=(0, 1.05), xticks=range(5))
    return (f"The unlearned model is back after {value.unlearned:g} step, the retrained one after "
            f"{value.retrained:g} (orange): {value.unlearned:g} / {value.retrained:g} = "
            f"{value.value:g}. It had not forgotten much.")


def gum(axis: Axes, value: closeness.Gum, **given: float) -> str:
    """Efficacy over the model's membership score: a wide parabola, and a narrow one."""
    grid = np.linspace(0, 1, 401)
    published = {name: number for name, number in given.items() if name != "resolution"}
    near = given["mia_retrained"] + 0.03
    for function, known, original, line, name in (
        (closeness.gum_bounded, given, given["mia_original"], "-", "original far off"),
        (closeness.gum_bounded, given, near, "--", "original near, bounded"),
        (closeness.gum, published, near, ":", "original near, published"),
    ):
        curve = [function(**known | {"mia_unlearned": m, "mia_original": original}).efficacy
                 for m in grid]
        axis.plot(grid, curve, line, color="black", label=name)
    at = given["mia_unlearned"]
    axis.plot([at, at], [0, value.efficacy], color=COUNTED, linewidth=4)
    axis.plot(at, value.efficacy, **JUDGED)
    axis.set(xlabel="membership score of the model", ylabel="efficacy E", ylim=(0, 1.05))
    return (f"E = {value.efficacy:g} (orange), U = {value.utility:g} and T = {value.time:g} make "
            f"3 / (1/{value.utility:g} + 1/{value.efficacy:g} + 1/{value.time:g}) = {value.value:g}"
            f". With an original {near - given['mia_retrained']:.2f} from the retrained model, the "
            "published E falls to 0 within that gap, on either side.")


def report_card(axis: Axes, value: Any, values: Any, chance: float, quantile: float) -> str:
    """An interval around two stars; a round mark inside of it passes, two outside fail."""
    low, high = value
    axis.plot(value, [0, 0], color=COUNTED, linewidth=10, alpha=0.6, solid_capstyle="butt",
              label="one more would lie here")
    axis.plot(values, [0.06, -0.06], linestyle="none", label="retrained", **RETRAINED)
    for at, name in ((low - 0.12, "fails"), (high - 0.05, "passes"), (high + 0.12, "fails")):
        axis.plot(at, 0, **JUDGED)
        axis.annotate(name, (at, 0), (0, 12), textcoords="offset points", ha="center")
    axis.spines["left"].set_visible(False)
    axis.set(xlabel="a score, e.g. UAR on the forget set", yticks=[], xlim=(0.2, 0.8),
             ylim=(-0.4, 0.4))
    return (f"Two retrained models agree at {values.mean():g}, so that the clips alone give the "
            f"variance {chance:g}: {values.mean():g} ± {quantile:g} √((1 + 1/{len(values)}) × "
            f"{chance:g}), {low:.3f} to {high:.3f}. Too low fails as too high does.")


def statistics_(axis: Axes, value: Any, predictions: pd.DataFrame, generator: Any) -> str:
    """Two intervals around one score: the one from drawing speakers is the wider one."""
    by_clip = statistics.cluster_bootstrap(
        predictions.assign(clip=range(len(predictions))), clusters="clip",
        generator=np.random.default_rng(0),
    )
    for row, (one, colour) in enumerate(((value, COUNTED), (by_clip, "0.6"))):
        axis.plot([one.low, one.high], [row, row], color=colour, linewidth=4)
        axis.plot(one.value, row, **JUDGED)
    axis.set_yticks([0, 1], ["speakers\nare drawn", "clips\nare drawn"])
    axis.set(xlabel="UAR", ylim=(1.6, -0.6), xlim=(0, 1.03))
    speakers = predictions["speaker"].nunique()
    return (f"Of {speakers} speakers with {len(predictions) // speakers} clips each, one is never "
            f"recognised: UAR {value.value:g}. Its 95 % interval is {value.low:g} to {value.high:g}"
            f" where speakers are drawn (orange), and would be {by_clip.low:g} to {by_clip.high:g} "
            "if clips were, as though each had a speaker of its own.")


def cost(axis: Axes) -> str:
    """Three lines over the number of clips to forget; two rise and one falls slowly."""
    n = np.arange(101)
    retraining, random_labels = 30 * (831 - n), 15 * n
    adversarial = 20 * n * 50 + 15 * (20 * n + np.ceil(20 * n / 16) * np.minimum(n, 16))
    dearer = int(np.argmax(adversarial > retraining))
    axis.plot(n, retraining, "k--", label="retraining")
    axis.plot(n, random_labels, color="grey", label="Ran. Lab.")
    axis.plot(n, adversarial, "k", label="Adv.")
    axis.axvline(dearer, color=COUNTED, linewidth=3, label="Adv. costs more")
    axis.set(xlabel="clips to forget", ylabel="clips through\nthe model", ylim=(0, 60_000))
    return (f"To forget 100 of 831 clips: 15 epochs of Ran. Lab. take 15 × 100 = "
            f"{random_labels[100]:,}, 30 epochs of retraining 30 × (831 − 100) = "
            f"{retraining[100]:,}. Adv. with 20 copies of each clip and 50 steps of attack takes "
            f"more than retraining from {dearer} clips on (orange).")


def _listed(numbers: Any) -> str:
    texts = [f"{number:g}" for number in numbers]
    return ", ".join(texts[:-1]) + f" and {texts[-1]}"


#: what draws each page's picture, and which call of its example
DRAWN: dict[str, tuple[Callable[..., str], int]] = {
    function.__name__.rstrip("_"): (function, 0 if function is anamnesis else -1)
    for function in (
        accuracy, uar, mean_loss, mia_auc, mia_performance, mia_features, mia_regression, mia_svc,
        mia_matched, mia_likelihood_ratio, loss_distribution, distance, tow, average_gap,
        activation_distance, zrf, interclass_confusion, anamnesis, gum, report_card, statistics_,
        cost,
    )
}
