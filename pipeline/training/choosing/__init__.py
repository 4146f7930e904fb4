"""What the validation cases choose; it is written into the bundle.

choosing      the stage: bundle -> bundle
evidence      probabilities of each view
selection     weights of the views and thresholds
mask_choices  divisions and post-processing
candidates    when a candidate replaces the present state
"""
