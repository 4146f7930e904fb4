"""Files of scans and masks -> volumes. The only importers of nibabel and pydicom that read.

channels.py    one scan, or several files that are its channels -> a Scan
formats.py     which file belongs to which reader: one table
scan.py        what a reader gives, and how it is told to read
reference.py   a reference mask -> labels on the grid of its scan
nifti.py       NIfTI, inflated to the end and checked
isolation.py   a reader in a child process with limits
dicom/         DICOM series, SEG and RTSTRUCT
"""
