# %% [markdown]
# # What forgetting costs
#
# *What does unlearning cost, compared with retraining?*

# %% tags=["parameters"]
profile = "smoke"  # smoke, cpu or paper: see the page on profiles
corpus = ""  # name of a reader; empty: the profile's corpus
root = ""  # the corpus's folder, or the CSV; empty: its own place
encoder = ""  # nano, nano-pretrained, a local folder or a hub id; empty: the profile's
skip_bad = False  # leave out clips that cannot be used, instead of refusing the corpus
cache = ""  # folder of finished work; empty: artefacts/ in the repository
results = ""  # folder that results are added to; empty: none is written
axes = []  # sizes that are changed: n, copies, steps, seconds, width, retained; empty: all
repeats = 0  # times that each point is measured; 0: the profile's

# %%
from speechunlearn.chapters import context

run = context.start(profile, corpus, root, encoder, skip_bad, cache, results, repeats=repeats)

# %% tags=["answer"]
from speechunlearn.chapters import answers, pages
from speechunlearn.lab import leaderboard, results

said = []
for title, board in answers.leaderboards():
    passes = board.set_index("method")["forward_backward"]
    said.append(f"{100 * passes[leaderboard.OURS] / passes['retrain']:.0f} % ({title})")
pages.write(
    "Counted in clips that are sent forward and backward, which depends on no machine, "
    f"{results.TITLES[leaderboard.OURS]} took {', '.join(said)} of retraining, scoring left out, "
    "with the epochs of the committed leaderboards. Below is how this grows with each size."
)

# %% [markdown]
# Unlearning is worthwhile where it costs less than retraining. This chapter measures how time and
# memory grow with each size of a request: N clips to forget, M adversarial copies of each, P attack
# steps, the length of the clips, the size of the model, and R, the clips that are retained. A
# method that uses the forget set alone should not grow with R; retraining should, and not with N, M
# or P.
#
# The models have random weights and were trained on nothing: what a pass costs does not depend on
# what the weights are. Clips are cut, or repeated, to one length.

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %% [markdown]
# ## What is measured
#
# One size changes at a time; the others stay where this table has them. All methods, and retraining,
# take the same number of epochs and the same batches.

# %%
import pandas as pd

from speechunlearn.chapters import figures, pages
from speechunlearn.lab import scaling
from speechunlearn.lab.results import TITLES, with_interval

sizes = scaling.Scaling.of(run.profile, axes)
study = run.study()
bench = scaling.Bench(
    study.fresh(0), study.train, epochs=sizes.epochs, batch_size=sizes.batch_size
)
pd.DataFrame(
    {"held at": vars(sizes.centre), "changed to": pd.Series(dict(sizes.axes), dtype=object)}
).rename(index=scaling.AXES | {"width": "times the channels of the network"})

# %% [markdown]
# Every point is measured several times, in turns, so that what slows the machine for a while slows
# all of them. Each run is measured by the clock, by the memory that the process grows by, and by the
# clips it sends through the model.

# %%
table = scaling.measured(bench, sizes.points(), repeats=sizes.repeats)
run.keep(table, "cost")

# %% [markdown]
# ## Passes
#
# The clips sent forward and backward depend on no machine. Slopes are fitted on logarithmic axes: 1 is
# growth in proportion, 0 is none. Passes do not grow with the length of a clip or the size of the
# model: there, each of them takes longer. Self-distillation sends a whole batch of concatenated clips at
# every step, however few clips there are to forget: while these are few, its passes grow less than N.

# %%
def slopes_of(cost):
    """How a cost grows: a row a size and method, with the slope as text beside it."""
    found = scaling.slopes(table, cost)
    ends = found[["slope", "low", "high"]].itertuples(index=False)
    return found.assign(
        text=[with_interval(*row) for row in ends], title=found["method"].map(TITLES)
    )


def by_size(slopes):
    """A row a size, a column a method."""
    wide = slopes.pivot(index="axis", columns="title", values="text").fillna("")
    wide = wide.loc[slopes["axis"].unique(), slopes["title"].unique()]
    return wide.rename(index=scaling.AXES).rename_axis(index="size")


passes = slopes_of("forward_backward")
by_size(passes)

# %% [markdown]
# ## Seconds

# %% tags=["figure-growth"]
import seaborn as sns

measured = [TITLES[method] for method in TITLES if method in set(table["method"])]
grid = sns.relplot(
    table.assign(method=table["method"].map(TITLES)), kind="line", x="size", y="seconds",
    col="axis", col_order=[axis for axis in scaling.AXES if axis in set(table["axis"])],
    col_wrap=3, hue="method", style="method", hue_order=measured, style_order=measured,
    estimator="median", errorbar=("pi", 100), err_style="bars",
    markers=[figures.OF_METHOD[name]["marker"] for name in measured],
    palette=[figures.OF_METHOD[name]["color"] for name in measured], height=2.7, aspect=1.15,
    facet_kws={"sharex": False},
)
for axis, panel in grid.axes_dict.items():
    ticks = sorted(table.loc[table["axis"] == axis, "size"].unique())
    panel.set(xscale="log", yscale="log", xlabel=scaling.AXES[axis], title="")
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
sns.move_legend(
    grid, "upper center", bbox_to_anchor=(0.5, 0), ncols=len(measured), title=None
)

# %% [markdown]
# The slopes, with their 95 % intervals. Work that does not grow, such as the copy of the model, holds
# a slope down, the more so the shorter the runs are.

# %% tags=["nbval-ignore-output"]
seconds = slopes_of("seconds")
by_size(seconds)

# %% [markdown]
# ## Does the retained set matter?
#
# By the passes:

# %%
from speechunlearn import methods


def with_retained(slopes):
    """Which methods grow with the retained set, and which were not found to."""
    rows = slopes[slopes["axis"] == "retained"]
    alone = rows["method"].map(lambda name: methods.get(name).needs == {"forget"})
    lines = []
    for of_these, title in ((alone, "use the forget set alone"), (~alone, "use more")):
        found = rows[of_these]
        said = found["title"] + ": " + found["verdict"] + " (slope " + found["text"] + ")"
        lines.append(f"- of those that {title}: {', '.join(said)}")
    pages.write(f"With the size *{scaling.AXES['retained']}*\n\n" + "\n".join(lines))


if "retained" in sizes.axes:
    with_retained(passes)

# %% [markdown]
# And by the clock. *No growth found* means that the interval of the slope contains 0, *grows* that
# it lies above 0; one interval in twenty misses the slope by chance.

# %% tags=["nbval-ignore-output"]
if "retained" in sizes.axes:
    with_retained(seconds)

# %% [markdown]
# ## Memory
#
# By how much the process grew, or on a GPU what was allocated beyond the start. A batch holds at most
# a fixed number of clips: beyond it, more clips add only what is kept of them.

# %% tags=["nbval-ignore-output"]
by_size(slopes_of("memory_mb"))

# %% tags=["nbval-ignore-output"]
table.groupby(["axis", "size", "method"])["memory_mb"].median().unstack().round(1)

# %% [markdown]
# ## The planner
#
# `speechunlearn cost` predicts what a request will take before it is carried out: it runs the
# method with each of its phases cut to a few batches, and counts the rest. Here its predictions
# stand beside runs of the largest N and R above, each made right after its prediction. Whatever
# else the machine does at the time affects both; what counts is the median over several.

# %% tags=["nbval-ignore-output"]
planned = scaling.predictions(
    bench, sizes.largest(), repeats=sizes.repeats, budget=sizes.budget
)
within = int(((planned["ratio"] - 1).abs() <= 0.25).sum())
pages.write(
    f"Within 25 % of the run, by the median: {within} of {len(planned)} predictions; "
    f"passes as counted before: {int(planned['passes agree'].sum())} of {len(planned)}."
)
planned = planned.assign(method=planned["method"].map(TITLES)).set_index("method")
planned.rename(columns={"ratio": "predicted / real"}).round(3)
