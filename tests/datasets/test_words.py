"""What the names of classes, labels and findings mean."""

import pytest

from salad.datasets.words import Sense, class_key, sense_of

NORMAL = """Normal; 0.normal; NORMAL2; healthy knee; good; negative; Negative cases; neg; No finding;
No_Findings; nofindings; without finding; unremarkable; No abnormality detected; disease-free; not
abnormal; No Finding / Normal; Normale; gesund; unauff\u00e4llig; Unauffa\u0308llig; kein Befund;
ohne Befund; Sin hallazgos; within normal limits; Normal (not sick); ok; OK; okay; W_normal; unaffected;
unauffaellig; NORM; controls; normal w/o pneumonia; normal_no_pneumonia; nil abnormality; \u6b63\u5e38"""
ABNORMAL = """Non-Normal; Not Normal; No Lung Opacity Not Normal; No Lung Opacity / Not Normal; Non-healthy;
Not_Good; NotNormal; NonHEALTHY; NONNORMAL; nonnormal; unhealthy; Un-healthy; abnormal; ABNORMAL;
1.abnormal; subnormal; isn't normal; not quite healthy; 0_not_normal; Anormal; auff\u00e4llig; Nicht
normal; pas normal; krank; positive; COVID positive; no good; anomalies; Lung Opacity; Cardiomegaly;
bacteria; non-negative; nok; NG; not ok; wasn't normal; isn\u2019t normal; isnt_normal; doesn't look normal;
ab-normal; affected; lack of normality; auffaellig; \u5f02\u5e38; \u4e0d\u6b63\u5e38"""
UNSURE = """hardly normal; far from normal; pre-normal; partly healthy;
COVID negative; covid-negative; negative for pneumonia; False Negative; No Lung Opacity; No
Pneumonia; Non-COVID; normal_or_mild; normal-abnormal; COVID_Normal; no acute findings; no;
isnotnormal; almost normal; x_ray_normal_not; normal: no; normal?; semi-normal; fracture-free"""
UNKNOWN = "a; 0; 1; yes; True; other; torn; Benign; clear; Unknown; ab; W; O; \U0001fac1"


@pytest.mark.parametrize(
    ("names", "sense"), [(NORMAL, Sense.NORMAL), (ABNORMAL, Sense.ABNORMAL), (UNSURE, Sense.UNSURE), (UNKNOWN, None)]
)
def test_the_meaning_of_names(names, sense):
    said = {name: sense_of(name) for name in names.replace("\n", " ").split("; ")}
    assert said == dict.fromkeys(said, sense)


def test_names_of_one_class():
    assert class_key("Normal") == class_key(" NORMAL ") != class_key("Non-Normal")
    assert class_key("a\u0308") == class_key("\u00e4")
