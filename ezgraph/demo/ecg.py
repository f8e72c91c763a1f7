"""The recording the demo replays, and what its units compute on it.

The signal is the electrocardiogram that PyWavelets ships (`pywt.data.ecg()`), 1024 samples in
counts of its converter. Its rate is not stated there. At 360 Hz, the rate of the MIT-BIH database,
the narrow line in its spectrum (bin 170.5 of 1024) lies at 59.9 Hz, the mains of where that
was recorded, and the heart beats 66 times a minute; so 360 Hz it is.

The recording is looped, so it is periodic, and filtering in the frequency domain is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ezgraph.errors import MissingExtraError

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE_HZ = 360.0
MAINS_BAND_HZ = (58.0, 62.0)


@dataclass(frozen=True, eq=False)
class Recording:
    """A looped signal: float64 samples of shape ``(n,)`` in counts, ``rate_hz`` per second."""

    samples: NDArray[np.float64]
    rate_hz: float

    @property
    def duration_s(self) -> float:
        """How long one loop takes."""
        return len(self.samples) / self.rate_hz


def load() -> Recording:
    """Return the electrocardiogram that PyWavelets ships.

    Raises:
        MissingExtraError: PyWavelets is not installed.
    """
    try:
        import pywt.data
    except ImportError as error:
        raise MissingExtraError(
            "the demo replays an electrocardiogram that PyWavelets ships, and the module 'pywt' "
            "is not installed: pip install -e '.[demo]'"
        ) from error
    return Recording(np.asarray(pywt.data.ecg(), dtype=np.float64), RATE_HZ)


def low_pass(recording: Recording, *, cutoff_hz: float, order: int, gain: float) -> Recording:
    """Return the recording times ``gain``, through a Butterworth low-pass without phase shift.

    Its amplitude at frequency f is ``gain / sqrt(1 + (f / cutoff_hz) ** (2 * order))``.
    """
    frequencies = np.fft.rfftfreq(len(recording.samples), 1 / recording.rate_hz)
    response = gain / np.sqrt(1 + (frequencies / cutoff_hz) ** (2 * order))
    spectrum = np.fft.rfft(recording.samples) * response
    return replace(recording, samples=np.fft.irfft(spectrum, len(recording.samples)))


def hum(recording: Recording) -> float:
    """Return the RMS amplitude, in counts, of what lies around the mains frequency."""
    count = len(recording.samples)
    frequencies = np.fft.rfftfreq(count, 1 / recording.rate_hz)
    low, high = MAINS_BAND_HZ
    lines = np.fft.rfft(recording.samples)[(frequencies >= low) & (frequencies <= high)]
    return float(np.sqrt(2 * np.sum(np.abs(lines) ** 2)) / count)


def find_beats(recording: Recording, *, threshold: float, refractory_s: float) -> list[int]:
    """Return the sample numbers of the beats in one loop.

    A beat is a local maximum above ``threshold`` counts, at least ``refractory_s`` after the one
    before it.
    """
    samples = recording.samples
    rises = samples >= np.roll(samples, 1)
    falls = samples > np.roll(samples, -1)
    peaks = np.flatnonzero(rises & falls & (samples > threshold))
    pause = refractory_s * recording.rate_hz
    beats: list[int] = []
    for peak in peaks:
        if not beats or peak - beats[-1] >= pause:
            beats.append(int(peak))
    return beats


def beats_per_minute(recording: Recording, beats: list[int]) -> float | None:
    """Return the heart rate from the median interval; None with fewer than two beats."""
    if len(beats) < 2:
        return None
    return float(60 * recording.rate_hz / np.median(np.diff(beats)))
