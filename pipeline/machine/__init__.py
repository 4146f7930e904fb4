"""What the machine gives: files, processes, memory, processors, clocks.

files.py       whole files or none: written aside, synced, renamed
json_objects.py  JSON of an expected shape, or one clear error
folders.py     every file below a folder
scratch.py     large arrays in files that disappear
cache.py       the user's cache folder
memory.py      how much memory there is, in containers too
processors.py  how many processors may be used
child.py       child processes that answer or are ended
lifeline.py    a child ends when its parent does
at_once.py     several files read at the same time
clock.py       the time, as records give it
words.py       counts and lists in messages
progress.py    how far something is
"""
