"""Models that are published: an index of them, their archives, downloads.

index.py    the models that can be got by name, with their checksums (index.json)
archive.py  a model as one file: written always with the same bytes, unpacked with every check
card.py     what a model must say about itself before it is published
get.py      download a model once, by its name or by an address with a checksum
"""
