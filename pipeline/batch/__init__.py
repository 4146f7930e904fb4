"""Run many cases: each in a worker process, so that no case stops another; runs can be resumed.

manifest -> cases -> ledger: which are done? -> workers -> cases/<id>.json -> report.csv

settings    how a batch runs: workers, limits, which cases run again
drive       `run_manifest`, which calls the other modules
case_loop   loop over the cases of a run: keep finished ones, run the others, retry lost ones
agreement   check that a run fits the results that its folder holds
ledger      find the cases that are done, by fingerprint and hash of the mask
folder      prepare a run folder, and clean it
pool        start worker processes, and give them cases
worker      one worker process
cluster     workers on a Dask cluster
interrupt   stop a run after Ctrl-C and SIGTERM
events      log what happened, for people and programs
display     show a progress bar, lines and a summary
bids_app    the participants of a BIDS data set, each a run; their masks and scores as a derivative
merge       join the shards of a run
status      the state of a run folder
"""
