"""Time and memory of models and runs, measured on this machine.

forecast.py     time and memory of a run before it starts
trials.py       the speed of a few tiles on this machine, and of a case without networks
workload.py     how many tiles a scan takes
benchmark.py    a model, stage by stage
doctor.py       versions, devices, memory, disk
engines.py      engines and precisions compared with float32
samples.py      planes to compare engines on
int8.py         int8 networks that pass, if need be without their worst layers
dice_change.py  how an engine changes the Dice: mean, bound, worst case
"""
