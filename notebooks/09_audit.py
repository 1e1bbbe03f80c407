# %% [markdown]
# # The audit of one run
#
# *How can one tell whether a model forgot?*

# %% tags=["parameters"]
profile = "smoke"  # smoke, cpu or paper: see the page on profiles
corpus = ""  # name of a reader; empty: the profile's corpus for this task
root = ""  # the corpus's folder, or the CSV; empty: its own place
encoder = ""  # nano, a carried one, a local folder or a hub id; empty: the profile's
skip_bad = False  # leave out clips that cannot be used, instead of refusing the corpus
cache = ""  # folder of finished work; empty: artefacts/ in the repository
results = ""  # folder that results are added to; empty: none is written
task = "keyword"  # what the model names
method = "delete"  # the method that is audited
size = 0.0  # clips to forget: a number, or below 1 a share; 0: the profile's
runs = []  # [seed, forget set] of each run, of which the first is audited; empty: the profile's
references = 0  # number of retrained models; 0: the profile's

# %%
from speechunlearn.chapters import context

run = context.start(
    profile, corpus, root, encoder, skip_bad, cache, results, task=task, runs=runs,
    ranked=[method], ranked_size=size, references=references
)

# %% tags=["answer"]
from speechunlearn.chapters import pages
from speechunlearn.lab import leaderboard

board = leaderboard.committed("cpu-arabic_speech_commands").ranking.set_index("method")
passed = {
    name: f"{board.loc[name, 'cards_passed']} of {board.loc[name, 'cards']}"
    for name in ("original", "retrain")
}
others = board.drop(index=["retrain", "original"])["cards_passed"]
pages.write(
    "By models that were retrained without the clips: a report card is passed where each score "
    f"lies where that of one more retrained model would. Retrained models pass {passed['retrain']} "
    f"cards, the original {passed['original']}; of {len(others)} methods, {(others == 0).sum()} "
    f"pass none. (Arabic words, profile `cpu`, n = {board.loc['original', 'runs']} runs.)"
)

# %% [markdown]
# A model was asked to forget some clips. Did it? This chapter puts one model through every test of
# this book, step by step, and ends with a report card. One rule holds throughout: the forgotten
# clips may be easier or harder than other clips, so no score is read against 0 or 0.5, but against
# what *models retrained without the clips* score.

# %% [markdown]
# ## The models
#
# What was to be forgotten is a random forget set. Beside the model that was to forget them stand the original, and
# several models of either kind from further seeds: trained on everything, and retrained from the
# start without the clips.

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %%
import numpy as np

from speechunlearn.audit import report_card
from speechunlearn.chapters import figures, pages
from speechunlearn.lab import experiments, leaderboard

study = run.study("validation", runs=run.profile.runs[:1])
evaluations = run.results(experiments.audited(run)["ranked"], "leaderboard")
seed, forget_id = study.runs[0]
tables = leaderboard.runs(evaluations)[seed, str(forget_id)]
auditor = report_card.Auditor(tables.retrained, tables.originals, n_labels=evaluations.n_labels)
evaluations.evaluations.groupby(["method", "variant"]).agg(
    models=("evaluation", "size"), clips=("n_forget", "max")
)

# %% [markdown]
# ## Three scores, rebuilt
#
# The AUC of an attack is a count of pairs: how often a forgotten clip has a lower loss than one
# that was never trained on. The likelihood-ratio attack (LiRA) is a ratio of two likelihoods: how likely is
# what the model says of the clip, if it is like the models that heard it, and if it is like those
# that did not? And whether a score is good is read from where *one more* retrained model's would
# lie.

# %% tags=["component"]
from scipy.special import logsumexp
from scipy.stats import norm


def auc(members, nonmembers):
    """Share of the pairs in which the member has the lower loss; a tie is half."""
    lower = np.less.outer(members, nonmembers).mean()
    return lower + np.equal.outer(members, nonmembers).mean() / 2


def confidence(logits, label):
    """How far the true class is ahead of all others together."""
    return logits[label] - logsumexp(np.delete(logits, label))


def likelihood_ratio(value, heard, never):
    """log N(value; heard) - log N(value; never), each with its mean and spread."""
    inside, outside = (
        norm.logpdf(value, of.mean(), of.std(ddof=1)) for of in (heard, never)
    )
    return inside - outside


def of_one_more(right, quantile):
    """Where the share of right answers would be under one more model; a row a model."""
    k, n = right.shape
    shares = right.mean(axis=1)
    # half an error more
    of_clips = (right / n).var(axis=0, ddof=1).sum() + 1 / (2 * k * n**2)
    reach = quantile * np.sqrt((1 + 1 / k) * max(shares.var(ddof=1), of_clips))
    return shares.mean() - reach, shares.mean() + reach

# %% [markdown]
# All pairs of the audited model:

# %% tags=["nbval-ignore-output", "figure-pairs"]
def losses(table, split):
    """The losses of one part, in the order of the contents."""
    return table[table["split"] == split].sort_values("hash")["loss"].to_numpy()


audited = tables.judged[method]
outside = "removed" if "removed" in set(audited["split"]) else "unseen"
members, nonmembers = losses(audited, "forget"), losses(audited, outside)
won = np.less.outer(np.sort(members), np.sort(nonmembers))  # dark: the member's is lower
figure, axis = figures.panels(5.5, 3.4)
axis.pcolormesh(won, cmap="Greys", vmin=-0.2, vmax=1.4)
axis.set(
    xlabel="clips not trained on, by their loss", ylabel="forgotten clips, by their loss",
    xticks=[], yticks=[],
);

# %% [markdown]
# One clip, under the models that heard it, under those that never did, and under the audited one:

# %% tags=["nbval-ignore-output", "figure-likelihoods"]
import pandas as pd

from speechunlearn.audit.predictions import forget_logits


def of_clip(table, clip=0):
    """A model's confidence in the true class of one forgotten clip."""
    forgotten = table[table["split"] == "forget"].sort_values("hash")
    labels = forgotten["label"].to_numpy()
    return confidence(forget_logits(forgotten)[clip], labels[clip])


hearers = [tables.judged["original"], *tables.originals]
heard = np.array([of_clip(table) for table in hearers])
never = np.array([of_clip(table) for table in tables.retrained])
value = of_clip(audited)
both = np.concatenate([heard, never, [value]])
grid = np.linspace(-0.5, 1.5, 300) * np.ptp(both) + both.min()
shadows = {"heard the clip": heard, "never heard it": never}
densities = {
    name: norm.pdf(grid, of.mean(), of.std(ddof=1)) for name, of in shadows.items()
}
figure, axis = figures.panels(5.5, 3)
figures.curves(axis, pd.DataFrame(densities, index=grid), marker="")
for of, how in zip(shadows.values(), figures.styles(shadows).values(), strict=True):
    axis.plot(of, np.zeros_like(of), linestyle="none", **how)
axis.axvline(value, color="black", linestyle=":", label="the attacked model")
axis.set(xlabel="logit-scaled confidence of the true class", ylabel="density")
axis.legend(frameon=False, fontsize=8);

# %% tags=["agrees"]
from speechunlearn.audit import membership, scoring

theirs = membership.auc(membership.loss_membership_attack(members, nonmembers))
assert np.isclose(auc(members, nonmembers), theirs)
print("AUC: the same as by ranks")

shadows = np.concatenate([heard, never])[:, None]
inside = (np.arange(len(shadows)) < len(heard))[:, None]
theirs = membership.likelihood_ratio(shadows, inside, np.array([value]), prior=0)
assert np.isclose(likelihood_ratio(value, heard, never), theirs[0])
print("likelihood ratio of one clip: the same, where each clip has its own spread")

forgotten = [
    table[table["split"] == "forget"].sort_values("hash") for table in tables.retrained
]
right = np.array([part["label"] == part["prediction"] for part in forgotten])
right = right.astype(float)
n_clips = right.shape[1]
chance = scoring.chance_of_clips(right / n_clips, 1 / n_clips)
assert np.allclose(
    of_one_more(right, 1.96), scoring.of_one_more(right.mean(axis=1), chance, 1.96)
)
print("interval of one more retrained model: the same")

# %% [markdown]
# ## On real speech
#
# The same method in the committed leaderboard of profile `cpu`: Arabic words, the first run.

# %%
board = leaderboard.committed("cpu-arabic_speech_commands")
first = board.scores[["seed", "forget_id"]].min()
card = board.scores.query(
    "seed == @first.seed and forget_id == @first.forget_id and method == @method"
)
pages.write(pages.made_by(board.results) if len(card) else "*No results of it are committed yet.*")
pages.card(card) if len(card) else None

# %% [markdown]
# ## Run it yourself
#
# In the published book, what follows is a run of profile `smoke` on a small synthetic corpus: it shows
# that the code works, and decides nothing. With a profile, corpus and parameters of your own:
#
#     speechunlearn run 09 --profile cpu --corpus arabic_speech_commands --root PATH

# %% [markdown]
# ### What the losses say
#
# The loss on each forgotten clip. A model that remembers has small ones; one that was pushed too
# far has larger ones than a model that never heard the clips.

# %% tags=["figure-losses"]
import seaborn as sns

from speechunlearn.lab import results as protocol

models = {"original": tables.judged["original"], method: tables.judged[method]}
models["retrain"] = tables.retrained[0]
figure, axis = figures.panels(5.5, 3.2)
for (name, clips), line in zip(models.items(), figures.LINES, strict=False):
    loss = clips.loc[clips["split"] == "forget", "loss"].clip(lower=1e-6)
    sns.ecdfplot(
        x=loss, ax=axis, label=protocol.TITLES[name], linestyle=line,
        color=figures.OF_METHOD[name]["color"], log_scale=True,
    )
axis.set(xlabel="loss on a forgotten clip (nats)", ylabel="share of the clips at most there")
axis.legend(frameon=False);

# %% [markdown]
# ### Attacks
#
# Each attack tells the forgotten clips from others by what the model says: by the loss alone; by a
# regression that knows the other clips' membership; by a support vector machine that learnt from
# retained clips; on pairs of clips that are alike in class and duration, so that neither can give
# them away; and by the clip's likeness to the originals, beside that to the retrained models. `TPR`
# is the share of the forgotten clips found at one false alarm in a hundred. `spread` is how far two
# retrained models are apart: a `distance` of that size says nothing.
#
# {ref}`Likeness to the originals <metric-mia_likelihood_ratio>` is not the attack on unlearned models
# of the literature (U-LiRA), whose shadow models unlearned the clips by the same method: these did not
# unlearn.

# %%
def attacks(clips):
    """What every attack reaches on a model, beside the retrained models."""
    table = auditor.attacks(clips, generator=generator)
    measures = {"auc": "AUC", "eer": "EER", "tpr": "TPR\u00a01\u00a0%"}
    interval = zip(table["value"], table["low"], table["high"], strict=True)
    return pd.DataFrame({
        "attack": table["attack"].map(report_card.NAMES).str.removesuffix(", AUC"),
        "measure": table["measure"].map(measures),
        "value": [protocol.with_interval(*row) for row in interval],
        **{name: table[name].map(protocol.number) for name in ("retrained", "distance", "spread")},
    }).set_index(["attack", "measure"])


generator = np.random.default_rng(0)
attacks(tables.judged["original"])

# %%
attacks(tables.judged[method])

# %% [markdown]
# What still differs between the matched clips:

# %%
left = auditor.matching.imbalance
pd.DataFrame([{
    "pairs": left.n_pairs, "without a partner": left.n_unmatched,
    "same class": left.agreement["label"],
    "mean difference of duration (s)": left.mean_difference,
    "in standard deviations": left.standardised,
}]).round(3)

# %% [markdown]
# ### Closeness
#
# Measures of the literature on one table. The values of a model retrained from another seed show
# the best that can be expected: no method can be asked to be closer.

# %%
from scipy.special import softmax

from speechunlearn.audit import closeness
from speechunlearn.models import training


def probabilities(clips):
    """What a model says of the forgotten clips: a probability a class."""
    return softmax(forget_logits(clips), axis=1)


def factors(of, attack=False):
    """What ToW multiplies; in ToW-MIA, the AUC of the attack is the first factor."""
    first = {"mia": of["forget", "mia_auc"]} if attack else {"forget": of["forget", "uar"]}
    return first | {split: of[split, "uar"] for split in ("retain", "unseen")}


compared = {
    "Original": tables.judged["original"], protocol.TITLES[method]: tables.judged[method],
    "Retrained, another seed": tables.retrained[1], "Retrained": tables.retrained[0],
}
scores = {
    name: scoring.scores(clips, evaluations.n_labels) for name, clips in compared.items()
}
forget_set = experiments.ranked_forget_set(study, forget_id)
forget = study.forget(forget_set)
fresh = softmax(training.predict(study.fresh(seed), forget).double().numpy(), axis=1)
reference, retrained = tables.retrained[0], scores["Retrained"]
columns = {}
for name, clips in compared.items():
    both = losses(clips, "forget"), losses(reference, "forget")
    columns[name] = {
        "ToW": closeness.tow(factors(scores[name]), factors(retrained)),
        "ToW-MIA": closeness.tow_mia(factors(scores[name], True), factors(retrained, True)),
        "ZRF": closeness.zrf(probabilities(clips), fresh),
        "activation distance": closeness.activation_distance(
            probabilities(clips), probabilities(reference)
        ),
        "losses, KS": closeness.loss_ks(*both), "losses, EMD": closeness.loss_emd(*both),
    }
table = pd.DataFrame(columns)
table.loc[table.index != "ZRF", "Retrained"] = np.nan  # which all others are compared with
table.map(lambda value: protocol.number(value, 3))

# %% [markdown]
# GUM also counts the time taken, so its value depends on the machine:

# %% tags=["nbval-ignore-output"]
seconds = evaluations.evaluations.groupby(["method", "variant"])["seconds"].first()
took = {
    "Original": 0.0, protocol.TITLES[method]: seconds[method, ""],
    "Retrained, another seed": seconds["retrain", protocol.ANOTHER_SEED],
}
reached = {name: of["forget", "mia_auc"] for name, of in scores.items()}
n_forget, n_unseen = (int((reference["split"] == part).sum()) for part in ("forget", "unseen"))
resolution = np.sqrt(scoring.auc_variance(reached["Retrained"], n_forget, n_unseen))
columns = {}
for name, spent in took.items():
    known = {
        "mia_original": reached["Original"], "mia_unlearned": reached[name],
        "mia_retrained": reached["Retrained"], "score_unlearned": scores[name]["unseen", "uar"],
        "score_retrained": retrained["unseen", "uar"], "seconds_unlearned": spent,
        "seconds_retrained": seconds["retrain", ""],
    }
    columns[name] = {
        "GUM, as published": closeness.gum(**known).value,
        "GUM, bounded": closeness.gum_bounded(**known, resolution=resolution).value,
    }
pd.DataFrame(columns).map(lambda value: protocol.number(value, 3)).assign(
    Retrained=protocol.MISSING
)

# %% [markdown]
# ### Relearning
#
# Traces that no output shows can still speed up learning. The anamnesis index is the number of
# steps until the clips are known again, divided by that of the retrained model: below 1, the model
# comes back faster than one that never heard them.

# %%
from speechunlearn import methods
from speechunlearn.lab.relearning import relearn

tuned = run.tuned_hyperparameters().get(method, {})
models = {
    "original": study.original(seed),
    method: study.unlearned(method, forget_set, seed, **tuned),
    "retrain": study.retrained(seed, forget_set),
}
descent = methods.parameters("ran_lab", **study.profile.methods.get("ran_lab", {}))
curves = {name: relearn(model, forget, descent, seed=seed) for name, model in models.items()}
rows = {}
for name, curve in curves.items():
    index = closeness.anamnesis(curve, curves["retrain"], curves["original"][0])
    rows[protocol.TITLES[name]] = {
        "before": curve[0], "after": curve[-1], "steps to come back": index.unlearned,
        "anamnesis index": index.value, "at least": index.low, "at most": index.high,
    }
pd.DataFrame.from_dict(rows, orient="index").rename_axis("model").round(2)

# %% [markdown]
# ### The report card
#
# The original, which forgot nothing, should fail. Shown beside, not judged: the
# {ref}`average gap <metric-average_gap>` and its halves, in forgetting and in utility.

# %%
pages.card(auditor.card(tables.judged["original"]).scores)

# %%
pages.card(auditor.card(tables.judged[method]).scores)

# %% [markdown]
# ## What to remember
#
# - No score is read against 0 or 0.5; each is read against models retrained without the clips.
# - An AUC is a count of pairs; an AUC far below that of the retrained models gives the clips away
#   just as one far above does.
# - Clips differ in difficulty, so the strongest attack compares a clip with itself under models
#   that did and did not hear it.
# - A few retrained models make a wide interval: passing it is weak evidence where there are few
#   clips.
#
# ## Exercises
#
# **1.** An attack has an AUC of 0.2. How can an attacker use it?

# %% tags=["solution", "hide-cell"]
assert np.isclose(auc(-members, -nonmembers), 1 - auc(members, nonmembers))
print("One of 0.8: clips with *higher* losses are called members.")

# %% [markdown]
# **2.** All losses grow by the same amount, or are squared. What does the AUC do?

# %% tags=["solution", "hide-cell"]
for changed in (lambda loss: loss + 1, np.sqrt, np.square):
    again = auc(changed(members), changed(nonmembers))
    assert np.isclose(again, auc(members, nonmembers))
print("Nothing: only the order counts, and so it cannot see how confident a model is.")

# %% [markdown]
# **3.** What narrows the interval more: four times as many clips, or four times as many retrained
# models? Let half of the models be right on each clip, not all on the same.

# %% tags=["solution", "hide-cell"]
def width(n, k):
    """With n clips and k models."""
    low, high = of_one_more(np.add.outer(np.arange(k), np.arange(n)) % 2, 1.96)
    return high - low


assert width(400, 5) < width(100, 20) < width(100, 5)
print("More clips: with many models the luck of the clips remains.")
