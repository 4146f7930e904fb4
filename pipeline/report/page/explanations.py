"""What the numbers and flags of the page mean, in a sentence each; docs/metrics.md has all of it.

P are the voxels of a label in the prediction, R those in the reference.
"""

COLUMNS = {
    "dice": "2 |P and R| / (|P| + |R|): 1 if both masks are the same, 0 without a common voxel.",
    "iou": "|P and R| / |P or R|; equals Dice / (2 - Dice).",
    "tp": "Voxels that both masks have.",
    "fp": "Voxels that only the prediction has.",
    "fn": "Voxels that only the reference has.",
    "voxels_pred": "Voxels of the prediction.",
    "voxels_ref": "Voxels of the reference.",
    "volume_ml_pred": "Volume of the prediction.",
    "volume_ml_ref": "Volume of the reference.",
    "precision": "|P and R| / |P|: the part of the prediction that is right.",
    "sensitivity": "|P and R| / |R|: the part of the reference that was found.",
    "volume_difference_ml": "Prediction minus reference: positive if too much was segmented.",
    "volume_difference_rel": "(|P| - |R|) / |R|: 0.1 if 10 % too much was segmented.",
    "hd_mm": "Hausdorff distance: the largest distance of a surface voxel from the other surface.",
    "hd95_mm": "The larger 95th percentile of the distances from one surface to the other.",
    "assd_mm": "Mean distance of the surface voxels of both masks from the other surface.",
    "components_pred": "Connected parts of the prediction.",
    "components_ref": "Connected parts of the reference.",
    "lesions_detected": "Connected parts of the reference that the prediction touches.",
    "lesions_missed": "Connected parts of the reference that the prediction does not touch.",
    "lesions_false": "Connected parts of the prediction that touch no voxel of the reference.",
    "lesion_sensitivity": "Detected lesions / all lesions of the reference.",
    "lesion_precision": "Parts of the prediction that hit a lesion / all its parts.",
    "lesion_f1": "Harmonic mean of lesion sensitivity and lesion precision.",
    "lesions_matched": "Connected parts of both masks that were matched one to one.",
    "lesions_unmatched": "Connected parts of the reference without a match.",
    "lesions_extra": "Connected parts of the prediction without a match.",
    "lesion_dice": "Mean Dice of the matched lesions.",
    "lesion_hd95_mm": "Mean HD95 of the matched lesions.",
    "lesionwise_dice": "Mean Dice of all lesions; those without a match count as 0.",
    "nsd_area": "The part of both surfaces, by area, within the tolerance of the other surface.",
    "nsd": "The part of both surfaces that is within the tolerance of the other surface.",
    "seconds": "Duration of the whole case.",
    "dice_predicted": "The Dice that a reference would probably give.",
    "dice_lower": "A bound that the Dice of nine of ten masks reaches.",
    "qc_rank": "1 is the case to look at first.",
}
FLAGS = {  # and other reasons to look at a mask
    "scored": "The Dice of a label is low.",
    "dice": "Without a reference, the Dice of a label is perhaps low.",
    "scan": "A warning of the reader questions where the voxels are, or what their values mean.",
    "empty": "No voxel of a label was predicted.",
    "border": "A label touches a face of the scan, so that a part of it may be missing.",
    "volume": "The volume is far from the other cases of the run (3.5 robust standard deviations).",
    "components": "The label has far more parts than in the other cases of the run.",
    "entropy": "The model is far less certain than in the other cases of the run.",
    "intensity": "The intensities are outside those of the model's training scans.",
    "extent": "The scan shows more or less of the body than the model's training scans.",
    "spacing": "The voxels are larger or smaller than those of the model's training scans.",
}


def explanation(column: str) -> str:
    """Return what a column means; empty for a column of the manifest."""
    kinds = [kind for kind in ("nsd_area", "nsd") if column.startswith(f"{kind}_")]
    return COLUMNS.get((*kinds, column)[0], "")
