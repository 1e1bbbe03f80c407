# %% [markdown]
# # Keyword spotting: a speaker to forget
#
# *How close to retraining do methods come when everything of one speaker is to be forgotten?*

# %% tags=["parameters"]
profile = "smoke"  # smoke, cpu or paper: see the page on profiles
corpus = ""  # name of a reader; empty: the profile's corpus for this task
root = ""  # the corpus's folder, or the CSV; empty: its own place
encoder = ""  # nano, a carried one, a local folder or a hub id; empty: the profile's
skip_bad = False  # leave out clips that cannot be used, instead of refusing the corpus
cache = ""  # folder of finished work; empty: artefacts/ in the repository
results = ""  # folder that results are added to; empty: none is written
task = "keyword"  # what the model names
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

words = protocol.committed("cpu", "arabic_speech_commands", "keyword")
pages.write(answers.closest(words, "speaker"))

# %% [markdown]
# The third part of chapter 07: the forget set is everything of one speaker, which is what a person who asks for
# deletion means. Then several speakers, one request after another. Single speakers were deleted on the Arabic words
# alone. Methods and metrics are those of {doc}`the first part <07_keyword_spotting>`.

# %% [markdown]
# ## On real speech
#
# The committed runs of profile `cpu`. Arabic words:

# %%
from speechunlearn.chapters import pages
from speechunlearn.lab import experiments
from speechunlearn.lab import results as protocol

arabic = protocol.committed("cpu", "arabic_speech_commands", "keyword")
pages.forget_sets_of(arabic, "speaker")

# %% [markdown]
# One speaker after another: each request on the model that the last one left.

# %%
in_a_row = arabic.select(variant=experiments.SEQUENTIAL_SPEAKERS)
protocol.sequence_table(in_a_row)

# %% [markdown]
# ## Run it yourself
#
# In the published book, what follows is a run of profile `smoke` on a small synthetic corpus: it shows
# that the code works, and decides nothing. With a profile, corpus and parameters of your own:
#
#     speechunlearn run 07 --profile cpu --corpus arabic_speech_commands --root PATH

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %% [markdown]
# What the model will be asked to forget:

# %%
import numpy as np

study = run.study("validation")
experiments.forget_set_table(study)

# %% [markdown]
# ### A speaker
#
# Everything that one speaker ever said. The others said the same words, so the model can go on
# knowing them; it should treat the speaker's clips as those of a stranger.

# %%
asked = experiments.kinds_of_forget_sets(run)
generator = np.random.default_rng(0)
speaker_results = run.results(asked["speaker"])
speaker_table = protocol.table_of_methods(
    speaker_results, "validation", forget_kind="speaker", generator=generator
)
protocol.readable_by_method(speaker_results, speaker_table)

# %%
protocol.distances(speaker_table)

# %% [markdown]
# ### One speaker after another
#
# Requests do not come at once. Each is carried out on the model that the last one left; the scores
# are on everything that was to be forgotten so far, and the reference is a model retrained without
# all of it.

# %%
sequence_results = run.results(asked["sequential"])
protocol.sequence_table(sequence_results)

# %% [markdown]
# ### What it cost
#
# Seconds, memory and clips sent through the network, by forget set. Retraining is what a method has
# to beat.

# %%
protocol.costs(speaker_results)

# %% [markdown]
# ## What to remember
#
# - The other speakers said the same words, so the model can go on knowing the words; what should go
#   is that it knows these clips.
# - Requests do not come at once: what one leaves is what the next begins with, and losses of utility add up.
