"""Synthetic scans with exact masks.

ellipsoids.py  scans of ellipsoids
dicom.py       the same as DICOM series
demo.py        a cohort, a training run and a batch run in two minutes
"""
