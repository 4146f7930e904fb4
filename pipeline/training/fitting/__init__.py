"""Planes -> fitted networks.

side_by_side  networks one after another, or several at a time (fit_child: the process of one)
networks      everything that one network is fitted with
fit           the loop: rate, validation, checkpoints, end
learner       a network in training, one step at a time (loss, fused_norm)
schedule      used part of the budget -> learning rate
dataset       planes -> batches of tiles, varied by augmentation
device_*      the same on a GPU: cases in its memory -> tiles -> several steps in one call
judging       scores of whole validation volumes
checkpoint    the state of a fit, as a file
network_file  a fitted network, as a file
"""
