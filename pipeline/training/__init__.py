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
stored_cases  cases -> arrays on disk, and what they are like (case_facts)
plane_stacks  stored cases -> normalised planes on disk
kept_arrays   what is whole and still the same is not made again
fingerprint   what the cases are like
recipe        every choice of a training
rules         fingerprint -> the choices that are left open, with reasons
recipe_file   a recipe as TOML
spec          a settled recipe -> what the bundle expects and emits
warm_start    what a recipe takes over from a bundle that is fine-tuned
precision     which arithmetic is the fastest here

side_by_side  planes -> the fitted networks, as many at a time as fit (fit_child: one of them)
networks      planes -> one fitted network
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
selection     weights of the views and thresholds
mask_choices  divisions and post-processing (likely_divisions: which are tried)
candidates    when a candidate takes the place of what is there
card          the bundle's README.md
history       its history.csv and training.png
tensorboard   the same as events

cross_validation  `cross_validate`: folds, one by one, then all together
folds             which cases a fold learns from, chooses with and is scored on
held_out          scores of the held-out cases
finished_folds    which are there, and whether they belong together
joining           finished folds -> tables (cross_validation_page) and an ensemble
ensemble          bundles -> one bundle
"""
