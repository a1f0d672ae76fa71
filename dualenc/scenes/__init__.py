"""The formal layer (numpy only): concepts, objects, splits, scenes, language, truth and edits."""

from dualenc.scenes.concepts import ConceptSpace as ConceptSpace
from dualenc.scenes.edits import OPERATORS as OPERATORS
from dualenc.scenes.edits import Edits as Edits
from dualenc.scenes.edits import draw_edits as draw_edits
from dualenc.scenes.language import ANY as ANY
from dualenc.scenes.language import EXISTS as EXISTS
from dualenc.scenes.language import NONE as NONE
from dualenc.scenes.language import TEMPLATES as TEMPLATES
from dualenc.scenes.language import Grammar as Grammar
from dualenc.scenes.language import Tokenizer as Tokenizer
from dualenc.scenes.language import words as words
from dualenc.scenes.limits import MAX_OBJECTS_OF_SCENE as MAX_OBJECTS_OF_SCENE
from dualenc.scenes.limits import check_scene_size as check_scene_size
from dualenc.scenes.limits import keys_under as keys_under
from dualenc.scenes.random import SPLITS as SPLITS
from dualenc.scenes.random import uniform as uniform
from dualenc.scenes.sampling import Scenes as Scenes
from dualenc.scenes.sampling import SceneSampler as SceneSampler
from dualenc.scenes.split import OOD as OOD
from dualenc.scenes.split import TRAIN as TRAIN
from dualenc.scenes.split import VAL_OOD as VAL_OOD
from dualenc.scenes.split import ObjectSplit as ObjectSplit
from dualenc.scenes.truth import truth as truth
from dualenc.scenes.truth import truth_of_own as truth_of_own
