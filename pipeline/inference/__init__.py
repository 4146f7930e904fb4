"""Tiles -> probabilities -> mask.

segmenter.py    one scan, one bundle -> a mask
infer.py        a volume through the networks of a bundle
tiles.py        tiles through a network, mirrored ones too
view_sums.py    the sums of several views on the native grid
decision.py     probabilities of a plane -> label values
entropy.py      how sure the networks were
postprocess.py  holes, small parts and divisions of a finished mask
division.py     labels that a plane divides
"""
