"""Turn the records of cases into tables, statistics and pages.

tables.py      report.csv
summary.py     summary.csv: means with intervals
bootstrap.py   confidence intervals by resampling patients
comparison.py  compare two or more runs, case by case
qc.py          which cases to look at first, without a reference
verdict.py     which masks can be used
quality.py     the predicted Dice of a mask, and its calibration
domain.py      how far a scan is from the training scans
suitability.py whether a manifest's cases are like the training scans
montage.py     a picture of a case
methods.py     how the masks were made and scored, for a paper
notebook.py    a scan and its mask in a notebook
page/          report.html
"""
