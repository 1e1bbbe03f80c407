# %% [markdown]
# # The baselines: retraining, remaining data, random labels
#
# Three ways to make the model forget, before the paper's own:
#
# - **Retrained**: train again from the start without the forget set. It is the definition of
#   forgetting and the reference of every table here. It has no particular UAR on the forget set:
#   it does there what it does on speech it never saw.
# - **Remain. Unl.** (Cheng & Amiri 2025): random wrong labels on the forget set *and* the true labels
#   of the retain set; plain, and with the SuperLoss curriculum.
# - **Ran. Lab.**: random wrong labels on the forget set, and nothing else: L_mis = CE(f(x), wrong
#   label), the paper's equation 1.
#
# Only the last needs the forget set alone.

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
from speechunlearn import runs

run = runs.start(
    profile, corpus, root, encoder, skip_bad, cache, results,
    n_values=n_values
)

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %%
import numpy as np

from speechunlearn import experiments
from speechunlearn import results as protocol

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
# What each cost. A clip that is sent forward and backward in two epochs counts twice.

# %% tags=["nbval-ignore-output"]
protocol.costs(results)

# %% [markdown]
# ## On real speech
#
# The same methods in the committed run of profile `cpu`, with the paper's numbers (wav2vec2-base
# on DEMoS) beside them.

# %%
from speechunlearn import pages

pages.table(protocol.committed("cpu", "ravdess"), "validation", experiments.BASELINES)
