"""Where the embeddings lie while training."""

from dualenc.callbacks.pairs import PairsCallback
from dualenc.evaluation import Pairs
from dualenc.metrics import geometry_report


class GeometryCallback(PairsCallback):
    """Modality gap, alignment, uniformity of val scenes and their queries (see `dualenc.metrics.geometry_report`)."""

    prefix = "geometry"

    @staticmethod
    def measure(pairs: Pairs) -> dict[str, float]:
        """See the class."""
        return geometry_report(pairs.scenes, pairs.queries)
