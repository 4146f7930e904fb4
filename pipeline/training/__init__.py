"""From a manifest with labels to a trained bundle.

    manifest -> cases on disk -> fingerprint -> [rules] -> recipe
                     |                                        |
                     v                                        v
                  planes -> tiles -> [fit, a network for each view] -> bundle
                                       |          ^
                                       v          | the best mean Dice so far
                         validation cases, whole volumes, as `infer` judges them

drive         `train`, which puts the others together; `plan_training`, the dry run
splits        which cases are learnt from and which are validated on
workfolder    where a training lives until it is done
preparation   cases -> what they are like, and normalised planes on disk
fingerprint   what the cases are like
recipe        every choice of a training
rules         fingerprint -> the choices that are left open, with reasons
recipe_file   a recipe as TOML
spec          a settled recipe -> what the bundle expects and emits
warm_start    what a recipe takes over from a bundle that is fine-tuned
precision     which arithmetic is the fastest here

networks      planes -> the fitted networks, one after another
fit           batches -> fitted weights: rate, validation, checkpoints, end
learner       a network that learns, one step at a time
loss          what it makes small
schedule      how much of the budget is used, and the learning rate for it
dataset       planes -> batches of tiles, without end
augmentation  how tiles are varied
ahead         batches prepared ahead
judging       scores of whole validation volumes
checkpoint    where a fit stands, as a file

packing       fitted networks -> a bundle
choosing      what the validation cases choose, into the bundle
evidence      what each view says of them
selection     weights of the views, thresholds and post-processing
card          the bundle's README.md
history       its history.csv and training.png
tensorboard   the same as events

cross_validation  `cross_validate`: folds, one by one, then all together
folds             which cases a fold learns from, chooses with and is scored on
held_out          scores of the held-out cases
joining           finished folds -> tables and an ensemble
ensemble          bundles -> one bundle
"""
