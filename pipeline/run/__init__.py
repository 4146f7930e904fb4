"""One case through all stages, and commands that use some of the stages.

job.py         what all cases of a run share
case.py        scan -> mask -> report: the only file that calls every stage
attempt.py     make one report for each case, also after an error
evaluation.py  score finished masks
convert.py     read a scan and write it as NIfTI
one_scan.py    one scan, without a manifest
journal.py     warnings of a case, and seconds of each stage
"""
