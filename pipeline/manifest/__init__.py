"""Read, make, check, divide and export manifests.

cells.py         a file of any spreadsheet -> rows of text
rows.py          a manifest -> cases; the columns that voxtile understands
advice.py        notices about a manifest that can be read
label_list.py    a list of labels that people write -> labels
build.py         a data set -> a manifest, by one of the sources; build_options.py
  dicom_tree.py    a tree of DICOM: a row for each series, under pseudonyms
  annotations.py   SEG and RTSTRUCT -> the series that they were drawn on
  nifti_folder.py  folders of images and labels
  roles.py         names of files -> scan or label, of which case, channel and split
  nnunet.py        an nnU-Net data set, read and written
  splits_final.py  the folds of an nnU-Net data set
  datalist.py      JSON lists: Medical Segmentation Decathlon, MONAI (also written)
  bids.py          a BIDS data set
listing.py       a folder or file of scans -> the cases of a run, with the ids of its run folder
check.py         a manifest -> what is wrong with its files
split.py         a manifest -> the same manifest with a column `split` or `fold`
dealing.py       units of cases -> parts of the requested sizes
export.py        a manifest -> the layout of another tool
names.py         file names -> case ids
source.py        the cases and names that a data set gives
table.py         a manifest as a table of text
"""
