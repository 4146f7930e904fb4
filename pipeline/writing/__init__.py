"""Masks to files, and back to see that they are what was meant.

read_back.py   a written mask is read to its end and compared
"""
