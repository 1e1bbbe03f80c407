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
import pandas as pd

from speechunlearn.chapters import pages
from speechunlearn.lab import results as protocol

benchmarks = protocol.COMMITTED.parent / "benchmarks"
rows = pd.read_csv(benchmarks / "protection.csv", dtype={"commit": str})
main = rows[rows["question"] == "main"]


def share_intervals(rows, by, value="uar"):
    """Means over runs of recalls, of which an interval ends at 0 and 1."""
    table = pages.t_intervals(rows, by, value)
    return table.assign(low=table["low"].clip(0, 1), high=table["high"].clip(0, 1))


def as_text(table, digits=2):
    """A mean with its interval; of a single run the value alone."""
    return [
        protocol.with_interval(row.value, row.low, row.high, digits) if row.n > 1
        else protocol.number(row.value, digits) for row in table.itertuples()
    ]


def told(rows, by):
    """UAR by condition, as numbers and as text."""
    table = share_intervals(rows, [by]).set_index(by)
    return table.assign(text=as_text(table))


small = main[main["model"] == "mfcc conv"]
words = told(small[small["task"] == "keyword"], "method")
voices = told(small[small["task"] == "speaker"], "method")
changed = main[(main["model"] == "quality") & (main["task"] == "keyword")]
snr = changed.groupby("method")["snr_db"].mean().map("{:.0f} dB".format)
attacked = rows[(rows["question"] == "attack") & (rows["task"] == "keyword")]
attacked = told(attacked[attacked["method"] == "poscuda"], "attack").query("n > 1")
best = attacked["value"].idxmax()
pages.write(
    "Only in part. A model trained on words of which a patch of 0.25 s was blurred (PosCUDA at "
    f"{snr['poscuda']}) names clean words of other speakers with a UAR of "
    f"{words.loc['poscuda', 'text']}; trained on unprotected words, {words.loc['none', 'text']}; "
    f"on words that are blurred from end to end (CUDA at {snr['cuda']}), "
    f"{words.loc['cuda', 'text']}. Of what a trainer does against PosCUDA, *{best}* went furthest "
    f"here, to {attacked.loc[best, 'text']}. Speakers are named with "
    f"{voices.loc['poscuda', 'text']} after PosCUDA, {voices.loc['none', 'text']} without. (Arabic "
    "words, small models on MFCC trained from scratch, "
    f"n = {words['n'].min()} runs of words, {voices['n'].min()} of speakers.)"
)

# %% [markdown]
# Unlearning comes after the harm. A speaker who does not want to be learnt from could act
# beforehand: {cite:t}`sadasivan2023cuda` blur every recording with a filter that depends on its
# class (CUDA). A model picks up the blur sooner than the class, and learns nothing that helps with
# speech that is not blurred. {cite:t}`gokul2024poscuda` keep the recordings listenable: only a
# short patch is blurred, at a place that a private key gives for each class (PosCUDA). What we know
# of the paper leaves open how long the filter and the patch are, and how strong the blur is: they
# are parameters, and swept below.

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %% [markdown]
# ## A patch, rebuilt
#
# Everything follows from a secret and the name of the class, through a keyed hash: the first number
# says where the patch lies, the second which tap is 1, and the others are the weights. Nothing else
# is stored, and whoever finds out one class's filter knows no other's.

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
# clipped. Everything around it stays the same, bit for bit.

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

# %% tags=["figure-protected_patch"]
import seaborn as sns

seconds, weights = np.arange(len(clip)) / 16_000, key.filter_of(label)[1]
figure, (left, right) = figures.panels(10, 2.8, columns=2, width_ratios=(3, 1))
left.plot(seconds, clip, linewidth=0.5, color="black", label="clip")
left.plot(
    seconds[patch], theirs[patch], linewidth=0.5, color=sns.color_palette(figures.PALETTE)[1],
    label="its patch, blurred",
)
left.axvspan(seconds[patch][0], seconds[patch][-1], color="lightgrey", zorder=0)
left.set(xlabel="time (s)", ylabel="amplitude (standard deviations)")
left.legend(frameon=False, fontsize=8)
right.vlines(np.arange(taps), 0, weights, color="black", linewidth=1)
right.set(xlabel="tap", ylabel="weight", ylim=(0, None));

# %% [markdown]
# ## On real speech
#
# `benchmarks/protection.py` trains small models from scratch, each in a few seconds, on protected
# recordings, and tests them on clean ones, in three tasks: ten Arabic words, by unseen speakers;
# ten speakers, in unseen words; seven emotions of RAVDESS, by unseen actors. Each run draws the
# clips, the key and the initial weights anew. The table shows means over runs with 95 % t
# intervals. The smaller the UAR, the better the protection. What a method *costs* is the mean
# difference between the same runs without and with it: an interval above 0 shows that there is a
# protection, one that contains 0 decides nothing.

# %%
NAMES = {"none": "not protected", "poscuda": "PosCUDA", "cuda": "CUDA"}
SCRATCH = ("mfcc conv", "mfcc gru", "mfcc transformer", "raw conv")  # trained from scratch


def runs_of(table, index):
    """Of how many runs the numbers of each row are."""
    n = table.groupby(index, sort=False)["n"].agg(["min", "max"])
    several = n.astype(str).agg("–".join, axis=1)
    return n["min"].astype(str).where(n["min"] == n["max"], several)


def by_method(table, index):
    """The methods side by side, and of how many runs each row is."""
    wide = table.assign(method=table["method"].replace(NAMES)).pivot_table(
        index=index, columns="method", values="text", aggfunc="first", sort=False
    )
    columns = [name for name in NAMES.values() if name in wide]
    columns += [name for name in wide if name not in columns]
    wide = wide[columns].fillna("not run").rename_axis(columns=None)
    return wide.assign(n=runs_of(table, index))


def beside(rows, by):
    """UAR after each method, and what it costs: the mean difference of the same runs."""
    index = ["task", by]
    table = share_intervals(rows, [*index, "method"])
    runs = rows.pivot_table(index=[*index, "run"], columns="method", values="uar", sort=False)
    for method in [name for name in NAMES if name in runs and name != "none"]:
        cost = (runs["none"] - runs[method]).dropna().reset_index(name="uar")
        cost = pages.t_intervals(cost, index, "uar").assign(method=f"{NAMES[method]} costs")
        table = pd.concat([table, cost])
    return by_method(table.assign(text=as_text(table)), index)


condition = ["task", "model", "method", "patch_seconds", "taps", "blur", "share", "attack"]
counted = rows.groupby(condition)["run"].nunique().reset_index()
planned = counted["task"].map({"keyword": 5, "speaker": 3, "emotion": 3})
pages.write(
    f"{len(rows)} rows, {rows['seconds'].sum() / 60:.0f} minutes on {rows['machine'].iloc[0]}; "
    f"code {', '.join(rows['commit'].unique())}. Of {len(counted)} conditions, "
    f"{int((counted['run'] < planned).sum())} with fewer runs than planned (5 of keywords, 3 of "
    "speakers and emotions)."
)
beside(main[main["model"] != "quality"], "model")

# %% [markdown]
# Recordings that are blurred from end to end teach every model little, whatever the task. The patch
# protects words with every model, and emotions with the three on MFCC; voices least, with two
# models of four: a voice is heard in all the rest of the recording, too.
#
# ### What it costs in quality, and what a share is worth
#
# The signal-to-noise ratio is that of the whole clip to what was changed, mean over clips. The
# Fréchet distance compares protected with unprotected clips (150 of them) by the mean over time of
# the outputs of the encoder `nano-english`, which is part of this repository and was trained on
# English words alone. No listener was asked: the mean opinion score (MOS, 1 to 5) is what
# Distill-MOS {cite}`stahl2025distillation` estimates of 16 clips a run. It was made for sentences,
# and rates single words low before anything is done to them.

# %% tags=["figure-unlearnability"]
filters = ["method", "patch_seconds", "taps", "blur"]
words = rows[rows["task"] == "keyword"]
swept = words[words["question"].isin(["main", "sweep"])]
ratios = pages.t_intervals(swept[swept["model"] == "quality"], filters, "snr_db")
over_ratio = share_intervals(swept[swept["model"] == "mfcc conv"], filters).merge(
    ratios[[*filters, "value"]].rename(columns={"value": "snr_db"}), on=filters
)
shared = words[words["question"].isin(["main", "share"]) & (words["method"] != "cuda")]
shared = shared.assign(share=shared["share"].where(shared["method"] != "none", 0.0))
over_share = share_intervals(shared[shared["model"] == "mfcc conv"], ["share"])
over_share = over_share.sort_values("share")


def with_bars(axis, x, table, **how):
    """Draw means with their intervals."""
    bars = [table["value"] - table["low"], table["high"] - table["value"]]
    axis.errorbar(x, table["value"], bars, capsize=2, **how)


figure, (left, right) = figures.panels(9, 3.4, columns=2, sharey=True)
look = figures.styles(over_ratio["method"].unique())
for method, of_method in over_ratio.groupby("method"):
    with_bars(
        left, of_method["snr_db"], of_method, linestyle="none", label=NAMES[method],
        **look[method],
    )
left.set(xlabel="SNR (dB)", ylabel="UAR on clean speech", ylim=(0, 1))
left.legend(frameon=False, fontsize=8)
with_bars(right, over_share["share"], over_share, color="black", marker="o")
right.set(xlabel="share of clips protected");

# %%
ratings = pd.read_csv(benchmarks / "protection_mos.csv").query("task == 'keyword'")
once = ratings.drop_duplicates("run")
tried = swept[swept["model"].isin(["mfcc conv", "quality"]) & (swept["method"] != "none")]
unprotected = as_text(pages.t_intervals(once, ["task"], "mos_unprotected"))[0]
pages.write(
    f"Two random halves of the unprotected clips lie "
    f"{protocol.number(tried['frechet_halves'].mean())} apart: of half as many clips each, few "
    "enough that most of it is chance. Their MOS is estimated as "
    f"{unprotected}, n = {len(once)}."
)
tried, columns = pd.concat([tried, ratings]), {}
for value, title, digits in (
    ("uar", "UAR on clean speech", 2), ("snr_db", "SNR (dB)", 1),
    ("frechet", "Fréchet distance", 2), ("mos", "MOS, estimated", 2),
):
    intervals = share_intervals if value == "uar" else pages.t_intervals
    table = intervals(tried.dropna(subset=[value]), filters, value)
    columns[title] = table.assign(text=as_text(table, digits)).set_index(filters)["text"]
    columns["n"] = runs_of(table, filters)
columns["n"] = columns.pop("n")  # the last column
wide = pd.DataFrame(columns).fillna("not run").sort_index().reset_index()
patches = wide["patch_seconds"].map("{:g}".format).where(wide["method"] != "cuda", "all")
wide["method"], wide["patch_seconds"] = wide["method"].map(NAMES), patches
wide.rename(columns={"patch_seconds": "patch (s)"}).set_index("method")

# %% [markdown]
# The smaller the share of protected clips, the smaller the effect, with every model: half of the
# clips, left as they are, teach nearly as much as all of them would.

# %%
table = share_intervals(shared[shared["model"].isin(SCRATCH)], ["model", "share"])
table = table.assign(text=as_text(table))
wide = table.pivot(index="model", columns="share", values="text").fillna("not run")
wide.rename(columns="{:.0%}".format).rename_axis(columns=None).assign(
    n=runs_of(table, ["model"])
)

# %% [markdown]
# ### What a trainer who expects it can do
#
# The trainer has the recordings, and needs no key to disturb the protection. *Crop and shift* moves
# the patch, *random filter* blurs every clip with a different filter, so that the blur says
# nothing, and *resample*, *low-pass* and *denoise* change what the filter left (test clips are
# changed in the same way). *Clean clips* are ten per class, on which training ends; beside it is a
# model trained on these ten alone. A pre-trained encoder (`nano-english`) was never shown a
# protected clip. The first column shows where a change hurts unprotected speech, too.

# %%
attacked = rows[rows["question"].isin(["main", "attack"])]
attacked = attacked[attacked["model"].isin(["mfcc conv", "nano-english"])]
table = beside(attacked.replace({"attack": {"none": "nothing"}}), "attack")
# of clean clips alone it is no matter what the others would be protected with
alone = table.index.get_level_values("attack") == "clean clips alone"
table.mask(alone[:, None] & (table == "not run"), protocol.MISSING)

# %% [markdown]
# None of the changes to the signal brought the words back in these runs, with models as small as
# these: random filters take away half of what CUDA costs, but cost as much themselves. A
# pre-trained encoder that is kept frozen does bring them back: it leaves hardly anything of
# PosCUDA's protection, and of CUDA's less than half. Fine-tuned, it picks up CUDA's blur, too, and
# about two thirds of the protection are left. Whether ten clean clips a class help a model that was
# trained on protected ones, these runs do not decide; without the protected ones they are worth
# less than with them.
#
# ### When only one person protects
#
# The recall of one class, depending on who is protected. This is the case of a single person among
# many: the task *speaker* with *it alone*.

# %%
of_one = rows[(rows["model"] == "mfcc conv") & rows["question"].isin(["main", "one"])]
of_one = of_one[of_one["task"].isin(of_one.loc[of_one["question"] == "one", "task"])]
protected = np.where(of_one["question"] == "one", "it alone", "all")
of_one = of_one.assign(protected=np.where(of_one["method"] == "none", "none", protected))
table = share_intervals(of_one, ["task", "protected", "method"], "recall_one")
by_method(table.assign(text=as_text(table)), ["task", "protected"]).replace(
    "not run", protocol.MISSING
)

# %% [markdown]
# With CUDA, a word that is protected alone is hardly named any more. With PosCUDA, and for
# speakers, the intervals are too wide to decide anything: a class has few clips, and there are few
# runs.
#
# ## When does it protect a person?
#
# According to these tables, the patch hides hardly anything of a voice, and only part of a word.
# CUDA hides more, in recordings that few would publish. And either is a hindrance only where four
# things hold: a model is trained from scratch, on nothing but such recordings, by someone who uses
# them as they are, and to tell apart the key's classes. A person who publishes recordings cannot
# know any of these. If unprotected recordings are added, or training starts from a pre-trained
# encoder, the case is another one, and the tables show how much of the protection is left. A
# protection once published cannot be improved, while trainers can. It takes nothing out of a model
# that heard the recordings before: that is what a deletion request is for. So it may be added to
# licences and the law, and is no substitute for them, nor for not publishing.
#
# This replicates no table of the paper, whose corpora, models and sizes are others: that a patch can make
# data unlearnable in its setting is neither confirmed nor denied here.
#
# ## Protect recordings of your own
#
# List them in a CSV with the columns `path` and `label`; the label is what a model should not learn
# to recognise: for voices, the name of the speaker.
#
#     speechunlearn protect --clips clips.csv --key my.key --new-key --out protected
#
# The first time, `--new-key` draws the key and writes it to a file that only you can read; leave
# the option out in later calls, with further recordings. Keep the key, and do not publish it:
# whoever has it can find every patch. The key lists its classes, and a class that it does not list
# is refused. Publish the recordings in the folder `protected`: each keeps its format, sampling
# rate, channels and the tags of title, artist and the like; pictures, cue points and broadcast
# chunks are lost. `protected-clips.csv` in it is for you: it lists labels, speakers and hashes,
# without the key, and recordings that it lists are refused a second time. Do not publish it. Listen
# to the recordings before you publish them: the patch is audible. `-p patch_seconds=0.5` makes it
# longer, and `null` in the key's file makes it the whole clip.

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
import dataclasses

import torch

from speechunlearn.audit import metrics
from speechunlearn.models import training

labels = [study.labels[k] for k in study.train.labels.tolist()]
blurred_clips = protect([w.numpy() for w in study.train.waveforms_z], labels, key)
trained_on = {
    "not protected": study.train,
    "protected": dataclasses.replace(
        study.train, waveforms_z=[torch.from_numpy(w) for w in blurred_clips]
    ),
}
uars = {}
for name, clips in trained_on.items():
    model = study.fresh(0)
    training.train(model, clips, study.recipe, seed=0)
    uars[name] = {
        title: metrics.uar(
            part.labels.numpy(), training.predict(model, part).argmax(1).numpy(),
            len(study.labels),
        )
        for title, part in (("trained on", clips), ("unseen speakers, clean", study.unseen))
    }
pd.DataFrame(uars).T.round(2)

# %% [markdown]
# ## What to remember
#
# - A class-wise blur is a shortcut: a model that takes it learns nothing about the class.
# - The shorter the patch, the better the sound, and the more speech is left to learn from.
# - Protection holds against one model and one trainer, not against all: measure it with trainers
#   who adapt.
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
