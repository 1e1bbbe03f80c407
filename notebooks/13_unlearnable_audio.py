# %% [markdown]
# # Unlearnable audio
#
# *Can recordings be published so that no model learns from them?*

# %% tags=["parameters"]
profile = "smoke"  # smoke, cpu or paper: see the page on profiles
corpus = ""  # name of a reader; empty: the profile's corpus for this task
root = ""  # the corpus's folder, or the CSV; empty: its own place
encoder = ""  # nano, a carried one, a local folder or a hub id; empty: the profile's
skip_bad = False  # leave out clips that cannot be used, instead of refusing the corpus
cache = ""  # folder of finished work; empty: artefacts/ in the repository
results = ""  # folder that results are added to; empty: none is written
task = "keyword"  # what the model names
patch_seconds = 0.1  # length of the patch of this run; 0: the whole clip, as in CUDA
taps = 33  # length of the filter in samples
blur = 0.3  # upper bound of the filter's random weights

# %%
from speechunlearn.chapters import context

run = context.start(profile, corpus, root, encoder, skip_bad, cache, results, task=task)

# %% tags=["answer"]
from speechunlearn.chapters import answers

answers.of_committed("13_unlearnable_audio")

# %% [markdown]
# Unlearning comes after the harm. A speaker who does not want to be learnt could act before:
# {cite:t}`sadasivan2023cuda` blur every recording with a filter that depends on its class (CUDA). A
# model finds the blur sooner than the class, and speech that is not blurred tells it nothing.
# {cite:t}`gokul2024poscuda` keep the recordings listenable: only a short patch is blurred, at a place
# that a private key gives for each class (PosCUDA). What is known here of the paper leaves the lengths of
# filter and patch and the blur open: they are parameters, and swept below.

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %% [markdown]
# ## A patch, rebuilt
#
# All follows from a secret and the name of the class, by a keyed hash: the first number says where
# the patch lies, the second which tap is 1, the others are the weights. Nothing else is kept, and
# who finds out one class's filter knows no other's.

# %% tags=["component"]
import hmac

import numpy as np


def numbers_of(secret, label, count):
    """Numbers from 0 to 1 that the secret and the class decide."""
    start = b"speechunlearn protection 1\0" + label.encode() + b"\0"
    blocks = [
        hmac.digest(secret, start + str(i).encode(), "sha256") for i in range(count)
    ]
    return np.frombuffer(b"".join(blocks), "<u8")[:count] / 2.0**64


def filter_of(numbers, taps, blur):
    """A filter: weights from 0 to the blur, and one tap of 1."""
    weights = blur * numbers[2:]
    weights[int(numbers[1] * taps)] = 1
    return weights

# %% [markdown]
# The patch is convolved as if it stood in silence, and brought back to its peak, so that nothing is
# clipped. All around stays what it is, to the bit.

# %% tags=["component"]
def blurred(clip, place, weights, samples):
    """A clip of which a patch of so many samples is filtered."""
    start = round(place * (len(clip) - samples))
    patch = clip[start : start + samples].astype(np.float64)
    filtered = np.convolve(patch, weights, mode="same")
    changed = clip.copy()
    changed[start : start + samples] = filtered * abs(patch).max() / abs(filtered).max()
    return changed

# %% tags=["agrees"]
from speechunlearn.chapters import figures
from speechunlearn.dataset.protection import Key, protect

secret = bytes(range(32))  # of this example: `speechunlearn protect` draws one
key = Key(secret, patch_seconds=patch_seconds or None, taps=taps, blur=blur)
study = run.study("validation")
clip = study.train.waveforms_z[0].numpy()
label = study.labels[int(study.train.labels[0])]
numbers = numbers_of(secret, label, taps + 2)
samples = round(patch_seconds * 16_000) or len(clip)
ours = blurred(clip, numbers[0], filter_of(numbers, taps, blur), samples)
(theirs,) = protect([clip], [label], key)
assert np.array_equal(ours, theirs)
patch = key.patch(label, len(clip), 16_000)
outside = np.r_[: patch.start, patch.stop : len(clip)]
assert np.array_equal(theirs[outside], clip[outside])
print("place, filter and patch: the same, and outside of it not a bit has changed")

# %%
figures.protected_patch(clip, theirs, patch, key.filter_of(label)[1], 16_000);

# %% [markdown]
# ## On real speech
#
# `benchmarks/protection.py` trains small models from scratch, each in a few seconds, on protected
# recordings, and asks them of clean ones: ten Arabic words and speakers who were not trained on; ten
# speakers and words that were not trained on; seven emotions of RAVDESS and actors that were not trained
# on. Each run draws these, the key and the weights anew. Shown are means over runs with 95 % t intervals.
# The smaller the UAR, the better the protection. What a method *costs* is the mean difference of the same runs
# without and with it: an interval above 0 says that there is a protection, one that holds 0 decides nothing.

# %%
from speechunlearn.chapters import unlearnable

rows = unlearnable.committed()
unlearnable.made_by(rows)
unlearnable.main(rows)

# %% [markdown]
# Blurred from end to end, recordings teach every model little, whatever it is to name. The patch costs words
# something with every model, and emotions with the three on MFCC; voices least, with two models of four: a
# voice is heard in all the rest of the recording, too.
#
# ### What it costs in quality, and what a share is worth
#
# The signal-to-noise ratio is that of the whole clip to what was changed, mean over clips. The Fréchet
# distance compares protected with unprotected clips (150 of them) by the mean over time of what the carried
# encoder `nano-english` answers, which heard English words alone. No listener was asked: the mean opinion score
# (MOS, 1 to 5) is what Distill-MOS {cite}`stahl2025distillation` estimates of 16 clips a run. It was made for
# sentences, and rates single words low before anything is done to them.

# %%
figures.unlearnability(unlearnable.trade_off(rows), unlearnable.over_share(rows));

# %%
unlearnable.quality(rows)

# %% [markdown]
# The smaller the share that is protected, the less is left to see, with every model: half of the clips, as they
# are, teach nearly what all of them would.

# %%
unlearnable.shares(rows)

# %% [markdown]
# ### What a trainer does who expects it
#
# The recordings are in the trainer's hands; the key is not needed to disturb it. *Crop and shift* moves the
# patch, *random filter* makes every clip blurred by another filter, so that the blur tells nothing, and
# *resample*, *low-pass* and *denoise* change what the filter left (tests are changed likewise). *Clean
# clips* are ten a class, on which training ends; beside them is a model trained on these ten alone. A
# pre-trained encoder (`nano-english`) was never shown a protected clip. Where a method hurts unprotected
# speech, too, the first column says so.

# %%
unlearnable.attacks(rows)

# %% [markdown]
# None of the changes to the signal brought the words back in these runs, with models as small as these:
# random filters take half of what CUDA costs away, by costing as much themselves. A pre-trained encoder that is kept
# frozen does bring them back: it leaves hardly anything of PosCUDA's protection, and of CUDA's less than half.
# Fine-tuned, it finds CUDA's blur, too, and about two thirds are left. Whether ten clean clips a class help
# a model that was trained on protected ones, these runs do not decide; without the protected ones they are
# worth less than with them.
#
# ### One who protects alone
#
# The recall of one class, by who is protected. This is the case of a single person among many: the task
# *speaker* with *it alone*.

# %%
unlearnable.one_class(rows)

# %% [markdown]
# With CUDA, a word that is protected alone is hardly named any more. With PosCUDA, and of speakers, the
# intervals are too wide to decide anything: a class has few clips, and runs are few.
#
# ## When does it protect a person?
#
# By these tables, the patch hides hardly anything of a voice, and of words a part. CUDA hides more, in
# recordings that few would publish. And either is a hindrance only where four things hold: a model is trained from
# scratch, on nothing but such recordings, by someone who takes them as they are, and to name what the key's
# classes are. A person who publishes recordings cannot know any of these: whoever adds unprotected
# recordings, or begins with a pre-trained encoder, has another case, and the tables say how far that goes.
# A protection once published cannot be improved, while trainers can. It takes nothing out of a model that
# heard the recordings before: that is what a deletion request is for. So it may be laid on top of not
# publishing, of licences and of the law, and is no substitute for them.
#
# This replicates no table of the paper, whose corpora, models and sizes are others: that a patch can make
# data unlearnable in its setting is neither confirmed nor denied here.
#
# ## Protect recordings of your own
#
# List them in a CSV with the columns `path` and `label`; the label is what a model should not learn to tell
# apart: for voices, the name of the speaker.
#
#     speechunlearn protect --clips clips.csv --key my.key --new-key --out protected
#
# The first time, `--new-key` draws the key and writes it for you alone to read; later calls, with further
# recordings, leave it out. Keep the key, and out of what you publish: who has it can tell every patch. It
# names its classes, and one that it does not name is refused. Publish the recordings in the folder `protected`:
# each has its format, sampling rate, channels and the tags of title, artist and the like; pictures,
# cue points and broadcast chunks are not kept. `protected-clips.csv` in it is for you: it lists labels,
# speakers and hashes, without the key, and recordings that it lists are refused a second time. Keep it out of
# what you publish. Listen before you do: the patch is audible.
# `-p patch_seconds=0.5` makes it longer, and null in the key's file the whole clip.

# %% [markdown]
# ## Run it yourself
#
# In the published book, what follows is a run of profile `smoke` on a small synthetic corpus: it shows
# that the code works, and decides nothing. With a profile, corpus and parameters of your own:
#
#     speechunlearn run 13 --profile cpu --corpus arabic_speech_commands --root PATH

# %% [markdown]
# Two models are trained, one on the corpus as it is, and one on protected clips.

# %%
unlearnable.trial(study, key, seed=0).round(2)

# %% [markdown]
# ## What to remember
#
# - A class-wise blur is a shortcut: a model that finds it learns nothing of the class.
# - The shorter the patch, the better the sound, and the more speech is left to learn from.
# - Protection holds against a model and a trainer, not against all: measure it with the adaptive ones.
#
# ## Exercises
#
# **1.** Does the protected patch get louder?

# %% tags=["solution", "hide-cell"]
assert np.isclose(abs(theirs[patch]).max(), abs(clip[patch]).max())
print("Its peak stays. Its energy may not: the filter passes low frequencies best.")

# %% [markdown]
# **2.** Do two classes share a filter, or two keys the filter of a class?

# %% tags=["solution", "hide-cell"]
one, other = (key.filter_of(name)[1] for name in study.labels[:2])
another = Key(bytes(32), patch_seconds=patch_seconds or None, taps=taps, blur=blur)
assert not np.allclose(one, other)
assert not np.allclose(one, another.filter_of(study.labels[0])[1])
print("No: both go into the hash.")

# %% [markdown]
# **3.** With a blur close to 0, what does the filter do?

# %% tags=["solution", "hide-cell"]
delay = Key(secret, patch_seconds=patch_seconds or None, taps=taps, blur=1e-9)
weights = delay.filter_of(label)[1]
shift = int(weights.argmax()) - (taps - 1) // 2
(moved,) = protect([clip], [label], delay)
inner = range(patch.start + taps, patch.stop - taps)
assert np.allclose(moved[inner], clip[[i - shift for i in inner]], atol=1e-4)
print("It moves the patch by a few samples: a delay, which MFCC hardly see.")
