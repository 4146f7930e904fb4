"""Tiles -> probabilities -> mask.

segmenter.py    one scan and one bundle -> a mask
infer.py        a volume through the networks of a bundle
tiles.py        tiles through networks, also mirrored, and stitched
view_sums.py    the sums of several views on the native grid
decision.py     probabilities of a plane -> label values
entropy.py      how certain the networks were
postprocess.py  divisions, small parts and holes of a finished mask
"""
