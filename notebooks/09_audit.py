# %% [markdown]
# # The audit of one request
#
# A model was asked to forget some clips. Did it? This chapter asks one model every question that
# the book knows, step by step, and ends in a report card. The rule of all steps: the forgotten
# clips are not strangers to begin with, they may be easy or hard, so no score is read against 0 or
# 0.5, but against what *models retrained without the clips* score.

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
pairs = []  # [seed, draw] pairs, of which the first is audited; empty: the profile's
references = 0  # so many retrained models; 0: the profile's

# %%
from speechunlearn import runs

run = runs.start(
    profile, corpus, root, encoder, skip_bad, cache, results, task=task, pairs=pairs,
    ranked=[method], ranked_size=size, references=references
)

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %% [markdown]
# ## The models
#
# The request is a draw of clips. Beside the model that was to forget them stand the original, and
# several models of either kind from further seeds: trained on everything, and retrained from the
# start without the clips.

# %%
import numpy as np

from speechunlearn import experiments, figures, leaderboard, pages, report_card

study = run.study("validation", pairs=run.profile.pairs[:1])
cells = run.results(experiments.audited(run)["ranked"], "leaderboard")
seed, draw = study.pairs[0]
request = leaderboard.requests(cells)[seed, str(draw)]
auditor = report_card.Auditor(request.retrained, request.originals, n_labels=cells.n_labels)
cells.cells.groupby(["method", "variant"]).agg(models=("cell", "size"), clips=("n_forget", "max"))

# %% [markdown]
# ## What the losses say
#
# The loss on each forgotten clip. A model that remembers has small ones; one that was pushed too
# far has larger ones than a model that never heard the clips.

# %% tags=["nbval-ignore-output"]
figures.losses(
    {"original": request.judged["original"], method: request.judged[method],
     "retrained": request.retrained[0]}
);

# %% [markdown]
# ## Attacks
#
# Each attack tells the forgotten clips from others by what the model says: by the loss alone; by a
# regression that knows the other clips' membership; by a support vector machine that learnt from
# retained clips; on pairs of clips that are alike in class and duration, so that neither can give
# them away; and clip by clip, against shadow models that did and did not hear the clip. `TPR` is the
# share of the forgotten clips found at one false alarm in a hundred. `spread` is how far two
# retrained models are apart: a `distance` of that size says nothing.

# %%
generator = np.random.default_rng(0)
pages.attacks(auditor, request.judged["original"], generator)

# %%
pages.attacks(auditor, request.judged[method], generator)

# %% [markdown]
# What still differs between the matched clips:

# %%
pages.imbalance(auditor)

# %% [markdown]
# ## Closeness
#
# Measures of the literature on one table. Those of a model retrained from another seed show what is
# the best that can be expected: no method can be asked to be closer.

# %%
closeness = experiments.closeness_table(study, cells, method, seed, draw)
closeness.filter(regex="^(?!GUM)", axis=0)

# %% [markdown]
# GUM weighs time as well, so that it changes with the machine:

# %% tags=["nbval-ignore-output"]
closeness.filter(like="GUM", axis=0)

# %% [markdown]
# ## Relearning
#
# Traces that no output shows can still speed up learning. The anamnesis index is the number of steps
# until the clips are known again, by that of the retrained model: below 1, the model comes back
# faster than one that never heard them.

# %%
experiments.relearning_table(study, method, seed, draw, **run.strengths().get(method, {})).round(2)

# %% [markdown]
# ## The report card
#
# The original has to fail.

# %%
pages.card(auditor.card(request.judged["original"]))

# %%
pages.card(auditor.card(request.judged[method]))

# %% [markdown]
# ## On real speech
#
# The committed leaderboard of profile `cpu`, Arabic words, the first request: the same method.

# %%
pages.committed_card("cpu-arabic_speech_commands", method)
