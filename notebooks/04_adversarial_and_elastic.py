# %% [markdown]
# # Adversarial copies and elastic weights: the paper's method
#
# Random labels destroy more than the forget set. The paper holds the rest in place without the
# retain set, in two ways.
#
# **Adversarial copies.** For each clip to forget, M copies are made that the *original* model takes
# for another, random class, by moving every sample by at most tau (targeted PGD, P steps). They are
# trained on *with those classes*: they stand in for the other classes' clips, which are gone. (The
# paper's equation 2 is printed with a plus sign, which would climb the target's loss; a targeted
# attack descends it.)
#
# **Elastic weights.** Weights that matter, by the Fisher information of the wrong labels, are held
# near where they were: L = 0.1 L_mis + 1 L_adv + 1000 L_ewc.

# %% tags=["parameters"]
profile = "smoke"  # smoke, cpu or paper: see the page on profiles
corpus = ""  # name of a reader; empty: the profile's corpus
root = ""  # the corpus's folder, or the CSV; empty: its own place
encoder = ""  # nano, nano-pretrained, a local folder or a hub id; empty: the profile's
skip_bad = False  # leave out clips that cannot be used, instead of refusing the corpus
cache = ""  # folder of finished work; empty: artefacts/ in the repository
results = ""  # folder that results are added to; empty: none is written
n_values = []  # sizes of the forget set; empty: the profile's
tau_values = []  # bounds on the perturbation; empty: the profile's
copies = 0  # M, adversarial copies a clip; 0: the profile's
steps = 0  # P, attack steps; 0: the profile's
other_copies = 0  # M of one more setting to compare with; 0: none
other_steps = 0  # P of that setting; 0: none

# %%
from speechunlearn import runs

run = runs.start(
    profile, corpus, root, encoder, skip_bad, cache, results,
    attack={"copies": copies, "steps": steps}, n_values=n_values, tau_values=tau_values
)

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %%
import pandas as pd
from IPython.display import Audio, Markdown, display

from speechunlearn import attacks, deletions, experiments, figures

study = run.study("validation")
seed, draw = run.profile.pairs[0]
n = min(run.profile.n_values)
sampling_rate = 16000

# %% [markdown]
# ## The attack
#
# How many copies reach their target, and how loud the perturbation is. tau is in units of the
# normalised waveform's standard deviation: at tau = 1 it would be as loud as the speech.

# %%
asked = experiments.adversarial_and_elastic(run, other_copies, other_steps)
wanted = deletions.clips(n, draw)
clips = study.forget(wanted)
sets = {tau: study.adversarial(wanted, seed, attack) for tau, attack in asked["copies"]}
pd.DataFrame(
    {
        "reached their target": {tau: f"{s.success_rate:.2f}" for tau, s in sets.items()},
        "SNR of the first copy (dB)": {
            tau: f"{attacks.signal_to_noise_db(clips.waveforms_z[0], s.clips.waveforms_z[0]):.1f}"
            for tau, s in sets.items()
        },
        "largest |delta|": {
            tau: f"{(s.clips.waveforms_z[0] - clips.waveforms_z[0]).abs().max():.3f}"
            for tau, s in sets.items()
        },
    }
).rename_axis("tau")

# %% [markdown]
# ## Hear it
#
# A clip of the forget set, and its first adversarial copy at the largest tau.

# %% tags=["nbval-ignore-output"]
tau = max(sets)
copy = sets[tau].clips
display(Markdown(f"the clip: *{study.labels[clips.labels[0]]}*"))
display(Audio(clips.waveforms_z[0][: 3 * sampling_rate].numpy(), rate=sampling_rate))
display(
    Markdown(f"its copy, tau = {tau}, made to be taken for *{study.labels[copy.labels[0]]}*")
)
display(Audio(copy.waveforms_z[0][: 3 * sampling_rate].numpy(), rate=sampling_rate))

# %% tags=["nbval-ignore-output"]
figures.clip_and_copy(clips.waveforms_z[0], copy.waveforms_z[0], sampling_rate);

# %% [markdown]
# The difference is noise-like and spread over all frequencies: it is not another emotion that one
# could hear, it is what this model takes for one.
#
# ## What the paper leaves open
#
# The paper does not say how large a step is, whether delta is clipped after each step, when the
# copies are made, whether the Fisher information is squared a clip or a batch at a time, or whether
# dropout is on. Each is a named parameter here. Its parent (Cha et al. 2024) holds the *other*
# weights: those that do not matter for the forget set (1 - MAS). One at a time, for the smallest
# N:

# %%
experiments.variants(run.results(asked["gaps"])).round(2)

# %% [markdown]
# M and P cost the most: with `-p other_copies=20 -p other_steps=50` both methods are repeated with
# the paper's, at the smallest tau.

# %%
if other_copies and other_steps:
    more = run.results(asked["sizes"])
    display(experiments.variants(more).round(2))

# %% [markdown]
# ## On real speech
#
# The committed run of profile `cpu`, for the smallest N. Two of the rows have the paper's M = 20 and
# P = 50, where the profile's are smaller: they forget more, and more than the retrained model does.

# %%
from speechunlearn import pages
from speechunlearn import results as protocol

pages.gaps(protocol.committed("cpu", "ravdess"))

# %% [markdown]
# The importance estimates decide more than anything else here. With 1 - Fisher, MAS and 1 - MAS at
# the paper's weight of 1000, nothing moves: the model neither forgets nor loses anything. Their
# values are of another size than the Fisher information's, so one weight cannot serve them all.
