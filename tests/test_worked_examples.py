"""Every worked example of the course: what derin.trace computes equals the exact value; the page shows it beside the printed.

S0.06-S0.22, S0.30, S0.33, S1.15-S1.17, S1.31, S1.41, S1.42, S1.47, S2.09, S4.16, S4.17, S4.20, S4.21
"""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "make_worked_examples.py"
spec = importlib.util.spec_from_file_location("make_worked_examples", SCRIPT)
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)

# what the notes print is rounded or cut to its digits; these are slips of theirs, and the exact value is another
SLIPS = {
    ("S0.20", "residual y - w x of step 2"): "0.89 for 0.90",
    ("S0.20", "what is taken from w in step 2"): "-0.08 for -0.09",
    ("S0.33", "BCE before"): "6.4 for 6.0000",
    ("S0.33", "gradient before 1/n 2"): "1.98: twice the cut 0.99",
    ("S0.33", "gradient before 1/n 3"): "2.97: three times the cut 0.99",
    ("S1.17", "sum"): "1.39: the sum of the cut numbers",
    ("S4.16", "two classes 2"): "-0.158 for 0.158",
}


@pytest.mark.parametrize("example", made.EXAMPLES, ids=lambda e: e.concept)
def test_a_worked_example(example):
    for number in example.work().numbers:
        np.testing.assert_allclose(number.found, number.exact, rtol=2e-5, atol=2e-5, err_msg=number.what)
        if re.fullmatch(r"-?\d+(\.\d+)?", number.printed):
            digits = 10.0 ** len(number.printed.partition(".")[2])
            scaled = abs(number.exact) * digits
            cut, rounded = np.floor(scaled + 1e-6), np.floor(scaled + 0.5 + 1e-6)
            agrees = round(float(number.printed) * digits) in {np.sign(number.exact) * v for v in (cut, rounded)}
            assert agrees != ((example.concept, number.what) in SLIPS), (number, "slip" if agrees else "no slip")


def test_the_page_is_up_to_date():
    """In every word, and in its numbers to what another processor may round otherwise."""
    number = r"-?\b\d+(?:\.\d+)?(?:e-?\d+)?"
    pages = made.PAGE.read_text(encoding="utf-8"), made.page()
    words = [re.sub(r" {2,}", " ", re.sub(number, "0", page)) for page in pages]
    assert words[0] == words[1], "run: python docs/make_worked_examples.py"
    values = [np.array(re.findall(number, page), float) for page in pages]
    np.testing.assert_allclose(*values, rtol=1e-3, atol=1e-5)
