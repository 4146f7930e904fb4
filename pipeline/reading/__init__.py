"""Read scans and masks. No other package here reads files with nibabel, pynrrd or pydicom.

channels.py    one scan, or several files that are its channels -> a Scan
formats.py     the table that says which file belongs to which reader
scan.py        the result of a reader, and its options
reference.py   a reference mask -> labels on the grid of its scan
isolation.py   a reader in a child process with limits

stream.py      a file, decompressed to its end and checked
voxels.py      the raw voxels after the header of NIfTI, NRRD, MetaImage and MGH files
beside.py      the data file that a header names
nifti.py       NIfTI
nrrd.py        NRRD
slicer.py      segmentations of 3D Slicer
metaimage.py   MetaImage
mgh.py         FreeSurfer's MGH
pictures.py    PNG, JPEG, TIFF and BMP; picture_file.py decodes them in the child
archives.py    zip and tar archives of a DICOM series
dicom/         DICOM series, SEG and RTSTRUCT
"""
