# %% [markdown]
# # Speaker identification: to forget a voice
#
# The second task of Cheng & Amiri (2025), by the protocol of the chapter on keyword spotting, which
# is ours. The model names the speaker; it is tested on *words* that it was not trained on. Here the
# deletion of a speaker's recordings is the removal of a class: after it, the model should not know
# the voice at all. A *removed* clip is one of that speaker, of a word that was not trained on.

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
pairs = []  # [seed, draw] pairs; empty: the profile's
methods = []  # names of methods; empty: the profile's
classes = []  # classes to remove, by name; empty: as many as the profile says
speakers = []  # speakers to delete, by name; empty: as many as the profile says

# %%
from speechunlearn import runs

run = runs.start(
    profile, corpus, root, encoder, skip_bad, cache, results, task=task,
    shares=shares, pairs=pairs, compared=methods, classes=classes, speakers=speakers
)

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %% [markdown]
# ## The task
#
# No word lies on both sides of the split, and every speaker on each.

# %%
import numpy as np

from speechunlearn import experiments, figures, pages
from speechunlearn import results as protocol

study = run.study("validation")
study.manifest.groupby("split").agg(
    clips=("hash", "size"), words=("unit", "nunique"), speakers=("label", "nunique")
)

# %% [markdown]
# What will be asked of the model:

# %%
experiments.requested(study)

# %% [markdown]
# ## The trained model

# %%
clip_results = run.results(experiments.clip_requests(study, run.profile.compared))
generator = np.random.default_rng(0)
clip_table = protocol.table_of_methods(clip_results, "validation", generator=generator)
protocol.references(clip_table)

# %%
original = clip_results.reported().select(method="original").cells["cell"].iloc[0]
figures.confusion(clip_results.of_cell(original, "unseen"), study.labels);

# %% [markdown]
# ## Some clips
#
# UAR on the forgotten clips, on a sample of the others and on unseen words. The right value on the
# forget set is the retrained model's.

# %%
protocol.readable(clip_table)

# %%
protocol.distances(clip_table)

# %% [markdown]
# ## A speaker

# %%
class_results = run.results(experiments.removals(study, "class", run.profile.compared))
class_table = protocol.table_of_methods(
    class_results, "validation", request="class", generator=generator
)
protocol.readable_requests(class_results, class_table)

# %%
protocol.distances(class_table)

# %% [markdown]
# To whom does the model ascribe the removed voice now? A method that gives it a new name, always
# the same, still tells it apart.

# %%
protocol.confused_with(class_results, study.labels)

# %% [markdown]
# ## One speaker after another

# %%
sequence_results = run.results(experiments.one_after_another(study, run.profile.in_sequence))
protocol.sequence_table(sequence_results)

# %% [markdown]
# ## What it cost
#
# Seconds, memory and clips sent through the network, by request: retraining is the bar.

# %%
protocol.costs(clip_results)

# %%
protocol.costs(class_results)

# %% [markdown]
# ## The audit
#
# A report card of two scores. The original has to fail, and a retrained model to pass.

# %%
pages.cards(clip_results)

# %% [markdown]
# ## On real speech
#
# The committed run of profile `cpu`.

# %%
pages.requests(protocol.committed("cpu", "arabic_speech_commands", "speaker"))
