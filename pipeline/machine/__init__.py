"""What the machine provides: files, processes, memory, processors, clocks.

files.py       files that are written completely or not at all; every file below a folder
download.py    a file from the web, verified; interrupted downloads go on
json_objects.py  JSON of an expected shape, or one clear error
scratch.py     large arrays in files that disappear
cache.py       the user's cache folder
memory.py      how much memory there is, in containers too
memory_errors.py  which errors of libraries are a lack of memory; limits that are too low
processors.py  how many processors may be used, and of which kind
processes.py   child processes that answer, and end when their parent does
at_once.py     several files read at the same time
clock.py       the time, as records give it, and durations for people
progress.py    a progress bar, or plain lines
versions.py    versions of installed packages
spreadsheet.py  cells that a spreadsheet must not run as formulas
"""
