"""The file of a network: two fifths of the size, and what it holds."""

import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxtile.errors import EnvironmentFault
from voxtile.models.bundle import check_keras_archive
from voxtile.models.unet import build_unet
from voxtile.training.fitting.network_file import rounded, save_network

# Below the smallest normal numbers there are fewer bits.
NORMAL = st.floats(2.0**-100, 2.0**100, width=32)


@given(hnp.arrays(np.float32, (3, 4), elements=NORMAL), st.sampled_from([-1, 1]))
def test_a_kernel_is_off_by_a_256th_at_most_and_rounding_twice_is_rounding_once(
    sizes: np.ndarray, sign: int
) -> None:
    kernel = np.float32(sign) * sizes
    vector = kernel[0]
    once = rounded([kernel, vector])
    assert once[0].dtype == np.float32
    assert (np.abs(once[0] - kernel) <= np.abs(kernel) / 256).all()
    np.testing.assert_array_equal(once[1], vector)
    np.testing.assert_array_equal(rounded(once)[0], once[0])


def test_numbers_that_a_pencil_can_check() -> None:
    # 8 bits: from 256 to 512 every second whole number, ties to the even one of these.
    kernel = np.array([[255, 256.9, 257.1, 257, 259, 0, -1.5]], np.float32)
    assert rounded([kernel])[0].tolist() == [[255, 256, 258, 256, 260, 0, -1.5]]


def test_keras_reads_the_file_and_it_is_small(tmp_path: Path) -> None:
    network = build_unet((None, None, 2), 3, filters=16, depth=3)
    network.set_weights(rounded(network.get_weights()))
    save_network(network, tmp_path / "small.keras")
    network.save(tmp_path / "plain.keras")
    content = (tmp_path / "small.keras").read_bytes()
    check_keras_archive(content, "small.keras")
    assert len(content) < 0.4 * (tmp_path / "plain.keras").stat().st_size
    again = keras.saving.load_model(tmp_path / "small.keras", compile=False)
    for ours, theirs in zip(again.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain.keras", "small.keras"]


def test_equal_weights_give_equal_bytes_at_any_time_in_any_process(tmp_path: Path) -> None:
    written = []
    held = []  # so that nothing has the address of an earlier object
    for _ in range(2):
        keras.utils.set_random_seed(1)
        network = build_unet((None, None, 2), 3, filters=4, depth=2, normalisation="batch")
        held += [network, keras.layers.Conv2D(1, 1)]  # a layer more on Keras' counters
        save_network(network, tmp_path / "n.keras")
        written.append((tmp_path / "n.keras").read_bytes())
    assert written[0] == written[1]
    again = keras.saving.load_model(tmp_path / "n.keras", compile=False)
    for ours, theirs in zip(again.get_weights(), held[0].get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with zipfile.ZipFile(tmp_path / "n.keras") as archive:
        assert b"shared_object_id" not in archive.read("config.json")
        assert b"date" not in archive.read("metadata.json")
        assert {item.date_time[0] for item in archive.infolist()} == {1980}


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    network = build_unet((None, None, 1), 1, filters=2, depth=1)
    with pytest.raises(EnvironmentFault, match=r"plain-a\.keras cannot be written"):
        save_network(network, tmp_path / "none" / "a.keras")
