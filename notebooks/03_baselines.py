# %% [markdown]
# # The baselines: retraining, remaining data, random labels
#
# *What do random labels forget, and what do they cost?*

# %% tags=["parameters"]
profile = "smoke"  # smoke, cpu or paper: see the page on profiles
corpus = ""  # name of a reader; empty: the profile's corpus
root = ""  # the corpus's folder, or the CSV; empty: its own place
encoder = ""  # nano, nano-pretrained, a local folder or a hub id; empty: the profile's
skip_bad = False  # leave out clips that cannot be used, instead of refusing the corpus
cache = ""  # folder of finished work; empty: artefacts/ in the repository
results = ""  # folder that results are added to; empty: none is written
n_values = []  # sizes of the forget set; empty: the profile's

# %%
from speechunlearn.chapters import context

run = context.start(
    profile, corpus, root, encoder, skip_bad, cache, results,
    n_values=n_values
)

# %% tags=["answer"]
from speechunlearn.chapters import answers, pages

shown = answers.emotions()
table = answers.table(shown)
pages.write(
    f"UAR on the forget set falls from {answers.uar(table, 'original')} to "
    f"{answers.uar(table, 'ran_lab')}; models that were retrained without it have "
    f"{answers.uar(table, 'retrain')}. On unseen speakers random labels change UAR by "
    f"{answers.difference(shown, 'original', 'ran_lab')}.{answers.about(shown, table)}"
)

# %% [markdown]
# Three ways to make the model forget, before the paper's own:
#
# - **Retrained**: train again from the start without the forget set. It is the definition of
#   forgetting and the reference of every table here. It has no particular UAR on the forget set:
#   it does there what it does on speech it never saw.
# - **Remain. Unl.** (Cheng & Amiri 2025): random wrong labels on the forget set *and* the true labels
#   of the retain set; plain, and with the SuperLoss curriculum.
# - **Ran. Lab.**: random wrong labels on the forget set, and nothing else: L_mis = CE(f(x), wrong
#   label), the paper's equation 1; equation {eq}`eq-ran_lab` of {ref}`its page <method-ran_lab>`.
#
# Only the last needs the forget set alone.

# %% [markdown]
# ## Wrong labels, rebuilt
#
# A wrong label is one of the other classes, all equally likely. A step of Ran. Lab. moves the
# weights towards the wrong labels of the forget set; Remain. Unl. adds the loss of the true labels
# of the retain set. (With the curriculum, the wrong labels' losses are weighted in addition.)

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %% tags=["component"]
import torch
from torch.nn.functional import cross_entropy


def draw_wrong(labels, n_classes, generator):
    """Another class for each clip: its number moves on by 1 to K - 1, in a circle."""
    shift = torch.randint(1, n_classes, labels.shape, generator=generator)
    return (labels + shift) % n_classes


def losses_of(model, clips, labels):
    """Cross-entropy of each clip, in nats."""
    logits = model(*clips.batch(range(len(clips))))
    return cross_entropy(logits, labels, reduction="none")


def unlearn(model, forget, wrong, retain=None, *, steps, learning_rate):
    """Ran. Lab., or with a retain set Remain. Unl., whole sets at a time."""
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    for _ in range(steps):
        loss = losses_of(model, forget, wrong).mean()
        if retain is not None:
            loss = loss + losses_of(model, retain, retain.labels).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model

# %% [markdown]
# What there is to forget: the loss of each clip of the forget set under the original, which was
# trained on it, and under the model retrained without it.

# %% tags=["nbval-ignore-output", "figure-loss_pairs"]
import pandas as pd

from speechunlearn.chapters import figures
from speechunlearn.lab import forget_sets

study = run.study("validation")
seed, forget_id = study.runs[0]
forget_set = forget_sets.clips(max(study.profile.n_values), forget_id)
forget = study.forget(forget_set)
original = study.original(seed).cpu().eval()
retrained = study.retrained(seed, forget_set).cpu().eval()
with torch.no_grad():
    side_by_side = pd.DataFrame(
        {
            "original": losses_of(original, forget, forget.labels),
            "retrained": losses_of(retrained, forget, forget.labels),
        }
    )
rows = side_by_side.clip(lower=1e-6).sort_values("original", ignore_index=True)
figure, axis = figures.panels(5.5, 3.2)
axis.vlines(rows.index, rows.min(axis=1), rows.max(axis=1), color="grey", linewidth=0.8)
figures.curves(axis, rows, linestyle="none")
axis.set(xlabel="clips to forget", ylabel="loss (nats)", yscale="log", xticks=[]);

# %% [markdown]
# The package draws the same labels from the same generator, scores the same losses, and its two
# methods end at the same weights. (They are compared in double precision and without dropout, so
# that nothing but the labels is random and the order of summation does not matter.)

# %% tags=["agrees"]
from copy import deepcopy
from dataclasses import replace

import numpy as np

from speechunlearn import methods as registry
from speechunlearn.methods import pgd
from speechunlearn.methods.ran_lab import wrong_labels

n_classes = len(study.labels)
generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
ours = draw_wrong(forget.labels, n_classes, generators[0])
assert ours.equal(pgd.random_wrong_labels(forget.labels, n_classes, generators[1]))
print("wrong labels: the same")

scored = study.evaluate("original", forget_set, seed).predictions
scored = scored[scored["split"] == "forget"]
assert np.allclose(side_by_side["original"], scored["loss"], atol=1e-4)
print("losses on the forget set: equal to 1e-4 nats")


def exact(clips):
    """Clips in double precision."""
    return replace(clips, waveforms_z=[w.double() for w in clips.waveforms_z])


few = exact(forget.at(range(min(8, len(forget)))))
retain = study.retain(forget_set)
kept = exact(retain.at(range(min(8, len(retain)))))
how = {"learning_rate": 1e-3, "batch_size": 8, "mode": "eval"}
for name, retain in (("ran_lab", None), ("remain", kept)):
    asked = registry.UnlearningData(few, n_classes, retain=retain)
    ours = unlearn(
        deepcopy(original).double(), few, wrong_labels(asked, seed), retain,
        steps=3, learning_rate=1e-3,
    )
    theirs = registry.get(name).unlearn(
        deepcopy(original).double(), asked, registry.parameters(name, epochs=3, **how),
        seed=seed,
    ).model
    for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(weight, other, rtol=0, atol=1e-6)
    print(f"{name}: weights equal to 1e-6 after 3 steps")

# %% [markdown]
# ## On real speech
#
# The same methods in the committed run of profile `cpu`, with the paper's numbers (wav2vec2-base
# on DEMoS) beside them.

# %%
from speechunlearn.chapters import pages
from speechunlearn.lab import experiments
from speechunlearn.lab import results as protocol

pages.table(protocol.committed("cpu", "ravdess"), "validation", experiments.BASELINES)

# %% [markdown]
# ## Run it yourself
#
# In the published book, what follows is a run of profile `smoke` on a small synthetic corpus: it shows
# that the code works, and decides nothing. With a profile, corpus and parameters of your own:
#
#     speechunlearn run 03 --profile cpu --corpus ravdess --root PATH

# %%
import numpy as np

from speechunlearn.lab import experiments
from speechunlearn.lab import results as protocol

results = run.results(experiments.paper_baselines(run)["baselines"])
table = protocol.table_of_methods(results, "validation", generator=np.random.default_rng(0))
protocol.readable(table)

# %% [markdown]
# **How to read it.** On the forget set, low is not good in itself. The right value is the
# retrained model's: a model that is *wrong* on every forgotten clip stands out as much as one
# that is right on all of them. So here are the distances to the retrained model, and the loss-based
# membership attack, whose AUC should also be the retrained model's:

# %%
protocol.distances(table)

# %% [markdown]
# What each method costs. A clip that is sent forward and backward in two epochs counts twice.

# %%
protocol.costs(results)

# %% [markdown]
# ## What to remember
#
# - Retraining without the forget set defines forgetting; its scores are the aim, not 0.
# - The original has smaller losses on the forget set than the retrained model: that is what there
#   is to forget.
# - Ran. Lab. needs the forget set alone and destroys more than that; Remain. Unl. repairs that with
#   the retain set, which may no longer exist.
#
# ## Exercises
#
# **1.** New wrong labels are drawn at every step. What is the lowest mean loss that any model can
# reach on them in the long run?

# %% tags=["solution", "hide-cell"]
generator = torch.Generator().manual_seed(0)
label = torch.zeros(100_000, dtype=torch.long)
wrong = draw_wrong(label, n_classes, generator)
best = torch.zeros(n_classes)
best[0] = -torch.inf  # nothing for the true class, the same for every other
assert np.isclose(cross_entropy(best.expand(100_000, -1), wrong), np.log(n_classes - 1))
print("log(K - 1): that of a model which gives each other class the same probability.")

# %% [markdown]
# **2.** By how much do the clips stand out? Compare the mean loss of the forget set under the two
# models above.

# %% tags=["solution", "hide-cell"]
means = side_by_side.mean()
assert means["original"] < means["retrained"]
print("The original's is smaller: it has heard these clips.")

# %% [markdown]
# **3.** Edit one line: let `unlearn` climb the loss of the true labels of the forget set in place
# of descending that of wrong ones. (This is NegGrad.) Is its loss bounded above?

# %% tags=["solution", "hide-cell"]
climbing = deepcopy(original).double()
optimiser = torch.optim.Adam(climbing.parameters(), lr=1e-3)
climbed = []
for _ in range(10):
    loss = losses_of(climbing, few, few.labels).mean()
    climbed.append(loss.item())
    optimiser.zero_grad()
    (-loss).backward()
    optimiser.step()
assert climbed[-1] > climbed[0]
print("It climbs, and has no end: when to stop is the method's hyperparameter.")
