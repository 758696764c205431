"""Meanings of the words on pages, for readers who have not heard them before."""

from collections.abc import Mapping

TERMS: Mapping[str, str] = {
    "accuracy": "The share of votes whose outcome (A, B or tie) is the one that was called most probable.",
    "alpha": "Krippendorff's alpha: how far people agree beyond what chance alone would make of their choices. 1 is "
    "perfect agreement, 0 is none but by chance.",
    "baseline": "A simple model of word counts and plain features such as length. It needs no GPU. A judge that is no "
    "better than it is not worth its cost.",
    "both orders": "The same two answers are shown to the judge twice, each first once, and the mean is taken. So it "
    "does not matter which answer comes first.",
    "Bradley-Terry model": "A model in which each model that writes answers has one strength, and the better of two wins the "
    "more often the further their strengths are apart. A tie counts as half a win for either, or has a "
    "probability of its own (Davidson 1970).",
    "Brier score": "The squared distance between the three probabilities and what was voted, from 0 (perfect) to 2.",
    "calibrated": "Probabilities mean what they say: of all the votes given 70 %, about 70 % turn out that way.",
    "calibration error": "ECE, the expected calibration error: how far apart confidence and accuracy are on average, "
    "where votes of like confidence are taken together. Chance alone makes it larger than 0, so it stands beside what "
    "a perfectly calibrated judge would show on as many votes.",
    "class shares": "How often A, B and ties were voted in the training votes. To predict these shares for every vote is "
    "the least that can be done; a judge has to be better.",
    "fold": "One of a few parts that the training votes are cut into. A model is trained on all parts but one, so that it "
    "can be tried on the part that it has not seen.",
    "interval": "The range that holds the true figure in 95 of 100 cases (or the share that is named), had other votes "
    "of the same kind been drawn. A change whose interval leaves out 0 is more than chance.",
    "kappa": "Cohen's kappa: agreement of two who choose, beyond what chance alone would make of how often each chooses A, "
    "B and ties. 1 is perfect agreement, 0 is none but by chance.",
    "lockbox": "Votes that were put away before anything was trained. Nothing was learned, tuned or chosen on them, so "
    "they show what the judge does on votes that are new to it.",
    "log loss": "The penalty for the probabilities that were given to what people then voted: small where it was called "
    "probable, large where it was called improbable. Less is better. To give all three outcomes the same "
    "probability costs 1.0986.",
    "p-value": "The chance of seeing a deviation at least this large if there were none in truth. Below 0.05 is taken as "
    "a sign of one.",
    "quantised": "The weights are stored in 8 bits, which makes the judge smaller and cheaper to run.",
    "student": "The model that is trained to give the teachers' probabilities, and that is shipped.",
    "teacher": "A larger model, trained on votes, whose probabilities the student learns from.",
    "temperature": "A number by which the judge's certainty is divided: above 1 it becomes less sure, below 1 surer.",
    "vote": "What a person, or several, thought of two answers to one prompt: A is better, B is better, or a tie.",
}
"""Meaning of each word, in a sentence or two."""
