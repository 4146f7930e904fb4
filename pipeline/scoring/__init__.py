"""Compare two masks, or measure one.

score.py       every measurement of every label
overlap.py     counts of voxels: Dice, IoU, precision, sensitivity
surface.py     distances between surfaces
components.py  connected components: lesions detected and missed
rows.py        the metrics of a label, as records and reports hold them
columns.py     the one table of columns: names, titles, units, decimals
"""
