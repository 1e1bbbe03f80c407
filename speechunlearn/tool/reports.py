"""A report as a page, as a section of a model card, and in a few lines.

Whatever comes from a request (labels, file names, cells of a CSV) is escaped: it is anyone's.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from speechunlearn.audit.report_card import DISTANCES, SCORES
from speechunlearn.tool import verdicts
from speechunlearn.tool.assessing import SPLITS

HTML, CARD = "report.html", "README.md"
_CLASSES = {verdicts.LIKE: "good", verdicts.NOT_LIKE: "bad", verdicts.UNKNOWN: "open"}
_METRICS = {"uar": "UAR", "accuracy": "accuracy", "mean_loss": "mean loss (nats)"}
_WHEN = {"original": "Original", "before": "Before", "after": "After", "model": "Model"}
_FIGURES = {
    "auc": "area under the ROC curve", "eer": "equal error rate", "tpr": "found at 1 % false alarms"
}
_SECTION = "## Unlearning"
#: what a request does not reach, whatever its verdict
NOT_DONE = (
    "The recordings themselves and their backups, the original model, and other models that were "
    "trained on them: none of these was touched"
)
#: a model card larger than this is none
_MAX_CARD = 2**20


def write(report: Mapping[str, Any], folder: Path, card: str | None = None) -> None:
    """Write ``report.html`` and, for an unlearned model, ``README.md``.

    Args:
        report: of `speechunlearn.tool.forget` or `speechunlearn.tool.audit`
        folder: to write to
        card: text of the original's model card, which gets a section; None starts one

    """
    (folder / HTML).write_text(page(report), encoding="utf-8")
    if report["kind"] == "forget":
        (folder / CARD).write_text(_with_section(card, section(report)), encoding="utf-8")


@cache
def _template() -> Template:
    """Compile the page once: a ledger writes one a request."""
    environment = Environment(
        loader=PackageLoader("speechunlearn.tool", "."), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment.get_template("report.html.j2")


def page(report: Mapping[str, Any]) -> str:
    """Return a report as one HTML page that needs no network."""
    return _template().render(
        report=report, splits=[s for s in SPLITS if s in report["inputs"]], metrics=_METRICS,
        whens=_whens(report), when=_WHEN, figures=_FIGURES,
        score_names=SCORES | DISTANCES, shares=list(SCORES), not_done=NOT_DONE,
        notices=verdicts.notices, one_in=verdicts.ONE_IN, verdict_class=_CLASSES,
        asked=_asked(report), others=_others(report),
    )


def section(report: Mapping[str, Any]) -> str:
    """Return a report as a section of a model card, in Markdown without what a request names."""
    method, inputs, whens = report["method"], report["inputs"], _whens(report)
    parameters = ", ".join(f"{k} = {_code(v)}" for k, v in method["parameters"].items())
    verdict = report["verdict"]
    results = ", ".join(f"{_code(name)} (`{digest}`)" for name, digest in report["result"].items())
    lines = [
        _SECTION, "",
        f"Verdict: **{verdict['value']}**: {_text(verdict['why'])}", "",
        f"A request to forget {_asked(report)} was carried out on {report['finished'][:10]} by "
        f"{html.escape(method['title'])} (speechunlearn, `{method['name']}`), from the checkpoint "
        f"with SHA-256 `{report['model']['sha256'][:16]}…`. The result is {results}. {NOT_DONE}. "
        f"{_text(_others(report))} The method looked at: {', '.join(method['needs'])} clips. "
        f"{parameters}; seed {report['seed']}.", "",
        "| clips | " + " | ".join(f"UAR {when}" for when in whens) + " |",
        "|---|" + "---|" * len(whens),
    ]
    for split in (s for s in SPLITS if s in inputs):
        values = [number(report["scores"][when][split]["uar"]) for when in whens]
        lines.append(f"| {split} ({inputs[split]['clips']}) | " + " | ".join(values) + " |")
    attacks = [(w, report["membership"][w]) for w in whens if report["membership"][w]]
    if attacks:
        said = ", ".join(
            f"{when} {number(f['auc']['value'])} ({number(f['auc']['low'])} to "
            f"{number(f['auc']['high'])})" for when, f in attacks
        )
        lines += ["", f"Area under the ROC curve of an attack on the loss: {said}."]
    judged = report["cards"].get("after")
    if judged:
        result = "passes" if judged["passed"] else "does not pass"
        lines += ["", f"Beside {report['references']} retrained models it {result} for one."]
    if report["power"]:
        lines += ["", f"{verdicts.notices(report['power'])}."]
    lines += ["", "Not assessed:", ""]
    lines += [f"- {gap['what']}: {_text(gap['why'])}" for gap in report["not_assessed"]]
    return "\n".join(lines) + "\n"


def summary(report: Mapping[str, Any]) -> str:
    """Return a report in a few lines, the verdict first."""
    lines = [f"verdict: {report['verdict']['value']}: {report['verdict']['why']}"]
    if report["kind"] == "forget":
        lines.append(f"method: {report['method']['title']} ({report['method']['why']})")
    for split in (s for s in SPLITS if s in report["inputs"]):
        values = ", ".join(
            f"{when} {number(report['scores'][when][split]['uar'])}" for when in _whens(report)
        )
        lines.append(f"UAR, {split} ({report['inputs'][split]['clips']} clips): {values}")
    for when in _whens(report):
        if report["membership"][when]:
            auc = report["membership"][when]["auc"]
            lines.append(
                f"attack on the loss, {when}: AUC {number(auc['value'])} "
                f"({number(auc['low'])} to {number(auc['high'])})"
            )
    for when in _whens(report):
        judged = report["cards"][when]
        if judged:
            result = "passes" if judged["passed"] else "does not pass"
            lines.append(f"beside {report['references']} retrained models, {when}: {result}")
    if report["power"]:
        lines.append(f"the card: {verdicts.notices(report['power'])}")
    lines += [f"not assessed: {gap['what']}: {gap['why']}" for gap in report["not_assessed"]]
    return "\n".join(lines)


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


def _whens(report: Mapping[str, Any]) -> list[str]:
    """Return when the models of a report are from, the earlier one first."""
    return [when for when in _WHEN if when in report["scores"]]


def number(value: float | None, digits: int = 3) -> str:
    """Return a number as text; a dash where there is none."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def _text(value: str) -> str:
    """Return a text that is neither HTML nor Markdown, on one line."""
    plain = re.sub(r"([\\`*_\[\]#|~!])", r"\\\1", " ".join(value.split()))
    return html.escape(plain, quote=False)


def _code(value: Any) -> str:
    return "`" + html.escape(str(value)).replace("`", "'") + "`"


def _with_section(card: str | None, text: str) -> str:
    """Put a section at the end of a card; later requests' sections follow earlier ones."""
    return text if not card or not card.strip() else card.rstrip() + "\n\n" + text
