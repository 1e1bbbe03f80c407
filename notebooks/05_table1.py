# %% [markdown]
# # Table 1: does the paper's method keep more than random labels?
#
# All methods on every pair of training seed and forget draw. tau is chosen on the *development draw*
# by the paper's rule (highest UAR on the validation speakers) and then frozen: the reported draws
# share no clip with it. Choosing it used validation speech, so "forget set alone" is true of the
# unlearning but not of the choice of tau.

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
pairs = []  # [seed, draw] pairs; empty: the profile's
copies = 0  # M, adversarial copies a clip; 0: the profile's
steps = 0  # P, attack steps; 0: the profile's

# %%
from speechunlearn import runs

run = runs.start(
    profile, corpus, root, encoder, skip_bad, cache, results,
    attack={"copies": copies, "steps": steps}, n_values=n_values, tau_values=tau_values,
    pairs=pairs
)

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %%
import numpy as np
import pandas as pd

from speechunlearn import experiments, figures
from speechunlearn import results as protocol

development = run.results(experiments.ablation(run.study("validation")))
taus = experiments.chosen_taus(development)
pd.Series(taus, name="tau").rename_axis(["method", "N"]).unstack()

# %%
setting = run.profile.settings[0]
results = run.results(experiments.table1(run.study(setting), taus))
table = protocol.table_of_methods(results, setting, generator=np.random.default_rng(0))
paper = protocol.paper_table1().query("setting == @setting")
protocol.readable(table, paper)

# %% [markdown]
# *forget*: clips to forget; *retain*: other training clips; *unseen*: speakers never trained on.
# Mean over the pairs, with a 95 % interval from resampling pairs and speakers. *paper*: Table 1 of
# Ren et al., wav2vec2-base on DEMoS: another corpus and another model, beside these numbers and
# not comparable clip by clip.

# %%
figures.by_method(table, paper);

# %% [markdown]
# Grey crosses: the paper. Grey line: the retrained model, where forgetting should end up.
#
# ## Distance to the retrained model

# %%
protocol.distances(table)

# %% [markdown]
# ## Tests against random labels
#
# The paper's one-tailed z-test takes the clips as independent and the two models as tested on
# different clips. Both are wrong: clips of a speaker go together, and the models see the same
# clips. Beside it, a paired bootstrap over speakers and pairs.

# %%
tests = protocol.tests_against(
    results, setting, "ran_lab", experiments.ADVERSARIAL, generator=np.random.default_rng(0)
)
tests.replace({"method": protocol.TITLES}).set_index(["method", "n_forget"]).round(3)

# %% [markdown]
# ## What becomes of the paper's claims
#
# Each claim as a difference of UARs that is above 0 where it is right.

# %%
from speechunlearn import sentences

print(experiments.RULE)
print(f"Not as the paper's: {sentences.unlike_the_paper(results.cells) or 'nothing'}.")
claims = experiments.claims(
    results, setting, chance=1 / results.n_labels, generator=np.random.default_rng(0)
)
claims.set_index(["claim", "n_forget"]).round(2)

# %% [markdown]
# ## The other setting
#
# Trained on training and validation speakers, tested on test speakers; tau as chosen above, so no
# test speaker was used for any choice.

# %%
others = [s for s in run.profile.settings if s != setting]
for other in others:
    more = run.results(experiments.table1(run.study(other), taus))
    its_table = protocol.table_of_methods(more, other, generator=np.random.default_rng(0))
    display(protocol.readable(its_table, protocol.paper_table1().query("setting == @other")))

# %%
protocol.costs(results)

# %% [markdown]
# ## On real speech
#
# The committed run of profile `cpu`, with the paper's numbers beside it.

# %%
from speechunlearn import pages

real = protocol.committed("cpu", "ravdess")
pages.table(real, "validation", list(protocol.TITLES))

# %%
pages.tests_and_claims(real, "validation")

# %% [markdown]
# **In words.** The rows are of a reduced variant of the paper's methods (what they were run with stands above
# each table), so that no claim of the paper is decided here. What the means say of each method stands below
# the first table, and what the intervals say in the column *difference* of the last. The rest, with the
# paper's M, P and epochs, and wav2vec2-base on DEMoS, is for the `paper` profile.
