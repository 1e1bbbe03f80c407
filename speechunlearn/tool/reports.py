"""A report as a page, as a section of a model card, and in a few lines.

Whatever comes from a request (labels, file names, cells of a CSV) is escaped: it is anyone's.
"""

import html
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from speechunlearn.audit.report_card import NAMES, SCORES
from speechunlearn.tool import verdicts
from speechunlearn.tool.evaluate import SPLITS

HTML, CARD = "report.html", "README.md"
_CLASSES = {verdicts.LIKE: "good", verdicts.NOT_LIKE: "bad", verdicts.UNKNOWN: "open"}
#: verdict -> what it means for who asked
_PLAIN = {
    verdicts.LIKE: (
        "As far as these checks can tell, the model now answers as one would that never heard the "
        "recordings."
    ),
    verdicts.NOT_LIKE: (
        "The model still answers otherwise than models that never heard the recordings. It cannot "
        "be said that it forgot them."
    ),
    verdicts.UNKNOWN: (
        "Whether the model answers as one that never heard the recordings cannot be told from what "
        "was given. It cannot be said that it forgot them."
    ),
}
_METRICS = {"uar": "UAR", "accuracy": "accuracy", "mean_loss": "mean loss (nats)"}
_WHEN = {"original": "Original", "before": "Before", "after": "After", "model": "Model"}
_MEASURES = {
    "auc": "area under the ROC curve", "eer": "equal error rate", "tpr": "found at 1 % false alarms"
}
#: what a request does not reach, whatever its verdict
NOT_DONE = (
    "The recordings themselves and their backups, the original model, and other models that were "
    "trained on them: none of these was touched"
)
#: a model card keeps the sections of so many requests: with all, those of a ledger would grow
#: as the square of its rows
_MAX_SECTIONS = 10
_LEFT_OUT = "\n\nOf earlier requests than the ones below, the sections are left out."
#: a model card larger than this is none
_MAX_CARD = 2**20


def write(report: Mapping[str, Any], folder: Path, card: str | None = None) -> None:
    """Write ``report.html`` and, for an unlearned model, ``README.md``.

    The page names recordings and people: its owner alone can read it, and of an unlearned model,
    whose folder may be published, git and huggingface_hub leave it out.

    Args:
        report: of `speechunlearn.tool.forget` or `speechunlearn.tool.audit`
        folder: to write to
        card: text of the original's model card, which gets a section; None starts one

    """
    (folder / HTML).write_text(page(report), encoding="utf-8")
    (folder / HTML).chmod(0o600)
    if report["kind"] == "forget":
        (folder / ".gitignore").write_text(f"{HTML}\n")
        # later requests' sections follow earlier ones
        before, *sections = re.split(r"^(?=## Unlearning$)", card or "", flags=re.MULTILINE)
        if len(sections) >= _MAX_SECTIONS:
            before = before.replace(_LEFT_OUT, "").rstrip() + _LEFT_OUT
        parts = [before, *sections[1 - _MAX_SECTIONS :], section(report)]
        text = "\n\n".join(part.strip() for part in parts if part.strip())
        (folder / CARD).write_text(text + "\n", encoding="utf-8")


def page(report: Mapping[str, Any]) -> str:
    """Return a report as one HTML page that needs no network."""
    return _rendered("report.html.j2", report)


def section(report: Mapping[str, Any]) -> str:
    """Return a report as a section of a model card, in Markdown without what a request names."""
    return _rendered("section.md.j2", report)


def summary(report: Mapping[str, Any]) -> str:
    """Return a report in a few lines, the verdict first."""
    return _rendered("summary.txt.j2", report).rstrip("\n")


@cache
def _template(name: str) -> Template:
    """Compile a template once: a ledger writes a page for each request."""
    environment = Environment(
        loader=PackageLoader("speechunlearn.tool", "."), autoescape=name.endswith("html.j2"),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "text": _text, "code": _code, "html": html.escape}
    return environment.get_template(name)


def filled(template: str, **values: Any) -> str:
    """Return a template of this folder with its values; one of HTML escapes them."""
    return _template(template).render(**values)


def _rendered(template: str, report: Mapping[str, Any]) -> str:
    whens = [when for when in _WHEN if when in report["scores"]]
    attacks = {when: attack for when in whens if (attack := report["membership"][when])}
    first = next(iter(attacks.values()), None)  # the intervals of all are of the same clips
    return filled(
        template, report=report, splits=[s for s in SPLITS if s in report["inputs"]],
        metrics=_METRICS, whens=whens, when=_WHEN, figures=_MEASURES,
        attacks=attacks,
        resampled="{} (to forget) and {} (unseen)".format(*first["resampled"]) if first else "",
        plain=_PLAIN[report["verdict"]["value"]], named=_named(report),
        cards={
            when: "passes" if card["passed"] else "does not pass"
            for when in whens if (card := report["cards"][when])
        },
        score_names=NAMES, shares=list(SCORES), not_done=NOT_DONE,
        notices=verdicts.notices, one_in=verdicts.ONE_IN, verdict_class=_CLASSES,
        asked=_asked(report), others=_others(report),
    )


def card_of(source: str) -> str | None:
    """Return the text of a local checkpoint's model card, if it has one that can be read.

    A link that leads out of the checkpoint's folder is no card: what it leads to stays private.
    """
    try:
        folder = Path(os.path.expanduser(source)).resolve()
        path = (folder / CARD).resolve()
        if not path.is_relative_to(folder) or not path.is_file():
            return None
        return path.read_text(encoding="utf-8") if path.stat().st_size <= _MAX_CARD else None
    except (OSError, RuntimeError, UnicodeDecodeError):
        return None


def _asked(report: Mapping[str, Any]) -> str:
    """Return how many recordings of how many speakers a request is about, in words."""
    forget = report["inputs"]["forget"]
    said = _number_of(forget["clips"], "recording")
    return said + (f" of {_number_of(forget['speakers'], 'speaker')}" if forget["speakers"] else "")


def _named(report: Mapping[str, Any]) -> str:
    """Return the names of the speakers that a request is about, at most five, in brackets."""
    speakers = sorted({clip["speaker"] for clip in report["forgotten"]} - {""})
    names = ", ".join(speakers[:5]) + (", …" if len(speakers) > 5 else "")
    return f" ({names})" if names else ""


def _others(report: Mapping[str, Any]) -> str:
    """Return what is known of other recordings of the same speakers, in sentences."""
    said = []
    for name, paths in report["same_speakers"].items():
        if paths is None:
            said.append(
                f"Whether {name} clips are of the same speakers cannot be told: a CSV names none."
            )
        elif paths:
            verb = "is" if len(paths) == 1 else "are"
            said.append(
                f"Of the same speakers {verb} {_number_of(len(paths), f'{name} clip')}, "
                "which the request does not name."
            )
        else:
            said.append(f"No {name} clip is of these speakers.")
    return " ".join(said)


def _number_of(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def number(value: float | None, digits: int = 3) -> str:
    """Return a number as text; a dash where there is none."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def _text(value: str) -> str:
    """Return a text that is neither HTML nor Markdown, on one line."""
    plain = re.sub(r"([\\`*_\[\]#|~!])", r"\\\1", " ".join(value.split()))
    return html.escape(plain, quote=False)


def _code(value: Any) -> str:
    return "`" + html.escape(str(value)).replace("`", "'") + "`"
