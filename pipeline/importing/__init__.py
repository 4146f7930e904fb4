"""Models of other programs -> model folders.

nnunet.py       a results folder of nnU-Net v2 -> a bundle
plans.py        plans.json and dataset.json -> spec and architecture
checkpoint.py   a checkpoint -> arrays, read by PyTorch in another process without running its code
network.py      architecture and arrays -> a Keras network
"""
