"""Write masks to files, and check what was written.

nifti.py       a mask or an image -> a NIfTI file
read_back.py   read a written mask to its end and compare it
"""
