"""Every path, record and lock of a run.

layout.py         every path
facts.py          run.json: what was run
kept_manifest.py  the manifest that a run of a folder of scans made
fingerprint.py    a hash of everything that decides the result of a case
record.py         read the record of one case, and check it
case_report.py    the record of one case, and those of a run
anonymous.py      name the files of a case by their roles
shard.py          a part of a manifest
lock.py           allow only one run at a time
"""
