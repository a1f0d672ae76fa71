"""Where the embeddings lie while training."""

from dualenc.callbacks.pairs import PairsCallback
from dualenc.evaluation import Pairs, geometry_numbers


class GeometryCallback(PairsCallback):
    """Modality gap, alignment, uniformity of val scenes and their queries (see `dualenc.metrics.geometry_report`)."""

    @staticmethod
    def numbers(pairs: Pairs) -> dict[str, float]:
        """See the class."""
        return geometry_numbers(pairs)
