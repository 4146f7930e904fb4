"""Two masks -> numbers.

score.py       every metric of every label
overlap.py     counts of voxels: Dice, IoU, volumes
surface.py     distances between surfaces
components.py  connected parts: lesions found and missed
rows.py        the metrics of a label, as a record and a report hold them
columns.py     the columns of a report and what they mean
"""
