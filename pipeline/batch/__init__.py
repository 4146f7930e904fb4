"""Many cases: each alone in a worker, none able to stop the others, resumed after a stop.

manifest -> cases -> ledger: which are done? -> workers -> cases/<id>.json -> report.csv

settings    how a batch runs: workers, limits, what is done again
drive       `run_manifest`, which puts the other modules together
case_loop   the cases of a run, one after another: finished, done now, tried again
agreement   whether a run agrees with what its folder holds
ledger      which cases are done, by fingerprint and hash of the mask
folder      a run folder made ready, and cleaned
pool        worker processes, seen from the run
worker      one worker process
cluster     workers on a Dask cluster
interrupt   Ctrl-C and SIGTERM
events      what happened, for people and machines
display     a progress bar, lines and a summary
merge       the shards of a run joined
status      the state of a run folder
"""
