"""From a manifest with labels to a trained bundle.

    manifest -> cases on disk -> fingerprint -> [rules] -> recipe
                     |                                        |
                     v                                        v
                  planes -> tiles -> [fit, a network for each view] -> bundle
                                       |          ^
                                       v          | the best mean Dice so far
                         validation cases, whole volumes, segmented as in a run

options      what a user chooses, apart from the recipe
source       the cases and the bundle that a training run starts from
plan         what a training run will do; `plan_training`, the dry run
drive        `train`, which runs the stages
workfolder   where a training run is stored until it is finished
differences  compares a training run with the run that a folder holds

data/        manifest rows -> stored cases (case_facts, fingerprint) -> planes
recipe/      every choice: recipe, rules, recipe_file (TOML), precision, warm_start, spec
fitting/     planes -> fitted networks
choosing/    what the validation cases choose; it is written into the bundle
bundle/      fitted networks -> a bundle with card and history
folds/       cross-validation
"""
