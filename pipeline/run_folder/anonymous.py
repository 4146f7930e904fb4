"""Name the files of a case by their roles, in everything that is passed on."""

import re
from dataclasses import replace

from voxtile.case import Case
from voxtile.errors import Notice
from voxtile.reading.formats import FILES, split_suffix


def without_names(case: Case, notice: Notice) -> Notice:
    """Return a notice that names inputs by their roles, such as "the scan", not by path or file.

    A file name may be a patient's name, and records are passed on. The manifest has the names.
    """
    one = len(case.images) == 1
    inputs = [("the scan" if one else f"channel {name}", path) for name, path in case.images]
    inputs += [("the reference", case.label)] if case.label else []
    sentence = notice.sentence
    for role, path in inputs:
        for given in (path, path.absolute(), path.resolve()):
            if len(given.parts) > 1:
                sentence = sentence.replace(str(given), role)
    stems = [split_suffix(path.name)[0] for _, path in inputs]
    endings = "|".join(
        re.escape(end) for each in FILES for end in (*each.suffixes, *each.seconds) if end
    )
    for (role, path), stem in zip(inputs, stems, strict=True):
        # Names of folders remain, because they may be any word. Case ids are not secret.
        if stem not in (path.name, case.case_id):
            said = "the file" if stems.count(stem) > 1 else role
            # Any suffix matches, so that the other file of a .hdr/.img pair is found too.
            name = rf"(?:\S*/)?(?<![\w.-]){re.escape(stem)}(?:{endings})(?:\.gz)?(?!\w)"
            sentence = re.sub(name, said, sentence, flags=re.IGNORECASE)
    return replace(notice, sentence=sentence)
