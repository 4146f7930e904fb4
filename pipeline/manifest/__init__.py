"""Manifests made, checked, divided and handed on; `voxtile.case` reads them.

build.py         what people have -> a manifest, by one of the sources
  dicom_tree.py    a tree of DICOM: a row for each series, under pseudonyms
  nifti_folder.py  folders of NIfTI images and labels
  nnunet.py        an nnU-Net data set, read and written
  datalist.py      JSON lists: Medical Segmentation Decathlon, MONAI (also written)
  bids.py          a BIDS data set
check.py         a manifest -> what is wrong with its files
split.py         a manifest -> the same with a column `split` or `fold`
export.py        a manifest -> the layout of another tool
names.py         file names -> case ids
readers.py       several files read at once
source.py        what a source of cases gives
table.py         rows <-> CSV
"""
