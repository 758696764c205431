"""Check of kernels and compiled layers on the current card: their error against fp32 beside that of plain 16 bits.

They are compared layer by layer, each on the same input (`model.fast.kernel_variants`). Logits and gradients of the
whole model would be unreliable: where a language model has massive activations (Sun et al. 2024, arXiv:2402.17762),
gradients of the layers before them are ill-conditioned, and different roundings diverge (docs/speed.md).

If the kernels fail with a driver, compiler or card, the plain implementation is used, with one warning.
"""

import logging

import numpy as np
import torch

from tiebreak import distributed
from tiebreak.errors import TiebreakError
from tiebreak.model.classifier import Classifier
from tiebreak.model.fast import compile
from tiebreak.model.fast.kernel_variants import ATTENTION, LAYER, Deviation, compare_layers
from tiebreak.tokens.packing import Document

log = logging.getLogger(__name__)

SLACK = 2.0
"""The largest ratio of the kernels' error to that of plain 16 bits; usually it is below 1."""
FLOORS = {ATTENTION: 0.003, LAYER: 0.01}
"""The error allowed in addition, since plain attention may round nothing. A scale wrong by 2 % is an error of 0.02."""
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
    """Check the kernels of a classifier once, in outputs and, for training, in gradients.

    If they raise, or their error exceeds the tolerance, `classifier.fixed` becomes false.
    """
    if not classifier.fixed or classifier.checked:
        return
    classifier.checked = True
    reason = _disagreement(classifier, budget, training)
    if distributed.all_reduce_max(reason != "")[0]:  # all or none, because processes have the same batches
        log.warning(
            "the GPU kernels %s; going on without them, which is slower", reason or "failed elsewhere"
        )
        classifier.fixed = False
        compile.uncompile_layers(classifier.model)


def _disagreement(classifier: Classifier, budget: int, training: bool) -> str:
    """A message about the first deviation of the kernels; empty if they are correct."""
    try:
        deviations = list(compare_layers(classifier, sample_documents(classifier), budget, training))
    except (torch.cuda.OutOfMemoryError, TiebreakError):
        raise
    except Exception as error:  # a compiler may raise anything
        return f"raise {type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}"
    return next(
        (_message(deviation) for deviation in deviations if not excess(deviation) <= 0), ""
    )  # NaN is no number at most 0


def _message(deviation: Deviation) -> str:
    return (
        f"are {deviation.kernels:.2g} from fp32 in {deviation.kind} {deviation.number} ({deviation.tensor}), where plain 16 bits are "
        f"{deviation.plain:.2g}"
    )


def excess(deviation: Deviation) -> float:
    """The kernels' error above the tolerance; at most 0 if they are correct."""
    return deviation.kernels - SLACK * deviation.plain - FLOORS[deviation.kind]


def sample_documents(classifier: Classifier) -> list[Document]:
    """Documents of text, or of random tokens without a tokenizer; the first two share a prefix, as orders of a vote do."""
    if classifier.tokenizer is None:
        vocabulary = classifier.model.config.get_text_config().vocab_size
        tokens = np.random.default_rng(0).integers(0, vocabulary, sum(LENGTHS))
    else:
        tokens = np.resize(classifier.tokenizer(TEXT)["input_ids"], sum(LENGTHS))
    documents = np.split(tokens.astype(np.int32), np.cumsum(LENGTHS)[:-1])
    documents[1][:SHARED] = documents[0][:SHARED]
    return documents
