# %% [markdown]
# # Keyword spotting: clips, words and speakers to forget
#
# Cheng & Amiri (2025) name two kinds of speech unlearning: *sample unlearning*, which removes single
# recordings, and *class unlearning*, which removes a whole category; they report on keyword
# spotting and speaker identification. Only their abstract is at hand. The protocol here is
# therefore **ours, not theirs**: four kinds of request, one after another in this chapter:
#
# 1. a share of the training clips, drawn at random,
# 2. a whole word,
# 3. everything of one speaker, which is what a person who asks for deletion means,
# 4. several speakers, one request after another.
#
# The methods that the profile compares run on every request; `smoke` leaves some out, for time. What
# data a method looks at stands in each table: *forget* alone, *retain* as well, a cached
# *statistic*, or *validation* clips.

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
# The model names the word; it is tested on speakers it never heard.

# %%
import numpy as np

from speechunlearn import experiments, figures, pages
from speechunlearn import results as protocol

study = run.study("validation")
study.manifest.groupby("split").agg(
    clips=("hash", "size"), words=("label", "nunique"), speakers=("speaker", "nunique")
)

# %% [markdown]
# What will be asked of the model:

# %%
experiments.requested(study)

# %% [markdown]
# ## The trained model
#
# It has to remember its training clips better than others, or there is nothing to forget.

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
# UAR on the forgotten clips, on a sample of the others and on unseen speakers. The right value on
# the forget set is the retrained model's.

# %%
protocol.readable(clip_table)

# %%
protocol.distances(clip_table)

# %%
figures.by_method(clip_table);

# %% [markdown]
# ## A word
#
# The training clips of one word are to be forgotten, and with them the word: *removed* are the
# clips of the same word by unseen speakers. A model retrained without the word has never heard it.
# The attack compares the word's own training clips with these, or it would tell words apart.

# %%
class_results = run.results(experiments.removals(study, "class", run.profile.compared))
class_table = protocol.table_of_methods(
    class_results, "validation", request="class", generator=generator
)
protocol.readable_requests(class_results, class_table)

# %%
protocol.distances(class_table)

# %% [markdown]
# Where do the clips of a removed word go now? A method that sends them all to one other word has
# put up a sign.

# %%
protocol.confused_with(class_results, study.labels)

# %% [markdown]
# ## A speaker
#
# Everything that one speaker ever said. The others said the same words, so the model can go on
# knowing them; it should treat the speaker's clips as those of a stranger.

# %%
speaker_results = run.results(experiments.removals(study, "speaker", run.profile.compared))
speaker_table = protocol.table_of_methods(
    speaker_results, "validation", request="speaker", generator=generator
)
protocol.readable_requests(speaker_results, speaker_table)

# %%
protocol.distances(speaker_table)

# %% [markdown]
# ## One speaker after another
#
# Requests do not come at once. Each is fulfilled on the model that the last one left; the scores
# are on everything that was to be forgotten so far, and the reference is retrained without all.

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
# A report card of two scores: a model passes if its UAR on the forget set and its membership AUC lie
# where those of one more retrained model would (a prediction interval from models retrained from
# several seeds; each of these is judged by the others). The original has to fail, and a retrained
# model to pass; a method that forgets too much fails too. Chapter 09 has the card of all scores.

# %%
pages.cards(clip_results)

# %% [markdown]
# ## Is speech harder to forget than images?
#
# The abstract says so. Here methods and metrics run on scikit-learn's handwritten digits as well
# (fewer methods in `smoke`): the same architecture reads the eight rows of an image as frames, on a
# training set small enough that it remembers what it has seen.

# %%
image_study = run.study_of("image", "digits")
images = run.results(experiments.clip_requests(image_study, image_study.profile.compared))
protocol.side_by_side(
    {run.corpus: clip_results, "digits": images}, generator=np.random.default_rng(0)
)

# %% [markdown]
# Distances to retraining on one corpus of each kind, with one small network: whether they can tell
# anything is asked of the committed results at the end.

# %% [markdown]
# ## On real speech
#
# The committed runs of profile `cpu`. Arabic words:

# %%
arabic = protocol.committed("cpu", "arabic_speech_commands", "keyword")
pages.requests(arabic)

# %% [markdown]
# Ten English words, of the test archive of Speech Commands. Single speakers' deletion was not run on them:

# %%
english = protocol.committed("cpu", "speech_commands_10", "keyword")
pages.requests(english)

# %% [markdown]
# ### Is speech harder, then?
#
# The distance of a model's UAR on the forgotten clips to that of a retrained model, on speech and on
# images (scikit-learn's digits), means over the pairs of seed and draw. The original's distance is how
# much there was to forget. Strengths were chosen on development draws: of Arabic words for speech, of
# digits for images.

# %%
pages.speech_and_images(
    {"Arabic words": arabic, "English words": english}, protocol.committed("cpu", "digits", "image")
)

# %% [markdown]
# From a table whose comparison had no power (see above it) nothing follows: neither that speech is harder,
# nor that it is not. With more runs the intervals would be narrower; but the tasks also differ in the number of
# classes, the size of the training set and in what there is to remember, and each of these changes the
# distances by itself.
