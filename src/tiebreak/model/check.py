"""Before kernels and compiled layers are trusted: on this very card, are they as near to fp32 as plain 16 bits are?

They are judged layer by layer, each on the same input (`model.ways`). Logits and gradients of the whole model would be
no measure: where a language model has massive activations (Sun et al. 2024, arXiv:2402.17762), gradients of the layers
before them are ill-conditioned, and any two roundings lead far apart (docs/speed.md).

A user whose driver, compiler or card the kernels do not suit gets the plain path and one warning.
"""

import logging

import numpy as np
import torch

from tiebreak import distributed
from tiebreak.data.packing import Document
from tiebreak.errors import TiebreakError
from tiebreak.model import gpu
from tiebreak.model.classifier import Classifier
from tiebreak.model.ways import ATTENTION, LAYER, Part, compared

log = logging.getLogger(__name__)

SLACK = 2.0
"""How many times as far from fp32 as plain 16 bits kernels may be; as a rule they are nearer."""
FLOORS = {ATTENTION: 0.003, LAYER: 0.01}
"""And a little more, since plain attention may round nothing. A scale that is wrong by 2 % moves it by 0.02."""
LENGTHS, SHARED = (300, 170, 129, 40, 5), 100
TEXT = """Why is the sky blue? Sunlight is scattered by the air, and short waves are scattered more than long ones:
that is why the sky looks blue at noon and red in the evening. Please answer in three short sentences.
def mean(values: list[float]) -> float:
    return sum(values) / len(values)  # fails for an empty list
1. Wash the rice.  2. Boil 500 ml of water.  3. Simmer for 15 minutes - do not stir!
Pourquoi le ciel est-il bleu ? Parce que l'air diffuse davantage la lumière de courte longueur d'onde.
Почему небо голубое? Потому что воздух сильнее рассеивает короткие волны солнечного света.
天空为什么是蓝色的？因为空气对短波长的光散射得更强。空はなぜ青いのですか。
आसमान नीला क्यों है? क्योंकि हवा छोटी तरंगों को अधिक बिखेरती है।
لماذا السماء زرقاء؟ لأن الهواء يشتت الموجات القصيرة أكثر من الطويلة.
"""


def check(classifier: Classifier, budget: int, training: bool) -> None:
    """Once a classifier: see how far kernels and plain 16 bits are from fp32, for a training in gradients too.

    Where the kernels raise, or are further by more than the slack, `classifier.fixed` becomes false.
    """
    if not classifier.fixed or classifier.checked:
        return
    classifier.checked = True
    why = _disagreement(classifier, budget, training)
    if distributed.most(why != "")[0]:  # all or none: processes go through the same batches
        log.warning("the GPU kernels %s; going on without them, which is slower", why or "failed elsewhere")
        classifier.fixed = False
        gpu.uncompile_layers(classifier.model)


def _disagreement(classifier: Classifier, budget: int, training: bool) -> str:
    """What the kernels do wrong first; nothing if they are right."""
    try:
        parts = list(compared(classifier, documents_of(classifier), budget, training))
    except (torch.cuda.OutOfMemoryError, TiebreakError):
        raise
    except Exception as error:  # a compiler may raise anything
        return f"raise {type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}"
    return next((_said(part) for part in parts if not excess(part) <= 0), "")  # NaN is no number at most 0


def _said(part: Part) -> str:
    return (
        f"are {part.kernels:.2g} from fp32 in {part.kind} {part.number} ({part.tensor}), where plain 16 bits are "
        f"{part.plain:.2g}"
    )


def excess(part: Part) -> float:
    """By how much the kernels are further from fp32 than they may be; at most 0 where they are right."""
    return part.kernels - SLACK * part.plain - FLOORS[part.kind]


def documents_of(classifier: Classifier) -> list[Document]:
    """Text, or random tokens without a tokenizer; the second begins as the first, as a vote's other order does."""
    if classifier.tokenizer is None:
        vocabulary = classifier.model.config.get_text_config().vocab_size
        tokens = np.random.default_rng(0).integers(0, vocabulary, sum(LENGTHS))
    else:
        tokens = np.resize(classifier.tokenizer(TEXT)["input_ids"], sum(LENGTHS))
    documents = np.split(tokens.astype(np.int32), np.cumsum(LENGTHS)[:-1])
    documents[1][:SHARED] = documents[0][:SHARED]
    return documents
