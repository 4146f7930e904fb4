"""Say in a paragraph for a paper how the masks of a run were made and scored.

Every sentence follows from ``run.json`` and the records of the cases, so the text is true to what
ran. It is made as plain text and as Markdown for Pandoc, with the sources as BibTeX.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import Any

from voxtile.errors import counted
from voxtile.run_folder.case_report import CaseReport
from voxtile.scoring.columns import nsd_tolerance
from voxtile.scoring.lesions import LEAST_IOU

from .summary import EMPTY, summary_table
from .tables import report_table, run_verdict

# A longer list of labels belongs into a table.
_MOST_LABELS = 8
_SOURCES = {
    "dice1945": """@article{dice1945,
  author = {Dice, Lee R.},
  title = {Measures of the amount of ecologic association between species},
  journal = {Ecology}, volume = {26}, number = {3}, pages = {297--302}, year = {1945}
}""",
    "huttenlocher1993": """@article{huttenlocher1993,
  author = {Huttenlocher, Daniel P. and Klanderman, Gregory A. and Rucklidge, William J.},
  title = {Comparing images using the {Hausdorff} distance},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  volume = {15}, number = {9}, pages = {850--863}, year = {1993}
}""",
    "nikolov2021": """@article{nikolov2021,
  author = {Nikolov, Stanislav and Blackwell, Sam and Zverovitch, Alexei and others},
  title = {Clinically applicable segmentation of head and neck anatomy for radiotherapy},
  journal = {Journal of Medical Internet Research}, volume = {23}, number = {7}, year = {2021}
}""",
    "kofler2023": """@article{kofler2023,
  author = {Kofler, Florian and M{\\"o}ller, Hendrik and Buchner, Josef A. and others},
  title = {Panoptica -- instance-wise evaluation of {3D} semantic and instance segmentation maps},
  journal = {arXiv:2312.02608}, year = {2023}
}""",
    "efron1993": """@book{efron1993,
  author = {Efron, Bradley and Tibshirani, Robert J.},
  title = {An Introduction to the Bootstrap}, publisher = {Chapman and Hall}, year = {1993}
}""",
    "barber2021": """@article{barber2021,
  author = {Barber, Rina Foygel and Cand{\\`e}s, Emmanuel J. and Ramdas, Aaditya and
            Tibshirani, Ryan J.},
  title = {Predictive inference with the jackknife+},
  journal = {The Annals of Statistics}, volume = {49}, number = {1}, pages = {486--507},
  year = {2021}
}""",
}
_KEY = re.compile(r"@\w+\{([\w-]+),")
_CITED = re.compile(r" \[@([\w-]+)\]")


def methods_text(facts: Mapping[str, Any], reports: Sequence[CaseReport]) -> str:
    """Return the paragraph as plain text; sources are named by the keys of their BibTeX."""
    return _CITED.sub(r" (\1)", _paragraph(facts, reports))


def methods_markdown(facts: Mapping[str, Any], reports: Sequence[CaseReport]) -> str:
    """Return the paragraph as Markdown with the citations of Pandoc."""
    return f"## Methods\n\n{_paragraph(facts, reports)}\n"


def methods_bibtex(facts: Mapping[str, Any], reports: Sequence[CaseReport]) -> str:
    """Return voxtile, the data of the model, and the sources that the paragraph cites."""
    sources = _SOURCES | {
        "voxtile": f"""@software{{voxtile,
  author = {{{{The voxtile developers}}}}, title = {{voxtile}},
  version = {{{facts.get("voxtile", "")}}}
}}""",
        **_model_sources(facts),
    }
    cited = dict.fromkeys(_CITED.findall(_paragraph(facts, reports)))
    return "\n\n".join(sources[key] for key in cited if key in sources) + "\n"


def _paragraph(facts: Mapping[str, Any], reports: Sequence[CaseReport]) -> str:
    """Return the sentences of the paragraph, with citations as ``[@key]``."""
    return " ".join([*_making(facts, reports), *_judging(facts, reports), *_scoring(reports)])


def _making(facts: Mapping[str, Any], reports: Sequence[CaseReport]) -> Iterator[str]:
    """Yield what was segmented, by what, and what failed."""
    model = facts.get("model", {})
    total = len(facts.get("case_ids", ())) or len(reports)
    done = sum(report.status == "done" for report in reports)
    tool = f"voxtile {facts.get('voxtile', '')} [@voxtile]"
    if model:
        cited = "".join(f" [@{key}]" for key in _model_sources(facts))
        engine = facts.get("engine", {})
        words = " in ".join(str(engine[key]) for key in ("engine", "precision") if engine.get(key))
        how = f", run with {words}" if words else ""
        yield (
            f"{done} of {counted(total, 'scan')} {'was' if done == 1 else 'were'} segmented with "
            f"{tool} and its model {model.get('name', '')} (SHA-256 "
            f"{str(model.get('sha256', ''))[:12]}){cited}{how}."
        )
        if changed := facts.get("settings", {}).get("thresholds"):
            words = ", ".join(f"{value:g} for {name}" for name, value in changed.items())
            yield f"Thresholds of the probabilities differed from the model's own: {words}."
    else:
        yield (
            f"The masks of {done} of {counted(total, 'case')} were scored with {tool}; it did not "
            "make them."
        )
    codes: dict[str, int] = {}
    for report in reports:
        if report.reason is not None:
            codes[report.reason.code] = codes.get(report.reason.code, 0) + 1
    if codes:
        why = ", ".join(f"{count} {code}" for code, count in codes.items())
        yield f"{counted(sum(codes.values()), 'case')} failed ({why})."
    if total > len(reports):
        yield f"{counted(total - len(reports), 'case')} had no result."


def _judging(facts: Mapping[str, Any], reports: Sequence[CaseReport]) -> Iterator[str]:
    """Yield the verdicts, and how the Dice was predicted."""
    verdict = run_verdict(reports)
    look = sum(verdict.look.values())
    yield (
        f"By the automatic rules of voxtile {verdict.usable} of "
        f"{counted(verdict.usable + look, 'mask')} needed no look and {look} did; whether a person "
        "looked is not recorded."
    )
    if facts.get("model", {}).get("quality"):
        yield (
            "These rules use the Dice that the model's calibration predicts without a reference, "
            "with a 90 % lower bound by the jackknife+ [@barber2021]."
        )


def _scoring(reports: Sequence[CaseReport]) -> Iterator[str]:
    """Yield how masks were compared with references, and the mean Dice."""
    scored = [
        report
        for report in reports
        if report.status == "done" and any(row.status != "no_reference" for row in report.labels)
    ]
    if not scored:
        return
    names = {name for report in scored for row in report.labels for name in row.nsd}
    tolerances = sorted({value for name in names if (value := nsd_tolerance(name)) is not None})
    verb = "was compared with a reference" if len(scored) == 1 else "were compared with references"
    yield (
        f"{counted(len(scored), 'mask')} {verb} by the Dice coefficient [@dice1945] "
        "and by distances between surface voxels in millimetres: the larger of the two directed "
        "95th percentiles (HD95) [@huttenlocher1993] and the mean of both sets pooled (ASSD)."
    )
    if tolerances:
        words = " and ".join(f"{value:g}" for value in tolerances)
        yield f"The surface Dice [@nikolov2021] counts surface voxels within {words} mm."
        if any(name.startswith("nsd_area_") for name in names):
            yield "It was also computed with surface elements weighted by their area."
    if any(row.lesions for report in scored for row in report.labels):
        yield (
            "Lesions (connected components) were matched one to one by decreasing IoU above "
            f"{LEAST_IOU:g} [@kofler2023]."
        )
    empty = sum(row.status in EMPTY for report in scored for row in report.labels)
    yield (
        "A label that is in neither mask has no Dice, and one that is in only one of them has a "
        f"Dice of 0; {counted(empty, 'label')} of a case {'was' if empty == 1 else 'were'} empty "
        "in at least one mask."
    )
    table = report_table(reports)[["case_id", "label", "label_name", "status", "group", "dice"]]
    dice = [row for row in summary_table(table).to_dict("records") if row["n_used"]]
    parts = [
        f"{row['label_name']} {row['mean']:.3f}"
        + ("" if isnan(row["ci_low"]) else f" ({row['ci_low']:.3f} to {row['ci_high']:.3f})")
        + f", n = {row['n_used']}"
        for row in dice[:_MOST_LABELS]
    ]
    if parts:
        left = len(dice) - len(parts)
        more = f"; {counted(left, 'further label')} in the table" if left else ""
        yield (
            "Mean Dice (95 % interval by percentile bootstrap over groups of the manifest "
            f"[@efron1993]): {'; '.join(parts)}{more}."
        )


def _model_sources(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the BibTeX entries that a model names as its sources, by key."""
    entries = facts.get("model", {}).get("citations", ())
    return {key[1]: entry for entry in entries if (key := _KEY.match(entry))}
