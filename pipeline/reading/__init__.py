"""Read scans and masks. Other rooms read no files with nibabel or pydicom.

channels.py    one scan, or several files that are its channels -> a Scan
formats.py     which file belongs to which reader: one table
scan.py        the result of a reader, and its options
reference.py   a reference mask -> labels on the grid of its scan
nifti.py       NIfTI, decompressed to the end and checked
isolation.py   a reader in a child process with limits
dicom/         DICOM series, SEG and RTSTRUCT
"""
