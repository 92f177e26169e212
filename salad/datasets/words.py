"""Tell from the name of a class, a label or a finding if it means normal or abnormal."""

from __future__ import annotations

import enum
import re
import unicodedata
from functools import lru_cache


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NORMAL_WORDS = _words(
    "normal normals normality normale normali normales normaux normaal healthy good unremarkable gesund gesunde "
    "unauffallig unauffallige unauffaellig unauffaellige sano sana sani sain saine saudavel wnl ok okay norm norma "
    "control controls ctrl 正常 健康"
)
# These say that one thing was not found, so they mean normal only where no other word tells which.
NEGATIVE_WORDS = _words("negative negatives neg negativ negativo negatif")
ABNORMAL_WORDS = _words(
    "abnormal abnormals abnorm anormal anormale anormales anormaux anomalous anomal positive positives pos positiv "
    "diseased sick ill bad pathologic pathological pathologisch auffallig auffallige krank kranke enfermo malade "
    "malato defective faulty infected affected nok ng ko abn auffaellig auffaellige patologia 异常 異常 不正常 非正常"
)
# With a word of denial directly before them, they mean normal: "No Finding", "no abnormalities".
FINDING_WORDS = _words(
    "finding findings abnormality abnormalities anomaly anomalies disease diseases pathology pathologies illness "
    "defect defects befund befunde hallazgo hallazgos anomalie reperti"
)
# Their denial does not mean normal: an image without an opacity may show anything else.
DISEASE_WORDS = _words(
    "pneumonia opacity opacities covid covid19 tuberculosis tb cancer tumor tumour malignant nodule nodules mass "
    "effusion edema oedema cardiomegaly atelectasis pneumothorax consolidation fracture lesion lesions infiltration "
    "emphysema fibrosis hernia virus viral bacteria bacterial infection"
)
DENIALS = _words(
    "no non not without wo un never neither nor none nil kein keine keinen ohne nicht nein sin sem sans senza pas nao "
    "niet geen lack lacks lacking absent absence zero aint isn isnt aren arent wasn wasnt weren werent don dont doesn "
    "doesnt didn didnt hasn hasnt"
)
PREFIXES = ("non", "not", "no", "un", "ab", "an", "a", "in", "sub", "para")
HEDGES = _words(
    "hardly barely scarcely rarely seldom far less pre post semi partly partially mostly somewhat previously once "
    "or vs versus maybe possibly probably likely suspected borderline almost near nearly quasi pseudo sub formerly "
    "unclear uncertain equivocal questionable false oder half semi mostly partly partially ex mis"
)
# They stand beside the word of a class without changing it, as in "negative cases".
ASIDE = _words("class label labels case cases image images film films patient patients study studies the a")
KNOWN = NORMAL_WORDS | ABNORMAL_WORDS | FINDING_WORDS | NEGATIVE_WORDS
JOINED = {r"(?<![a-z])w[\W_]?o(?![a-z])": " without ", r"(?<![a-z])ab[\W_]+(?=normal)": "ab"}  # W/O, ab-normal
WORD = re.compile(r"[^\W\d_]+")
HIDDEN = re.compile("normal|healthy")  # in a word that is not known, such as `isnotnormal`


class Sense(enum.Enum):
    """Meaning of a name: normal, abnormal, or both at once, as in `COVID negative` or `normal or mild`."""

    NORMAL = "normal"
    ABNORMAL = "abnormal"
    UNSURE = "unsure"


@lru_cache(maxsize=4096)
def sense_of(name: str) -> Sense | None:
    """Tell what a name such as `0.normal`, `Non-Normal`, `No_findings` or `unhealthy` means; None if nothing is known.

    A word of denial anywhere before a normal word makes the name abnormal.
    """
    words = words_of(name)
    votes: set[Sense] = {Sense.UNSURE} if "?" in name else set()
    is_denied, is_beside, was_disease = False, False, False
    for position, word in enumerate(words):
        if word in DENIALS:
            is_denied, is_beside = True, True
            continue
        if word in HEDGES or (word not in KNOWN and HIDDEN.search(word)):
            votes.add(Sense.UNSURE)
        if word in NORMAL_WORDS:
            votes.add(Sense.ABNORMAL if is_denied else Sense.NORMAL)
            is_denied = False
        elif word in NEGATIVE_WORDS:
            is_alone = len([other for other in words if other not in ASIDE]) == 1
            votes.add(Sense.ABNORMAL if is_denied else Sense.NORMAL if is_alone else Sense.UNSURE)
        elif word in ABNORMAL_WORDS | FINDING_WORDS:
            is_free = words[position + 1 : position + 2] == ["free"]
            denied = Sense.NORMAL if is_beside or is_free else Sense.UNSURE
            votes.add(denied if is_denied or is_free else Sense.ABNORMAL)
            is_denied = False
        elif word in DISEASE_WORDS:
            is_free = words[position + 1 : position + 2] == ["free"]
            was_disease = was_disease or is_denied or is_free
            if not is_denied and not is_free:
                votes.add(Sense.ABNORMAL)
        is_beside = False
    if is_beside and votes:  # a denial at the end, as in `normal_not`
        return Sense.UNSURE
    if len(votes) > 1 or (not votes and (was_disease or is_denied)):
        return Sense.UNSURE
    return votes.pop() if votes else None


def words_of(name: str) -> list[str]:
    """Split a name into lower-case words without accents, and prefixes of denial off: `NonHealthy` is non, healthy."""
    plain = "".join(mark for mark in unicodedata.normalize("NFKD", name) if not unicodedata.combining(mark))
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", plain).lower()
    for written, meant in JOINED.items():
        parted = re.sub(written, meant, parted)
    return [part for word in WORD.findall(parted) for part in _parts(word)]


def _parts(word: str) -> list[str]:
    if word in KNOWN or word in DENIALS:
        return [word]
    for prefix in PREFIXES:
        if word.startswith(prefix) and word.removeprefix(prefix) in KNOWN:
            return ["non", word.removeprefix(prefix)]
    return [word]


def class_key(name: str) -> str:
    """Return a key that is equal for names of one class, such as `Normal`, `NORMAL` and `normal `."""
    return unicodedata.normalize("NFC", name).strip().casefold()
