"""Every choice of a training run, and the rules that make the open choices.

recipe        every choice; None leaves it to the rules
rules         make the open choices, in order
tile_rules    what tiles show, their size, how they bend
budget_rules  tiles of a step, width, networks, variation: what the budget allows
recipe_file   a recipe as TOML
precision     arithmetic, and speed before the first step
warm_start    choices that a model to start with dictates
spec          a settled recipe -> the spec of the bundle
"""
