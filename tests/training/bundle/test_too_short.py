"""What is said about a model that is of no use."""

from voxtile.training.bundle.too_short import warning_if_useless


def facts(dice: float | None, steps: int) -> dict[str, object]:
    """Training facts of two networks, fitted for a minute."""
    networks = [{"steps": steps}, {"steps": steps + 5}]
    scores = {} if dice is None else {"validation_dice": {"mean": dice}}
    return {**scores, "networks": networks, "fit_seconds": 60.0}


def test_a_short_training_names_the_minutes_that_it_needs() -> None:
    said = warning_if_useless(facts(0.07, 100))
    assert "mean Dice of 0.07 is of little use" in said
    assert "100 steps, but 3000 are usually needed, which take about 30 minutes" in said
    assert "such as with --minutes 30" in said
    assert "1 step, but" in warning_if_useless(facts(0.0, 1))


def test_a_long_training_is_not_told_to_last_longer() -> None:
    assert "more time may not help" in warning_if_useless(facts(0.3, 3000))


def test_a_useful_model_and_one_without_scores_get_no_warning() -> None:
    assert warning_if_useless(facts(0.5, 1)) == warning_if_useless(facts(None, 1)) == ""
