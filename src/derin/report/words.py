"""The languages of a page: every text is in a catalogue, messages_en.py and messages_tr.py, by the same keys.

    say = words("tr")
    say("curves.title")                        # "Öğrenme eğrileri"
    say("asked.epochs_of", done=12, epochs=20)

Turkish has the terms of the course: katman, kayıp, öğrenme oranı, doğrulama verisi, gradyan; epoch and batch stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from derin.errors import SpecError
from derin.report.diagnosis_tr import CONTAIN
from derin.report.messages_en import MESSAGES as ENGLISH
from derin.report.messages_tr import MESSAGES as TURKISH

LANGUAGES = {"en": ENGLISH, "tr": TURKISH}


def words(lang: str) -> Callable[..., str]:
    """The function from a key, and what stands in its text, to the text. Raises SpecError for an unknown language.

    >>> words("en")("rows", n="1,258"), words("tr")("rows", n="1,258")
    ('1,258 rows', '1,258 satır')
    """
    if lang not in LANGUAGES:
        raise SpecError(f"pages are written in {' and '.join(LANGUAGES)}, got lang={lang!r}.")
    catalogue = LANGUAGES[lang]

    def say(key: str, **values: Any) -> str:
        return catalogue[key].format(**values) if values else catalogue[key]

    return say


def named(say: Callable[..., str], prefix: str, name: str) -> str:
    """The text of `prefix.name` where the catalogue has one, else the name itself: metrics of one's own stay.

    >>> named(words("tr"), "metric", "accuracy"), named(words("tr"), "metric", "mine")
    ('doğruluk', 'mine')
    """
    try:
        return say(f"{prefix}.{name}")
    except KeyError:
        return name


def remedy(text: str, say: Callable[..., str]) -> str:
    """A remedy of derin.diagnose, with what it names of the run in its place.

    >>> remedy("48 rows a batch", words("tr")), remedy("48 rows a batch", words("en"))
    ('batch boyutu 48', '48 rows a batch')
    """
    for pattern in CONTAIN:
        if named(say, "remedy", text) == text and (found := re.fullmatch(pattern, text)):
            try:
                return say(f"remedy.{pattern}", **found.groupdict())
            except KeyError:  # English has the rule's own words
                return text
    return named(say, "remedy", text)


def becomes(text: str, say: Callable[..., str]) -> str:
    """What becomes of a column, as the schema says it in English, phrase by phrase.

    >>> becomes("one-hot of 3, 2 rare as one", words("tr"))
    'one-hot: 3 sayı, 2 seyrek düzey bir arada'
    """
    for i, pattern in enumerate(PHRASES):
        if found := re.search(pattern, text):
            text = text[: found.start()] + say(f"becomes.{i}", **found.groupdict()) + text[found.end() :]
    return text


def note(text: str, say: Callable[..., str]) -> str:
    """A note of derin.data about the rows and columns; one that no pattern knows stays as it is.

    >>> note("1,020 images as 28 x 28 x 1", words("tr"))
    '1,020 görüntü, 28 x 28 x 1 olarak'
    """
    for i, pattern in enumerate(NOTES):
        if found := re.fullmatch(pattern, text):
            return say(f"data.note.{i}", **found.groupdict())
    return text


PHRASES = (  # of derin.data, in the order of becomes.0, becomes.1, ...
    r"\bstandardised\b",
    r"\bscaled robustly\b",
    r"\bnormal scores\b",
    r"\bmissing: median \+ indicator\b",
    r"\bmissing: 0 \+ indicator\b",
    r"\bmissing: indicator\b",
    r"\bmissing a level\b",
    r"\bone-hot of (?P<n>\d+)",
    r"\bembedding of (?P<n>\d+)",
    r"(?P<n>\d+) rare as one\b",
    r"^no value in any training row$",
    r"^constant: (?P<value>.*) in every training row$",
    r"^identifier: its own number in every row$",
    r"^identifier: (?P<n>\d+) different values in (?P<rows>\d+) rows$",
    r"^free text: (?P<n>\d+) different values in (?P<rows>\d+) rows$",
    r"^a date none of whose parts varies$",
    r"^identifier: a running number, its own in every row$",
    r"\bby the last axis$",
    r"\bmissing -> median \+ indicator\b",
)
NOTES = (  # of derin.data, in the order of data.note.0, data.note.1, ...
    r"(?P<n>[\d,]+) of (?P<rows>[\d,]+) rows have no (?P<target>.+) and are left out\.",
    r"column (?P<column>.+) alone gives the target (?P<target>.+) away \((?P<score>.+)\)\. If it is known only "
    r"afterwards, leave it out: (?P<drop>drop=.+)\.",
    r"(?P<n>\d+) targets, each with a loss .+ make one target of them",
    r"levels of (?P<column>.+) in (?P<n>[\d,]+) rows that no training row has",
    r"the encoded data are over the memory budget and stream from disk",
    r"(?P<size>.+) of encoded data are over the memory budget and stream from disk",
    r"(?P<n>[\d,]+) rows without a target left out",
    r"left out: (?P<names>.+) beside (?P<part>.+)",
    r"left out: (?P<name>.+), whose images lie in no class folders",
    r"folders without images: (?P<names>.+)",
    r"left out: (?P<n>\d+) images that lie in no class folder, (?P<name>.+) first",
    r"(?P<n>[\d,]+) images as (?P<shape>.+)",
    r"(?P<n>\d+) files that cannot be read are skipped",
    r"(?P<name>.+) \[(?P<shape>.+)\] holds one-hot rows: read as (?P<n>\d+) classes",
)
