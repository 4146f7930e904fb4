"""Read, make, check, divide and export manifests.

rows.py          a manifest -> cases; the columns that have a meaning
label_list.py    a list of labels that people write -> labels
build.py         a data set -> a manifest, by one of the sources; build_options.py
  dicom_tree.py    a tree of DICOM: a row for each series, under pseudonyms
  nifti_folder.py  folders of images and labels
  nnunet.py        an nnU-Net data set, read and written
  datalist.py      JSON lists: Medical Segmentation Decathlon, MONAI (also written)
  bids.py          a BIDS data set
check.py         a manifest -> what is wrong with its files
split.py         a manifest -> the same with a column `split` or `fold`
dealing.py       units of cases -> parts of the wanted sizes
export.py        a manifest -> the layout of another tool
names.py         file names -> case ids
source.py        what a source of cases gives
table.py         a manifest as a table of text
"""
