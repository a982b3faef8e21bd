# ruff: noqa: RUF001 - full-width characters are what is tested
"""Personal data are found by pattern and checksum, and arithmetic is not taken for them."""

import time

import numpy as np
import pytest

from fedrlvr.privacy.pii import FINDERS, Names, personal_data
from fedrlvr.privacy.policy import PII

REGIONS = ("US", "GB", "DE")
THERE = {
    "email": [
        "ana.lopez@ward7.example",
        "ANA@X.ORG",
        "ana_l+1@mail.hospital.co.uk",
        "ana.lopez @ ward7 . example",
        "ana (at) ward7 (dot) org",
        "ana [at] ward7 [dot] org",
        "ana at ward7 dot org",
        "ana_at_ward7_dot_org",
        "ana at ward-7 dot org",
        "ana {AT} ward7 {DOT} org",
        "ana arobase ward7 point org",
        "ａｎａ＠ｘ．ｏｒｇ",
        "mailto:a@b.cd",
        "<x.y@z.example>",
    ],
    "phone": [
        "+1 650-253-0000",
        "(650) 253-0000",
        "650.253.0000",
        "650 253 0000",
        "tel 6502530000",
        "+44 20 8366 1177",
        "020 8366 1177",
        "+49 30 227-32027",
        "030 22732027",
        "０２０ ８３６６ １１７７",
    ],
    "iban": [
        "DE89 3704 0044 0532 0130 00",
        "DE89370400440532013000",
        "GB82 WEST 1234 5698 7654 32",
        "gb82west12345698765432",
        "FR14 2004 1010 0505 0001 3M02 606",
        "IBAN: CH93 0076 2011 6238 5295 7, please",
        "NL91ABNA0417164300",
        "BE68-5390-0754-7034",
        "ES9121000418450200051332",
        "AT611904300234573201.",
        "DE89.3704.0044.0532.0130.00",
    ],
    "ssn": [
        "536-90-4399",
        "SSN 536-90-4399.",
        "(536-90-4399)",
        "536 90 4399",
        "his 457-55-5461",
        "#219-09-9998",
        "５３６-９０-４３９９",
        "ssn:212-09-9999",
        "508-11-1111;",
        "001-01-0001",
        "536\u201390\u20134399",
        "536\\_90\\_4399",
        "536.90.4399",
    ],
    "nhs": [
        "943 476 5870",
        "9434765870",
        "943-476-5870",
        "NHS 943 476 5870",
        "nhs:9434765870.",
        "401 023 2137",
        "4010232137",
        "(401-023-2137)",
        "９４３ ４７６ ５８７０",
        "number 943 4765870",
        "943.476.5870",
    ],
    "mrn": [
        "MRN 4711081",
        "MRN: 00012345",
        "mrn#AB-12345",
        "Medical record number 123456",
        "medical record no. 12-34-56",
        "patient id 8675309",
        "Patient-ID: P/12345",
        "hospital number 445566",
        "case no 2024/1234",
        "Fallnummer 1234567",
        "accession number 24-001234",
        "chart 998877",
        "medical record number is 123456",
        "record no. 123456",
        "hosp. no 445566",
        "mrn\\_4711081",
    ],
    "birth_date": [
        "born 12/5/87",
        "born on 3.4.1961",
        "DOB 1961-04-03",
        "d.o.b.: 03-04-61",
        "date of birth 4 3 1961",
        "birthday: 3/4/61",
        "geb. 03.04.1961",
        "geboren am 3. 4. 1961",
        "1961-04-03",
        "03/04/1961",
        "3 April 1961",
        "April 3rd, 1961",
        "3rd of April 1961",
        "03.04.61",
        "03/04/61",
        "3 Apr 61",
        "3. April 1961",
        "3 août 1961",
        "3 de agosto de 1961",
        "3 agosto 1961",
        "3 maart 1961",
        "in April 1961",
        "04/1961",
    ],
}
CLEAN = [
    "The answer is \\boxed{11}.",
    "The patient has 3 lesions, so the case is C.",
    "In case 12 of 20 the patient is 54 years old: \\boxed{B}",
    "The chart shows 12 points.",
    "Case 1: x = 2. Case 2: x = 3.",
    "She was born in Paris; answer A.",
    "There are 365 days in 1990.",
    "10/5/2 = 1 and 1/2/3 is odd",
    "The ratio 1:2:3, so at dot products vanish",
    "look at a dot on the line",
    "The tangent at the point of contact, and at this point of it",
    "Triangles 3-4-5, 8-15-17 and 10-24-26",
    "12 may 20 times",
    "Of 10 out of 20 in 3 sets of 12",
    "The study of 1200 men",
    "GB is a country, DE another",
    "12345678 + 1 = 12345679",
    "0.123456789",
    "x^2 + 3x - 40 = (x - 5)(x + 8)",
    "blood pressure 120/80, pulse 72, 37.2 degrees",
    "give 2.5 mg/kg every 8 h for 10 days, 1500 mg in all",
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in THERE.items() for text in texts])
def test_found(kind, text):
    assert kind in personal_data(f"As told: {text} and so on, \\boxed{{11}}", [kind], REGIONS)


def test_every_kind_of_the_policy_is_known_and_tried():
    assert set(FINDERS) == set(PII) == set(THERE)
    assert all(len(texts) >= 10 for texts in THERE.values())


@pytest.mark.parametrize("text", CLEAN)
def test_not_found(text):
    assert personal_data(text, PII, REGIONS) == set()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("iban", "DE89 3704 0044 0532 0130 01"),
        ("nhs", "943 476 5871"),
        ("ssn", "000-12-3456"),
        ("ssn", "666-12-3456"),
        ("phone", "555 0100"),
        ("birth_date", "1961-13-40"),
    ],
)
def test_a_wrong_checksum_is_no_personal_data(kind, text):
    assert personal_data(f"see {text}.", [kind], REGIONS) == set()


def test_only_the_kinds_asked_for():
    everything = " ; ".join(texts[0] for texts in THERE.values())
    assert personal_data(everything, [], REGIONS) == set()
    assert personal_data(everything, ["email"], REGIONS) == {"email"}
    assert personal_data(everything, PII, REGIONS) == set(PII)


def worked_solutions(count: int) -> list[str]:
    """Solutions of school mathematics with numbers of all sizes, in many layouts."""
    random, texts = np.random.default_rng(3), []
    for _ in range(count):
        a, b, c = (int(10 ** random.uniform(0, 6)) for _ in range(3))
        texts.append(
            str(
                random.choice(
                    [
                        f"{a} + {b} = {a + b}, minus {c} is {a + b - c}. \\boxed{{{a + b - c}}}",
                        f"Step 1: {a} x {b} = {a * b}\nStep 2: divide by {c}: {a * b / c:.3f}",
                        f"({a}, {b}, {c}) -> {a}/{b} and {b}/{c}; the sum {a}+{b}+{c}={a + b + c}",
                        f"{a:,} people, {b:,} of them {c % 100} years old: {100 * b / (a + b):.1f}%",
                        f"x^{a % 9} - {b}x + {c} = 0 has the roots {b / 2:.4f} and {c / 3:.4f}",
                    ]
                )
            )
        )
    return texts


def test_mathematics_is_seldom_taken_for_personal_data():
    texts = worked_solutions(1000)
    flagged = [text for text in texts if personal_data(text, PII, ("US", "GB"))]
    assert len(flagged) <= 10, flagged[:20]


def test_names_whole_words_in_any_case_and_spelling():
    names = Names(["Ana Lopez", "O'Neill", "", "Müller"])
    for text in (
        "ANA LOPEZ left",
        "ana\nlopez",
        "Ana-Lopez",
        "o\u2019neill",
        "MÜLLER",
        "Mu\u0308ller",
        "Muller",
        "Lopez, Ana",
    ):
        assert names.mentioned(text), text
    for text in ("Ana and Lopez", "Mullers", "neill", "AnaLopez"):
        assert not names.mentioned(text)
    for text in ("EleanorVance", "E l e a n o r, V a n c e", "vance_eleanor", "the ele anor van ce"):
        assert Names(["Eleanor Vance"]).mentioned(text), text


@pytest.mark.parametrize("cue", ["mrn", "record no", "born on", "gb82", "19 jan", "a at", "ana@"])
@pytest.mark.parametrize("filler", [" ", "-", "_", "=", ".", "a1", "1-", "a-"])
def test_a_long_row_of_anything_behind_a_cue_takes_linear_time(cue, filler):
    def seconds(length: int) -> float:
        began = time.process_time()
        personal_data((cue + filler * length)[:length], PII, REGIONS)
        return time.process_time() - began

    seconds(500)
    assert seconds(8000) < 20 * 16 * max(seconds(500), 1e-3)
