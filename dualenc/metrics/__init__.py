"""Pure metrics: arrays in, per-scene results or a dict of floats out. No logging, no files, no models.

Scores and embeddings are torch tensors on any device; facts about scenes (object ids, concept values, both
padded with -1) are numpy arrays, as `dualenc.scenes` hands them out. An object id is the row-major index of its
concept values (the last concept varies fastest). Two rules hold everywhere: a tie is a miss, and NaN or Inf in
a score is a ValueError.
"""

from dualenc.metrics.bag import BagLevels as BagLevels
from dualenc.metrics.bag import bag_ceiling as bag_ceiling
from dualenc.metrics.bag import bag_ceiling_split as bag_ceiling_split
from dualenc.metrics.bag import bag_level as bag_level
from dualenc.metrics.bag import bag_levels as bag_levels
from dualenc.metrics.bag import binding_gain as binding_gain
from dualenc.metrics.confusion import attribute_confusion as attribute_confusion
from dualenc.metrics.criterion import concept_labels as concept_labels
from dualenc.metrics.criterion import concept_recognition as concept_recognition
from dualenc.metrics.criterion import recognition as recognition
from dualenc.metrics.criterion import recognition_chance as recognition_chance
from dualenc.metrics.edits import caption_versus_edit as caption_versus_edit
from dualenc.metrics.geometry import BIN_EDGES as BIN_EDGES
from dualenc.metrics.geometry import HISTOGRAMS as HISTOGRAMS
from dualenc.metrics.geometry import cosine_histograms as cosine_histograms
from dualenc.metrics.geometry import geometry_report as geometry_report
from dualenc.metrics.intervals import object_bootstrap as object_bootstrap
from dualenc.metrics.minimal_pairs import minimal_pairs as minimal_pairs
from dualenc.metrics.recall import retrieval as retrieval
from dualenc.metrics.report import binding_report as binding_report
from dualenc.metrics.spectrum import spectra as spectra
from dualenc.metrics.spectrum import spectrum_report as spectrum_report
from dualenc.metrics.vocabulary import VocabularyRecognition as VocabularyRecognition
from dualenc.metrics.vocabulary import recognition_blocks as recognition_blocks
