r"""Write the pages for people: `report.html`, one file to open in a browser, and its relatives.

    cases/*.json, run.json, summary.csv -> cohort  \
    manifest: image, mask, reference -> pictures    -> page -> report.html
                                        sections   /          report_files/

A comparison (comparison_data, comparison_page) and a training run (voxtile.training) have pages of
the same parts; `page.py` says which.

The page needs no server and no network. Its styles and scripts are part of it;
the viewer and the pictures of cases, which are large, are in files beside it,
which are loaded when a case is opened.
"""

from .writing import PageFacts, parse_cases, write_page

__all__ = ["PageFacts", "parse_cases", "write_page"]
