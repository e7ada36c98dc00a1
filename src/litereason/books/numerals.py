"""Numbers as novels write them: 12, 12th, XII, xii, Twelve, the Twelfth, Twenty-First."""

import re

LARGEST = 399  # above it, "MIX" and "DI" are words

_ROMAN = re.compile(r"C{0,3}(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
_ONES = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
    "tenth", "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth",
    "seventeenth", "eighteenth", "nineteenth",
)  # fmt: skip
_TENS = (
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)  # fmt: skip
_WORDS = (
    {word: n for n, word in enumerate(_ONES, 1)}
    | {word: n for n, word in enumerate(_ORDINALS, 1)}
    | {word: 10 * n for n, word in enumerate(_TENS, 2)}
    | {word[:-1] + "ieth": 10 * n for n, word in enumerate(_TENS, 2)}
)
_WORD = "(?:" + "|".join([*sorted(_WORDS, key=len, reverse=True), "hundred", "hundredth"]) + r")\b"

# What may be a number in a mark; whether it is one, `number_of` says.
NUMBER = rf"(?:\d{{1,3}}(?:st|nd|rd|th)?|[ivxlc]+|{_WORD}(?:[\s-]+(?:and\s+)?{_WORD})*)"


def number_of(text: str) -> int | None:
    """The number that `text` is, from 1 to `LARGEST`, or None."""
    text = text.strip()
    if found := re.fullmatch(r"(\d{1,3})(?:st|nd|rd|th)?", text, re.I | re.A):
        number = int(found[1])
    elif text and text in (text.upper(), text.lower()) and _ROMAN.fullmatch(text.upper()):
        number = _roman(text.upper())
    else:
        number = _spelled(re.split(r"[\s-]+", text.lower()))
    return number if number and 1 <= number <= LARGEST else None


def roman(number: int) -> str:
    """`number`, from 1 to `LARGEST`, in Roman numerals."""
    values = {100: "C", 90: "XC", 50: "L", 40: "XL", 10: "X", 9: "IX", 5: "V", 4: "IV", 1: "I"}
    written = ""
    for value, letters in values.items():
        written += letters * (number // value)
        number %= value
    return written


def _roman(letters: str) -> int:
    values = [_VALUES[letter] for letter in letters]
    after = [*values[1:], 0]
    return sum(-v if v < following else v for v, following in zip(values, after, strict=True))


def _spelled(words: list[str]) -> int | None:
    """ "one hundred and twenty first": hundreds, then tens, then ones, each at most once."""
    total, room = 0, 1000
    for word in words:
        if word in ("hundred", "hundredth") and 0 < total < 10:
            total, room = total * 100, 100
        elif word == "and" and total >= 100:
            continue
        elif word in _WORDS and _WORDS[word] < room:
            value = _WORDS[word]
            total += value
            room = 10 if value >= 20 else 0
        else:
            return None
    return total or None
