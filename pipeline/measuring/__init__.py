"""How fast and how large: plans, forecasts, benchmarks, checks of a machine.

forecast.py   time and memory of a run before it starts
trials.py     the speed of a few tiles here
workload.py   how many tiles a scan takes
benchmark.py  stage by stage
doctor.py     versions, devices, memory, disk
engines.py    engines and precisions held against float32
samples.py    real planes to measure with
"""
