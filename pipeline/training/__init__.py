"""From a manifest with labels to a trained bundle.

    manifest -> cases on disk -> tiles -> [fit] -> checkpoint -> bundle
                                            |          ^
                                            v          | the best mean Dice so far
                              validation cases, whole volumes, as `infer` judges them

drive         `train`, which puts the others together
splits        which cases are learnt from and which are validated on
recipe        every choice of a training, and the rules for what is left open
preparation   cases -> normalised planes on disk
dataset       planes -> batches of tiles, without end
augmentation  how tiles are varied
fit           batches -> a fitted network
loss          what the fit makes small
coach         learning rate, validation, checkpoint, history, end of a fit
schedule      how much of the budget is used, and the learning rate for it
judging       scores of whole validation volumes
packing       a fitted network -> a bundle
card          the bundle's README.md
"""
