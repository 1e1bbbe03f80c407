# %% [markdown]
# # Speaker identification: to forget a voice
#
# *Can a model that names speakers forget a voice?*

# %% tags=["parameters"]
profile = "smoke"  # smoke, cpu or paper: see the page on profiles
corpus = ""  # name of a reader; empty: the profile's corpus for this task
root = ""  # the corpus's folder, or the CSV; empty: its own place
encoder = ""  # nano, a carried one, a local folder or a hub id; empty: the profile's
skip_bad = False  # leave out clips that cannot be used, instead of refusing the corpus
cache = ""  # folder of finished work; empty: artefacts/ in the repository
results = ""  # folder that results are added to; empty: none is written
task = "speaker"  # what the model names
shares = []  # shares of the training clips to forget; empty: the profile's
runs = []  # [seed, forget set] of each run; empty: the profile's
methods = []  # names of methods; empty: the profile's
classes = []  # classes to remove, by name; empty: as many as the profile says
speakers = []  # speakers to delete, by name; empty: as many as the profile says

# %%
from speechunlearn.chapters import context

run = context.start(
    profile, corpus, root, encoder, skip_bad, cache, results, task=task,
    shares=shares, runs=runs, compared=methods, classes=classes, speakers=speakers
)

# %% tags=["answer"]
from speechunlearn.chapters import answers, pages
from speechunlearn.lab import results as protocol

voices = protocol.committed("cpu", "arabic_speech_commands", "speaker")
pages.write(answers.closest(voices, "class"))

# %% [markdown]
# The second task of Cheng & Amiri (2025), by the protocol of the chapter on keyword spotting, which
# is ours. The model names the speaker; it is tested on *words* that it was not trained on. Here the
# deletion of a speaker's recordings is the removal of a class: after it, the model should not know
# the voice at all. A *removed* clip is one of that speaker, of a word that was not trained on.

# %% [markdown]
# ## A removal and a target, rebuilt
#
# Removing a class splits the corpus into four sets: its training clips (*forget*), the others'
# (*retain*), its unseen clips (*removed*) and the others' (*unseen*).

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %% tags=["component"]
import torch
from torch.nn.functional import cross_entropy


def remove(manifest, name, tested):
    """The contents of the four parts that the removal of a class makes."""
    trained, own = manifest["split"] == "train", manifest["label"] == name
    unseen = manifest["split"] == tested
    parts = {
        "forget": trained & own, "retain": trained & ~own,
        "removed": unseen & own, "unseen": unseen & ~own,
    }
    return {part: manifest.loc[rows, "hash"].tolist() for part, rows in parts.items()}

# %% [markdown]
# **DELETE** asks the original what it would say if it had to say something else: the true class is
# struck out of its answer, and the rest scaled up to one. The model is trained to say that.

# %% tags=["component"]
def strike_out(logits, labels):
    """The original's probabilities without the true class."""
    kept = logits.clone()
    kept[torch.arange(len(labels)), labels] = -torch.inf
    return kept.softmax(dim=1)


def delete(model, forget, targets, steps, learning_rate):
    """Train a model to give these probabilities on the forget set, all at a time."""
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    for _ in range(steps):
        loss = cross_entropy(model(*forget.batch(range(len(forget)))), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model

# %% [markdown]
# The clip on which the original is least sure, of the speaker whose removal this chapter reports
# first:

# %% tags=["nbval-ignore-output", "figure-struck_out"]
from copy import deepcopy
from dataclasses import replace

from speechunlearn.chapters import figures
from speechunlearn.lab import forget_sets
from speechunlearn.models import training

study = run.study("validation")
seed = study.runs[0][0]
speaker = study.removable("class")[0]
trained = study.original(seed).cpu().eval().double()
forget = study.forget(forget_sets.classes(speaker))
forget = forget.at(range(min(8, len(forget))))
# double precision: programs that add in another order agree
forget = replace(forget, waveforms_z=[w.double() for w in forget.waveforms_z])
logits = training.predict(trained, forget).double()
targets = strike_out(logits, forget.labels)
unsure = int(logits.softmax(1).max(1).values.argmin())
answer, target = logits[unsure].softmax(0).numpy(), targets[unsure].numpy()
likeliest = (-answer).argsort(kind="stable")[:10]
names = [study.labels[k] for k in likeliest]
figure, axes = figures.panels(
    8, 0.9 + 0.24 * len(names), columns=2, sharex=True, sharey=True
)
for axis, title, values, hatch in (
    (axes[0], "the original's answer", answer, ""), (axes[1], "the target", target, "///"),
):
    axis.barh(
        names, values[likeliest], color="lightgrey", edgecolor="black", hatch=hatch
    )
    axis.set(title=title, xlabel="probability", xlim=(0, 1))
axes[0].invert_yaxis()

# %% tags=["agrees"]
from speechunlearn import methods as registry
from speechunlearn.methods.delete import masked

parts = remove(study.manifest, speaker, study.setting)
forget_set = forget_sets.classes(speaker)
theirs = study.scored_hashes(forget_set)
assert parts["forget"] == study.hashes(forget_set)
assert parts["retain"] == study.retain(forget_set).hashes
assert parts["removed"] == theirs["removed"] and parts["unseen"] == theirs["unseen"]
print("forget, retain, removed, unseen: the same clips")

assert torch.allclose(targets, masked(logits, forget.labels).softmax(1))
asked = registry.UnlearningData(forget, len(study.labels))
parameters = registry.parameters(
    "delete", epochs=5, learning_rate=1e-3, batch_size=8, mode="eval"
)
theirs = registry.get("delete").unlearn(trained, asked, parameters, seed=seed).model
ours = delete(deepcopy(trained), forget, targets, steps=5, learning_rate=1e-3)
for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
    assert torch.allclose(weight, other, rtol=0, atol=1e-6)
print("DELETE: weights equal to 1e-6 after 5 steps")

# %% [markdown]
# ## On real speech
#
# The committed run of profile `cpu`.

# %%
from speechunlearn.chapters import pages
from speechunlearn.lab import experiments
from speechunlearn.lab import results as protocol

voices = protocol.committed("cpu", "arabic_speech_commands", "speaker")
pages.forget_sets_of(voices, "clips")

# %% [markdown]
# A speaker:

# %%
pages.forget_sets_of(voices, "class")

# %% [markdown]
# One speaker after another, and the audit of the first table:

# %%
in_a_row = voices.select(variant=experiments.SEQUENTIAL_SPEAKERS)
protocol.sequence_table(in_a_row)

# %%
pages.cards(voices.select(forget_kind="clips"))

# %% [markdown]
# ## Run it yourself
#
# In the published book, what follows is a run of profile `smoke` on a small synthetic corpus: it shows
# that the code works, and decides nothing. With a profile, corpus and parameters of your own:
#
#     speechunlearn run 08 --profile cpu --corpus arabic_speech_commands --root PATH

# %% [markdown]
# ### The task
#
# No word is on both sides of the split; every speaker is.

# %%
import numpy as np

study.manifest.groupby("split").agg(
    clips=("hash", "size"), words=("cluster", "nunique"), speakers=("label", "nunique")
)

# %% [markdown]
# What the model will be asked to forget:

# %%
experiments.forget_set_table(study)

# %% [markdown]
# ### The trained model

# %%
asked = experiments.kinds_of_forget_sets(run)
clip_results = run.results(asked["clips"])
generator = np.random.default_rng(0)
clip_table = protocol.table_of_methods(clip_results, "validation", generator=generator)
protocol.references(clip_table)

# %%
original = clip_results.reported().select(method="original").evaluations["evaluation"].iloc[0]
figures.confusion(clip_results.of_evaluation(original, "unseen"), study.labels);

# %% [markdown]
# ### Some clips
#
# UAR on the forgotten clips, on a sample of the others and on unseen words. The right value on the
# forget set is the retrained model's.

# %%
protocol.readable(clip_table)

# %%
protocol.distances(clip_table)

# %% [markdown]
# ### A speaker

# %%
class_results = run.results(asked["class"])
class_table = protocol.table_of_methods(
    class_results, "validation", forget_kind="class", generator=generator
)
protocol.readable_by_method(class_results, class_table)

# %%
protocol.distances(class_table)

# %% [markdown]
# To whom does the model ascribe the removed voice now? A method that gives it a new name, always
# the same, still tells it apart.

# %%
protocol.confused_with(class_results, study.labels)

# %% [markdown]
# ### One speaker after another

# %%
sequence_results = run.results(asked["sequential"])
protocol.sequence_table(sequence_results)

# %% [markdown]
# ### What it cost
#
# Seconds, memory and clips sent through the network, by forget set. Retraining is what a method has
# to beat.

# %%
protocol.costs(clip_results)

# %%
protocol.costs(class_results)

# %% [markdown]
# ### The audit
#
# A report card of two scores. The original has to fail, and retrained models have to pass, all but
# one in twenty.

# %%
pages.cards(clip_results)

# %% [markdown]
# ## What to remember
#
# - Where the model names speakers, deleting a speaker removes a class, and the aim is a model that
#   does not know the voice.
# - *Removed* clips were never trained on; what the model says of them shows whether it knows the
#   voice, not only the recordings.
# - DELETE keeps what the original thinks of the other classes, and needs the forget set alone.
#
# ## Exercises
#
# **1.** To whom does the target ascribe a clip?

# %% tags=["solution", "hide-cell"]
others = logits.clone()
others.scatter_(1, forget.labels[:, None], -torch.inf)
assert targets.argmax(1).equal(others.argmax(1))
print("To the speaker who sounds most like it, by the original.")

# %% [markdown]
# **2.** Do the others keep their odds? Compare the ratio of two of them before and after.

# %% tags=["solution", "hide-cell"]
answer, clip = logits.double().softmax(1), 0
a, b = (k for k in np.argsort(-targets[clip].numpy())[:2].tolist())
before, after = answer[clip, a] / answer[clip, b], targets[clip, a] / targets[clip, b]
assert torch.isclose(before.float(), after.float(), rtol=1e-3)
print("Yes: striking out one class scales all others alike.")

# %% [markdown]
# **3.** Train on the targets for a few steps. Is the speaker still named on the forgotten clips?

# %% tags=["solution", "hide-cell"]
def known(model):
    """Mean probability of the true speaker on the forgotten clips."""
    said = training.predict(model, forget).softmax(1)
    return said.gather(1, forget.labels[:, None]).mean().item()


assert known(ours) < known(trained)
print("Less and less: the probability of the true speaker falls with every step.")
