"""Which run a run folder's ``run.json`` tells of, or those of its shards.

Records of cases outlive the run that wrote them: a later run with another
model or manifest keeps those that still hold and does the others again, one by
one. Until it is through, both lie side by side in ``cases/``, and those of
cases that the later run was not asked for lie there for good. Whoever reads
the folder leaves out those that the newest run has not written or taken over.
"""

import json
from pathlib import Path

from voxtile.errors import ManifestError

KEY = "settings_sha256"


def current_settings(out: Path) -> str | None:
    """Return the hash of the settings of the newest run in a folder.

    Parameters
    ----------
    out : Path
        A run folder.

    Returns
    -------
    str or None
        Hexadecimal; of all that decides a case's result beside its inputs, of
        the manifest, and of the cases that were chosen from it. None where no
        run says, so that all records count.
    """
    newest, found = "", None
    for path in (*out.glob("run.json"), *out.glob("run-*-of-*.json")):
        try:
            facts = json.loads(path.read_bytes())
            started, settings = str(facts["started"]), str(facts[KEY])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a file may vanish while a batch runs
        if started >= newest:
            newest, found = started, settings
    return found


def refuse_run(out: Path) -> None:
    """Refuse the folder of a segmentation run, whose records anything else would destroy.

    Raises
    ------
    ManifestError
        With what to do.
    """
    for path in (out / "run.json", *sorted(out.glob("run-*-of-*.json"))):
        try:
            facts = json.loads(path.read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ManifestError(
                [f"{path} cannot be read, so {out} may hold a run; name another folder with --out"]
            ) from error
        if "model" in facts:
            raise ManifestError(
                [
                    f"{out} holds a segmentation run ({path.name}), whose records would be lost; "
                    "name another folder with --out"
                ]
            )
