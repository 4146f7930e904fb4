"""Many cases: resumed where they stopped, each alone in a worker, none able to stop the rest.

manifest -> cases -> [ledger: which are done?] -> workers -> cases/<id>.json -> report.csv

settings    how a batch runs: workers, limits, what is done again
drive       `run_manifest`, which puts the others together
ledger      which cases are done, by fingerprint and hash of the mask
lock        one run in one folder at a time
crew        worker processes, from the side of the run
worker      one worker process, from its own side
interrupt   Ctrl-C and SIGTERM
events      what happened, for people and machines
tables      the CSVs, rebuilt from the reports
shard       a part of a manifest, for job arrays; and joining the parts
status      what a run folder holds
"""
