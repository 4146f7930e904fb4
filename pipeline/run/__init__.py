"""One case through all stages; and the other ways through some of them.

case.py        scan -> mask -> record: the only file that knows every stage
evaluation.py  finished masks scored
convert.py     the reader alone
one_scan.py    one scan without a manifest
journal.py     what was noticed and how long each stage took
"""
