r"""The page for people: `report.html`, one file to open in a browser.

    cases/*.json, run.json, summary.csv -> cohort  \
    manifest: image, mask, reference -> pictures    -> page -> report.html
                                        sections   /          report_files/

The page needs no server and no network: its own styles and scripts are inside
it, and what is large (the viewer, the pictures of a case) lies beside it as
scripts that are loaded when somebody looks.
"""

from .writing import PageFacts, parse_cases, write_page

__all__ = ["PageFacts", "parse_cases", "write_page"]
