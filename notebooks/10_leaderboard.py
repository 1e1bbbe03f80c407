# %% [markdown]
# # The leaderboard
#
# Every method on the same requests, tuned with the same budget, judged by the same audit, beside
# models that were retrained. What is ranked is the distance to retraining; what it cost stands
# beside it. Methods that look at the forget set alone are ranked on their own: they can be used
# where the training data are gone.

# %% tags=["parameters"]
profile = "smoke"  # smoke, cpu or paper: see the page on profiles
corpus = ""  # name of a reader; empty: the profile's corpus for this task
root = ""  # the corpus's folder, or the CSV; empty: its own place
encoder = ""  # nano, a carried one, a local folder or a hub id; empty: the profile's
skip_bad = False  # leave out clips that cannot be used, instead of refusing the corpus
cache = ""  # folder of finished work; empty: artefacts/ in the repository
results = ""  # folder that results are added to; empty: none is written
task = "keyword"  # what the model names
methods = []  # names of methods; empty: the profile's, or all
size = 0.0  # clips to forget: a number, or below 1 a share; 0: the profile's
pairs = []  # [seed, draw] pairs; empty: the profile's
references = 0  # so many retrained models a request; 0: the profile's
trials = 0  # strengths tried of each method; 0: the profile's
threads = 0  # processor threads; 0: the profile's
quick = False  # equal but for rounding and what dropout draws, and sooner: see speechunlearn.fast

# %%
from speechunlearn import runs

run = runs.start(
    profile, corpus, root, encoder, skip_bad, cache, results, task=task, pairs=pairs,
    threads=threads, quick=quick, ranked=methods, ranked_size=size, references=references,
    trials=trials
)

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %% [markdown]
# ## Tuning
#
# Each method has one hyperparameter that decides how far it goes. So many values of it are tried on
# a draw of clips that no reported draw shares, and utility is read on unseen clips that the tables
# below do not use. The value closest to the model retrained without that draw is chosen. Tuning by a
# retrained model is fair between methods; someone who holds the forget set alone has no such model.

# %%
import numpy as np

from speechunlearn import experiments, leaderboard, pages

trials_made = run.trials()
pages.trials(trials_made)

# %% [markdown]
# ## The methods

# Average gap to retraining with its 95 % interval; the share of the original's UAR on unseen clips that is
# kept; UAR on the forget set; the Kolmogorov-Smirnov distance of the losses there; the AUC of the attacks on
# matched clips and clip by clip; and how often the {ref}`report card <metric-report_card>` passes.

# %%
asked = experiments.leaderboard(run)
cells, scores = run.leaderboard(cell for group in asked.values() for cell in group)
table = leaderboard.ranking(cells, scores, generator=np.random.default_rng(0))
pages.ranking(table)

# %% [markdown]
# The same of those that look at the forget set alone, with the p-value that a method's gap is that of
# the best (paired bootstrap over pairs and units, Holm's correction):

# %%
pages.ranking(table, alone=True)

# %% tags=["nbval-ignore-output"]
pages.costs(table)

# %% tags=["nbval-ignore-output"]
from speechunlearn import figures

figures.forgetting_and_cost(table);

# %% [markdown]
# ## What makes altered copies work
#
# The method {ref}`altered <method-altered>` is ours. Each row changes one part of it:

# %%
pages.beside(leaderboard.parts(cells)) if "altered" in run.ranked() else None

# %% [markdown]
# ## Five requests in a row
#
# The same clips, asked for in five requests, each fulfilled on the model that the last one left. Of
# altered copies there is a row without the spliced clips.

# %%
pages.beside(leaderboard.repeated(cells)) if {*experiments.REPEATED} & {*run.ranked()} else None

# %% [markdown]
# ## On real speech
#
# The committed leaderboards of profile `cpu`. Every method had at most five trials; altered copies had
# more than that: its form, and how much what is held counts, were chosen on the development draws of
# these corpora. Its rows were made after the others', on the Arabic corpora from originals trained anew
# from the same seeds, which came out as other models; what it keeps is a share of what these had.
#
# RAVDESS emotions, N = 100:

# %%
pages.committed_leaderboard("cpu-ravdess")

# %% [markdown]
# Arabic words, a twentieth of the training clips:

# %%
pages.committed_leaderboard("cpu-arabic_speech_commands")

# %% [markdown]
# Arabic speakers, a twentieth of the training clips:

# %%
pages.committed_leaderboard("cpu-arabic_speech_commands-speaker")
