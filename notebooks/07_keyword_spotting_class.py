# %% [markdown]
# # Keyword spotting: a word to forget
#
# *How close to retraining do methods come when a whole word is to be forgotten?*

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
pages.write(answers.closest(words, "class"))

# %% [markdown]
# The second part of chapter 07: the forget set is all that was trained on of one word, and with it the word.
# A model that was retrained without the word cannot name it; what it says instead is the aim, not silence.
# Methods and metrics are those of {doc}`the first part <07_keyword_spotting>`.

# %% [markdown]
# ## On real speech
#
# The committed runs of profile `cpu`. Arabic words:

# %%
from speechunlearn.chapters import pages
from speechunlearn.lab import results as protocol

arabic = protocol.committed("cpu", "arabic_speech_commands", "keyword")
pages.forget_sets_of(arabic, "class")

# %% [markdown]
# Ten English words:

# %%
english = protocol.committed("cpu", "speech_commands_10", "keyword")
pages.forget_sets_of(english, "class")

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

from speechunlearn.lab import experiments

study = run.study("validation")
experiments.forget_set_table(study)

# %% [markdown]
# ### A word
#
# The training clips of one word are to be forgotten, and with them the word: *removed* are the
# clips of the same word by unseen speakers. A model retrained without the word has never heard it.
# The attack compares the word's own training clips with these, or it would tell words apart.

# %%
asked = experiments.kinds_of_forget_sets(run)
generator = np.random.default_rng(0)
class_results = run.results(asked["class"])
class_table = protocol.table_of_methods(
    class_results, "validation", forget_kind="class", generator=generator
)
protocol.readable_by_method(class_results, class_table)

# %%
protocol.distances(class_table)

# %% [markdown]
# Where do the clips of a removed word go now? A method that sends them all to one other word leaves
# a mark of what was removed.

# %%
protocol.confused_with(class_results, study.labels)

# %% [markdown]
# ### What it cost
#
# Seconds, memory and clips sent through the network, by forget set. Retraining is what a method has
# to beat.

# %%
protocol.costs(class_results)

# %% [markdown]
# ## What to remember
#
# - The clips of a removed word are still answered with *some* word: look at which. A method that
#   sends them all to one word leaves a mark of what was removed.
# - The attack has to compare the word's own training clips with the same word by unseen speakers;
#   otherwise it only tells words apart.
