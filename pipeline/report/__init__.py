"""From the records of cases to tables, statistics and a page.

tables.py      report.csv
summary.py     summary.csv: means with intervals
bootstrap.py   intervals by resampling groups
comparison.py  two or more runs, case by case
domain.py      how far a scan is from those of the training
qc.py          flags without a reference
montage.py     a picture of a case
notebook.py    a scan and its mask in a notebook
page/          report.html
"""
