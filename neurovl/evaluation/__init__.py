"""What a trained run is asked to do on the test pictures, and how that is scored.

`answer`, `reconstruct`, `localize` and `measure_importance` write their outputs below the run folder; `score` reads them and writes
results.csv, per_image.csv and claims.csv.
Imports `adaptation`, `run` and what lies below.
"""

from neurovl.evaluation.answering import answer, calibration_of
from neurovl.evaluation.calibrating import calibrate
from neurovl.evaluation.further_sets import available_sets, evaluate_imagery, evaluate_synthetic
from neurovl.evaluation.locating import concepts, localize
from neurovl.evaluation.new_subject_curve import curve_of_profile
from neurovl.evaluation.new_subject_words import answer_new_subject
from neurovl.evaluation.painting import reconstruct
from neurovl.evaluation.region_importance import measure_importance, regions
from neurovl.evaluation.scoring import score

__all__ = [
    "answer",
    "answer_new_subject",
    "calibrate",
    "calibration_of",
    "concepts",
    "curve_of_profile",
    "evaluate_imagery",
    "evaluate_synthetic",
    "available_sets",
    "localize",
    "reconstruct",
    "regions",
    "score",
    "measure_importance",
]
