"""Synthetic scans with exact masks.

ellipsoids.py  scans of ellipsoids
dicom.py       the same as DICOM series
demo.py        a cohort, a training and a run in two minutes
"""
