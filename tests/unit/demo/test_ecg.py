from __future__ import annotations

import sys

import numpy as np
import pytest

from ezgraph.demo import ecg
from ezgraph.errors import MissingExtraError


def tone(frequency_hz: float, *, seconds: float = 4.0) -> ecg.Recording:
    times = np.arange(int(seconds * ecg.RATE_HZ)) / ecg.RATE_HZ
    return ecg.Recording(np.cos(2 * np.pi * frequency_hz * times), ecg.RATE_HZ)


def test_the_recording_has_three_beats_at_a_heart_rate_of_66_per_minute() -> None:
    recording = ecg.load()

    beats = ecg.find_beats(recording, threshold=150.0, refractory_s=0.25)

    assert len(beats) == 3
    assert ecg.beats_per_minute(recording, beats) == pytest.approx(65.7, abs=0.1)


def test_at_360_hz_the_strongest_line_between_55_and_65_hz_is_that_of_the_mains() -> None:
    recording = ecg.load()
    frequencies = np.fft.rfftfreq(len(recording.samples), 1 / recording.rate_hz)
    spectrum = np.abs(np.fft.rfft(recording.samples))

    band = (frequencies > 55) & (frequencies < 65)
    strongest = frequencies[band][np.argmax(spectrum[band])]

    assert strongest == pytest.approx(60.0, abs=0.4)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_filter_halves_the_power_at_its_cutoff_whatever_its_order(order: int) -> None:
    out = ecg.low_pass(tone(20.0), cutoff_hz=20.0, order=order, gain=1.0)

    assert np.std(out.samples) == pytest.approx(np.std(tone(20.0).samples) / np.sqrt(2))


def test_gain_is_a_factor() -> None:
    recording = ecg.load()

    once = ecg.low_pass(recording, cutoff_hz=30.0, order=2, gain=1.0)
    twice = ecg.low_pass(recording, cutoff_hz=30.0, order=2, gain=2.0)

    np.testing.assert_allclose(twice.samples, 2 * once.samples)


def test_hum_is_the_rms_of_a_tone_at_the_mains_and_nothing_of_one_elsewhere() -> None:
    assert ecg.hum(tone(60.0)) == pytest.approx(1 / np.sqrt(2))
    assert ecg.hum(tone(30.0)) == pytest.approx(0.0, abs=1e-9)


def test_a_peak_within_the_refractory_time_is_no_beat() -> None:
    samples = np.zeros(360)
    samples[[10, 40, 200]] = 5.0
    recording = ecg.Recording(samples, 360.0)

    assert ecg.find_beats(recording, threshold=1.0, refractory_s=0.0) == [10, 40, 200]
    assert ecg.find_beats(recording, threshold=1.0, refractory_s=0.2) == [10, 200]


def test_without_two_beats_there_is_no_heart_rate() -> None:
    assert ecg.beats_per_minute(ecg.load(), [100]) is None


def test_without_pywavelets_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pywt", None)
    monkeypatch.delitem(sys.modules, "pywt.data", raising=False)

    with pytest.raises(MissingExtraError, match=r"pip install -e '\.\[demo\]'"):
        ecg.load()
