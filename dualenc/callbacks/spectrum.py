"""How many directions the embeddings use while training."""

from dualenc.callbacks.pairs import PairsCallback
from dualenc.evaluation import Pairs
from dualenc.metrics import spectra, spectrum_report


class SpectrumCallback(PairsCallback):
    """Effective rank, stable rank, leading energy and gap of the cross-covariance and of each tower, on val scenes and
    their queries (see `dualenc.metrics.spectrum_report`)."""

    prefix = "spectrum"

    @staticmethod
    def measure(pairs: Pairs) -> dict[str, float]:
        """See the class."""
        return spectrum_report(spectra(pairs.scenes, pairs.queries))
