"""How many directions the embeddings use while training."""

from dualenc.callbacks.pairs import PairsCallback
from dualenc.evaluation import Pairs, spectrum_numbers


class SpectrumCallback(PairsCallback):
    """Effective rank, stable rank, leading energy and gap of the cross-covariance and of each tower, on val scenes and
    their queries (see `dualenc.metrics.spectrum_report`)."""

    @staticmethod
    def numbers(pairs: Pairs) -> dict[str, float]:
        """See the class."""
        return spectrum_numbers(pairs)
