"""Check that a new run fits the results that its folder already holds.

Finished results are protected: a run that would replace them with results of
another model, engine or setting is refused.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from operator import itemgetter
from typing import Any

from voxtile.case import Case
from voxtile.engines import Engine, Wish, choose_engine
from voxtile.errors import EnvironmentFault, ManifestError, ModelError, counted, first_few
from voxtile.export import export_case
from voxtile.export.finished import read_finished_mask
from voxtile.export.forgetting import lacks_export
from voxtile.export.formats import PLACES, PROBABILITIES
from voxtile.models.bundle import Bundle
from voxtile.run.job import Job
from voxtile.run_folder.case_report import CaseReport
from voxtile.run_folder.facts import RunFacts, newest, readable_facts
from voxtile.run_folder.layout import RunFolder
from voxtile.run_folder.record import read_records

_WAY_OUT = "pass --fresh to process all cases again, or name another folder with --out"


def engine_for(folder: RunFolder, bundle: Bundle, wish: Wish, *, fresh: bool) -> Engine:
    """Return the engine of a run; an option "auto" takes the value of the folder's last run.

    ModelError and EnvironmentFault as from `choose_engine`. If the engine of the last run cannot
    be used here, the message says what to do.
    """
    before = None if fresh else newest(readable_facts(folder))
    known = {} if before is None else before.content.get("engine", {})
    if (
        before is None
        or before.content.get("model", {}).get("sha256") != bundle.sha256
        or known.get("engine", "callable") == "callable"
    ):
        return choose_engine(bundle, wish)
    device = str(known.get("device", "auto")).partition(":")[0]
    try:
        used = Wish(
            known["engine"] if wish.engine == "auto" else wish.engine,
            known.get("precision", "auto") if wish.precision == "auto" else wish.precision,
            device if wish.device == "auto" else wish.device,
        )
        return replace(choose_engine(bundle, used), reason=f"as in {before.path.name}")
    except (ModelError, EnvironmentFault) as error:
        if used == wish:  # everything was chosen by options
            raise
        words = f"{folder.path} was run with {known['engine']} {known.get('precision', '')}"
        raise type(error)(f"{words}, which cannot be used here ({error}); {_WAY_OUT}") from error


def refuse_other(folder: RunFolder, facts: Mapping[str, Any]) -> None:
    """Refuse a run that would replace finished cases of another model, engine or setting.

    `facts` are the facts of the new run. The ManifestError has the number of finished cases, and
    names what differs.
    """
    before = newest(readable_facts(folder))
    if before is None:
        return
    if not before.is_segmentation:
        raise ManifestError(
            f"{folder.path} holds an evaluation; name another folder with --out for this run"
        )
    differing = "; ".join(differences(before.content, facts))
    finished = _finished_cases(folder, before) if differing else 0
    if finished:
        raise ManifestError(
            f"{folder.path}: {counted(finished, 'finished case')} to be run again: "
            f"{differing}; {_WAY_OUT}"
        )


def refuse_lost_probabilities(
    folder: RunFolder, finished: Iterable[str], formats: Iterable[str]
) -> None:
    """Refuse a run whose finished cases lack probabilities, which only a network can compute."""
    finished = tuple(finished)
    for name in formats:
        if name in PROBABILITIES:
            places = {
                case_id: folder.export(name) / PLACES[name].format(case_id) for case_id in finished
            }
            lacking = [case_id for case_id, path in places.items() if not path.is_dir()]
            if lacking:
                verb = "has" if len(lacking) == 1 else "have"
                raise ManifestError(
                    f"{counted(len(lacking), 'finished case')} {verb} no {name} "
                    f"({first_few(lacking)}), which only a network can compute; {_WAY_OUT}"
                )


def export_finished(job: Job, case: Case, report: CaseReport) -> CaseReport:
    """Write the exports that a finished case lacks; return its report with notices about them."""
    names = [
        name
        for name in job.settings.exports
        if name not in PROBABILITIES and lacks_export(job.out, case.case_id, name)
    ]
    if not names:
        return report
    finished = job.finished(case)
    notices = export_case(finished, read_finished_mask(finished), names)
    new = tuple(notice for notice in notices if notice not in report.warnings)
    return replace(report, warnings=(*report.warnings, *new))


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return, in words, how the facts of two runs differ if the difference changes results."""
    # Converted by JSON, as the stored facts were, so that tuples equal lists.
    now: dict[str, Any] = json.loads(json.dumps(dict(after)))
    found = []
    if before.get("voxtile") != now["voxtile"]:
        found.append(f"voxtile {before.get('voxtile')} -> {now['voxtile']}")
    models = [str(one.get("model", {}).get("sha256", "")) for one in (before, now)]
    if models[0] != models[1]:
        found.append(f"model {models[0][:4]}… -> {models[1][:4]}…")
    engines = [one.get("engine", {}) for one in (before, now)]
    found += engine_differences(*engines)
    if before.get("plan") != now["plan"]:
        found.append(f"plan of tiles ({_changed_keys(_plan(before), _plan(now))})")
    if before.get("model", {}).get("quality") != now["model"].get("quality"):
        found.append("calibration of the predicted Dice")
    if before.get("settings") != now["settings"]:
        found.append(f"settings ({_changed_keys(before.get('settings', {}), now['settings'])})")
    return found


def engine_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return how the engines of two runs differ; their reason and GPU number do not count."""
    one, other = (
        {**facts, "device": str(facts.get("device", "cpu")).partition(":")[0], "reason": ""}
        for facts in (before, after)
    )
    if one == other:
        return []
    names = [f"{facts.get('engine')} {facts.get('precision')}" for facts in (one, other)]
    if names[0] != names[1]:
        return [f"engine {names[0]} -> {names[1]}"]
    keys = sorted(key for key in {*one, *other} if one.get(key) != other.get(key))
    return [f"{key} {one.get(key)} -> {other.get(key)}" for key in keys]


def again_line(again: Mapping[str, str]) -> str:
    """Return one line that says which finished cases are processed again, and why."""
    reasons: dict[str, list[str]] = {}
    for case_id, reason in again.items():
        reasons.setdefault(reason, []).append(case_id)
    parts = [f"{reason} ({first_few(ids)})" for reason, ids in reasons.items()]
    return f"{counted(len(again), 'case')} to be run again: {'; '.join(parts)}"


def _finished_cases(folder: RunFolder, before: RunFacts) -> int:
    """Return how many cases the last run of a folder has finished."""
    states, _ = read_records(
        folder,
        before.case_ids,
        before.settings_sha256,
        itemgetter("status"),
        sealed=before.seals_records,
        whole=False,
    )
    return sum(state == "done" for state in states.values())


def _plan(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all plans by name."""
    plans = facts.get("plan", [])
    return {f"{number} {key}": plan[key] for number, plan in enumerate(plans) for key in plan}


def _changed_keys(before: Any, after: Any) -> str:
    """Return the names of values that differ."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return "another form"
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return ", ".join(dict.fromkeys(key.split(" ")[-1] for key in keys))
