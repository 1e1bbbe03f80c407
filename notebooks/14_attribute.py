# %% [markdown]
# # Unlearning an attribute
#
# *Can a model forget who is speaking: a man or a woman?*

# %% tags=["parameters"]
profile = "smoke"  # smoke, cpu or paper: see the page on profiles
corpus = ""  # name of a reader; empty: the profile's corpus
root = ""  # the corpus's folder, or the CSV; empty: its own place
encoder = ""  # nano, a carried one, a local folder or a hub id; empty: the profile's
skip_bad = False  # leave out clips that cannot be used, instead of refusing the corpus
cache = ""  # folder of finished work; empty: artefacts/ in the repository
results = ""  # folder that results are added to; empty: none is written
column = "gender"  # of the manifest: the attribute

# %%
from speechunlearn.chapters import context

run = context.start(profile, corpus, root, encoder, skip_bad, cache, results)

# %% tags=["answer"]
from speechunlearn.chapters import pages
from speechunlearn.lab import probing
from speechunlearn.lab.results import with_interval

rows = probing.kept(probing.RESULTS)
found = probing.committed().set_index(probing.CELL)
uar = {
    cell: with_interval(*found.loc[cell, ["uar", "low", "high"]])
    for cell in found.index
}
linear = ("gender", "projected", "linear", "unseen speakers")
tuned = ("gender", "encoder", "fine-tuned", "model's speakers")
emotions = ("task", "logits", "", "")
pages.write(
    "Not by what was tried. After LEACE a linear probe of other speakers tells the gender from "
    f"what the head is given with a UAR of {uar[*linear, 'leace']}, before it "
    f"{uar[*linear, 'original']}, after gradient reversal {uar[*linear, 'reversal 1']}; a "
    f"fine-tuned encoder with {uar[*tuned, 'original']} and {uar[*tuned, 'reversal 1']}. UAR "
    f"of emotions on unseen speakers: {uar[*emotions, 'original']}, with LEACE "
    f"{uar[*emotions, 'leace']}, with reversal {uar[*emotions, 'reversal 1']}. (RAVDESS, profile "
    f"`cpu`, encoder `{rows['encoder'].iloc[0]}`, {rows['speaker'].nunique()} unseen speakers, "
    f"n = {rows['run'].nunique()} runs.)"
)

# %% [markdown]
# A deletion request names recordings. An attribute is in all of them: a model of emotions encodes
# the speaker's gender although no label names it, and deleting recordings does not take it out,
# since those that stay carry it, too. Nor is there a retrained model to compare with. So the
# question is what a *probe* finds, a reader that is trained anew on the representation and tested
# on speakers whom it was not trained on; and, beside it, how much of the UAR of emotions is left.
# Each probe is stronger than the one before: a linear one, one with a hidden layer (MLP), and the
# encoder itself, fine-tuned. None of the book's corpora gives the age; Arabic words and Speech
# Commands do not give the gender either.
#
# LEACE {cite}`belrose2023leace` projects the attribute out in closed form; INLP
# {cite}`ravfogel2020null` does so step by step. Gradient reversal {cite}`ganin2015unsupervised`
# trains the encoder against a reader; what it hides from that reader, another may find again
# {cite}`elazar2018adversarial`.

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %% [markdown]
# ## A projection, rebuilt
#
# LEACE takes out the difference between the means of the attribute's values, along the directions
# in which the representation varies with the attribute: $x \mapsto x - C (C^\top \Sigma^+ C)^+
# C^\top \Sigma^+ (x - \bar x)$, with the covariance $C$ of representation and attribute.

# %% tags=["component"]
import numpy as np


def erase(pooled, one_hot):
    """The representation without what a linear reader sees of the attribute."""
    centred = pooled - pooled.mean(axis=0)
    cross = centred.T @ (one_hot - one_hot.mean(axis=0)) / len(pooled)
    inverse = np.linalg.pinv(centred.T @ centred / len(pooled), rcond=1e-9)
    inner = np.linalg.pinv(cross.T @ inverse @ cross, rcond=1e-9)
    return pooled - centred @ (cross @ inner @ cross.T @ inverse).T

# %% [markdown]
# Gradient reversal adds a term to the loss that counts as it is for the reader, and with the
# opposite sign for the representation that it reads:

# %% tags=["component"]
def reversed_copy(values, weight):
    """The values, whose gradient comes back times minus the weight."""
    return (1 + weight) * values.detach() - weight * values

# %% [markdown]
# The package's projection is folded into the layer after the mean over the frames: a checkpoint
# carries it. The encoder below it stays as it is.

# %% tags=["agrees"]
import torch

from speechunlearn.methods import erasure

study = run.study("validation")
codes, values = erasure.attribute(study.train_manifest, column)
model = study.original(study.runs[0][0])
pooled = erasure.representation(model, study.train)
projection, offset = erasure.leace(pooled, codes)
erased = erase(pooled, np.eye(len(values))[codes])
assert np.allclose(pooled @ projection.T + offset, erased, atol=1e-5)
print("LEACE: the same representation")

some = torch.tensor([1.0, -2.0], requires_grad=True)
gradients = [
    torch.autograd.grad((layer(some, 0.5) ** 2).sum(), some)[0]
    for layer in (reversed_copy, erasure.reverse_gradient)
]
assert torch.equal(*gradients)
print("gradient reversal: the same gradient")

# %% tags=["figure-attribute_plane"]
from speechunlearn.chapters import figures

figure, axes = figures.panels(7.5, 3.4, columns=2)
for axis, points, title in zip(axes, (pooled, erased), ("before", "after"), strict=True):
    centred = points - points.mean(axis=0)
    plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    for code, (name, style) in enumerate(figures.styles(values).items()):
        axis.scatter(*plane[codes == code].T, label=name, s=12, alpha=0.7, **style)
    axis.set(title=title, xlabel="first component", ylabel="second component")
figures.legend_below(figure, axes[0], ncols=len(values))

# %% [markdown]
# ## On real speech
#
# Five emotion models of the committed pool (RAVDESS, profile `cpu`, encoder `nano-pretrained`,
# seeds 0 to 4), each trained on different clips, all tested on the same eight unseen speakers, four
# of each gender. *hidden* is the mean of the encoder's last states, *projected* the input of the
# last layer, *logits* its output. The probes are trained on the model's own training speakers, or
# on the other unseen ones. Intervals are from a bootstrap over runs and speakers. *As long, not
# reversed* is the training of gradient reversal without the reversal, *before emotions* the encoder
# as it was pre-trained. A dash means not run. The last column says on how many answers a UAR is
# based, in how many runs.

# %%
from speechunlearn.lab import probing

found = probing.committed()
probing.readable(found, "gender")

# %% [markdown]
# - **LEACE** brings a linear probe of the speakers that it was fitted on down to chance. In the
#   input of the last layer, what a probe of other speakers, or an MLP, finds falls as well, but not
#   to chance; in the logits, a linear probe of other speakers finds as much as before. In the
#   encoder nothing changed.
# - **Gradient reversal**, at the one setting tried ($\lambda = 1$, five epochs, the reader at the
#   learning rate of the encoder), hides nothing that a new probe would not find.
# - The **fine-tuned** encoder tells the gender whatever was done, and so does the one that never
#   heard an emotion (*before emotions*). It was pre-trained on pitch and voices, which is where
#   this comes from.
#
# What it costs, in UAR of emotions on unseen speakers:

# %%
probing.readable(found, "task")

# %% [markdown]
# ### A whole emotion
#
# To remove a class, its recordings are taken as the forget set, as for words and speakers. The
# difference is that the same voices remain in the other emotions, and that what makes speech
# *angry* is in the others, too. So a model that names the class far less often can still tell it
# from the rest: the table has probes of *angry*, after DELETE and in the original. No model was
# retrained without the class here, so how much of this a retrained model would show as well is not
# measured.

# %%
probing.readable(found, "angry")

# %% [markdown]
# ## Run it yourself
#
# In the published book, what follows is a run of profile `smoke` on a small synthetic corpus: it shows
# that the code works, and decides nothing. With a profile, corpus and parameters of your own:
#
#     speechunlearn run 14 --profile cpu --corpus ravdess --root PATH

# %% [markdown]
# The attribute is erased from the model above; probes, each stronger than the one before, are
# trained on the training speakers' clips and tested on the unseen speakers'. The first two read the
# input of the last layer.

# %%
import dataclasses

import pandas as pd

from speechunlearn.audit import metrics, probes
from speechunlearn.lab.relearning import attribute_reader
from speechunlearn.models import training

seed = study.runs[0][0]
of_all, values = erasure.attribute(study.manifest, column)
by_clip = pd.Series(of_all, study.manifest["hash"])
known, asked = (by_clip[part.hashes].to_numpy() for part in (study.train, study.unseen))
reversal = erasure.Reversal(epochs=2, learning_rate=study.recipe.learning_rate)
models = {
    "original": model, "LEACE": erasure.project(model, study.train, known),
    "gradient reversal": erasure.reverse(model, study.train, known, reversal, seed=seed),
}


def said(model):
    """What a model names in the clips of the unseen speakers."""
    return training.predict(model, study.unseen).argmax(1).numpy()


relabelled = study.train.relabelled(torch.tensor(known))
recipe = dataclasses.replace(study.recipe, epochs=2)
uars = {}
for name, erased_model in models.items():
    learnt, tested = (
        erasure.representation(erased_model, part, projected=True)
        for part in (study.train, study.unseen)
    )
    found = {
        kind: probes.probe(kind, learnt, known, tested, seed=seed) for kind in probes.KINDS
    }
    reader = attribute_reader(erased_model, relabelled, values, recipe, seed=seed)
    found["fine-tuned"] = said(reader)
    uars[name] = {
        f"UAR of {column}, {probing.READERS.get(kind, kind)}": metrics.uar(
            asked, answer, len(values)
        )
        for kind, answer in found.items()
    }
    uars[name]["UAR of the task"] = metrics.uar(
        study.unseen.labels.numpy(), said(erased_model), len(study.labels)
    )
pd.DataFrame(uars).rename_axis(f"n = {len(asked)} unseen clips").round(2)

# %% [markdown]
# ## What to remember
#
# - Deleting recordings asks for the model that never heard them. An attribute has no such model: it
#   is measured by probes, and a score at chance holds for that probe only.
# - A projection before the head erases the attribute exactly, for linear readers and the clips that
#   it was fitted on; the encoder still has it.
# - Test probes on speakers whom they were not trained on.
#
# ## Exercises
#
# **1.** How many directions does the projection of an attribute of two values take out?

# %% tags=["solution", "hide-cell"]
assert np.linalg.matrix_rank(np.eye(len(projection)) - projection, tol=1e-6) == len(values) - 1
print("One fewer than there are values.")

# %% [markdown]
# **2.** Does the checkpoint with the folded projection still have the attribute in its encoder?

# %% tags=["solution", "hide-cell"]
folded = erasure.project(model, study.train, codes)
assert np.allclose(erasure.representation(folded, study.train), pooled, atol=1e-5)
after = erasure.representation(folded, study.train, projected=True)
means = [after[codes == code].mean(axis=0) for code in range(len(values))]
assert np.allclose(means[0], means[1], atol=1e-5)
print("Yes: only what the head is given has lost it.")
