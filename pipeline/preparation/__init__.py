"""A volume -> tiles that a network takes.

planes.py      a volume <-> its planes along one anatomical axis
intensity.py   intensities scaled as the model expects
position.py    channels that say where in its scan a pixel is
resampling.py  planes between pixel spacings
prepared.py    planes scaled, resampled, with their neighbours as channels
tiling.py      a plane <-> overlapping tiles
plan.py        tile size, overlap and number of tiles at once, for any plane
"""
