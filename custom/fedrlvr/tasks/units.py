"""Units of measurement, and the things that word problems count: a positive list. A word that is not here is no unit:
it may change the value ("5 thirds", "5 million", "5 factorial"), and an answer with it is not paid.

Nothing is converted: 2 m is not 200 cm. Names for the same unit are one unit: "cm", "centimeters" and "centimetres".
"""

import re
from collections import Counter
from functools import lru_cache

_PREFIXES = {"": "", "nano": "n", "micro": "mc", "milli": "m", "centi": "c", "deci": "d", "kilo": "k", "mega": "M"}
# Symbol: its names. With every prefix.
_METRIC = """
m: meter metre | g: gram gramme | L: liter litre | mol: mole | s: second | J: joule | W: watt | V: volt | A: ampere amp
N: newton | Pa: pascal | Hz: hertz | cal: calorie | Eq: equivalent | Osm: osmole
eV: electronvolt
"""
# Symbol: its other names. As they are.
_OTHER = """
$: dollar USD buck | cent: c | euro: EUR | rupee: Rs INR | %: percent percentage pct | °: degree deg | °C: celsius
°F: fahrenheit | radian: rad | L: l | mL: ml cc | dL: dl | g: gm gms | kg: kilo kgs | km: kms | s: sec secs
mcg: ug | mcmol: umol | inch: in inches | foot: ft feet | yard: yd yds | mile: mi | acre: | hectare: ha
pound: lb lbs | ounce: oz | ton: tonne | gallon: gal | quart: qt | pint: pt | cup: | tablespoon: tbsp | teaspoon: tsp
drop: gtt gtts | minute: min mins | hour: h hr hrs | day: d | week: wk wks | month: mo mos | year: yr yrs | night:
time: | fold: | am: | pm: | mmHg: | cmH2O: | IU: | U: | unit: | bar: | atm: | torr: | Gy: | kelvin: | C: coulomb
ohm: | knot: | dB: decibel | byte: | bit: | mph: | kph: kmh kmph | bpm: | rpm:
"""
_SPEEDS = {"mph": "mile/hour", "kph": "km/hour", "bpm": "beat/minute", "rpm": "revolution/minute"}
_THINGS = """
acorn action adult animal answer ant app apple arrangement bag ball balloon banana barrel baseball basket basketball
battery bead beat bedroom bee bicycle bike bill bird biscuit blanket block boat book bottle bouquet bowl box boy
bracelet breath brick brownie bug bus butterfly button cage cake caller camper can candle candy car card carrot case
cat cd cell chair chapter cherry chicken child chip chocolate choice circle class classroom clip club coat coin color
combination comic committee container cookie couple cow cracker crate crayon cricket cupcake customer cut desk
diagonal digit dish dog doll donut door dose doughnut dress drink drum duck dvd edge egg element email employee
envelope event face factor family feather file fish floor flower folder friend frog fruit function game gerbil gift
girl glass goal goat goldfish grape graph group guest hamster handshake hat hen hero horse hotdog house integer item
jacket jar jellybean job key kid kind kitten lap laptop lawn leaf leg lemon letter life line lion loaf log lollipop
magazine man map marble marker match meal member message monkey movie muffin mug multiple nail necklace newspaper
nickel note notebook number object onion orange order outcome pack package packet page painting pair pancake parent
part participant party passenger path patient peach pear pencil penny people permutation person pet phone photo
picture pie piece pig pile pill pizza place plane plant plate platter player plum point position poster potato present
pretzel printer prize problem pupil puppy puzzle question rabbit race rectangle region reptile revolution ribbon ride
ring rock role roll room rose round route row sack sandwich seashell season seat seed sequence serving set sheep sheet
shelf shell ship shirt shoe side sister slice snack sock soda solution song spoon stack stamp star step stick sticker
stone story strawberry street string student subject subset sweater sweet table tablet teacher team tent term test
ticket tile tire token tomato tool towel tower toy train tree triangle trip truck turtle uniform value van vase
vegetable vertex video visitor vote walk wall way wheel window winner woman word worker
"""
_MATTER = "art blood bread butter candy clothing flour food gum juice mail medicine milk paper rice rope sugar water"
_PLURALS = {"child": "children", "man": "men", "woman": "women", "leaf": "leaves", "shelf": "shelves", "loaf": "loaves"}
_PLURALS |= {"vertex": "vertices", "foot": "feet", "life": "lives"}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_QUALIFIERS = {"more", "total", "different", "distinct", "possible", "new", "red", "green", "blue", "old", "real"}

_BESIDE = re.compile(r" ?/ ?| per ")
SHORTENED = re.compile(r"\.(?=[A-Za-z]{2})")  # the stop of "sq.ft." and "Dr.Li", but not of "a.m."
_FACTOR = re.compile(r"([A-Za-z$%°][A-Za-z0-9$%°]*)(?:\^(?:\{?(-?[0-9])\}?))?")
_STYLED = re.compile(r"\\text\{([^{}]*)\}")
_NEGATIVE = re.compile(r"\^\{(-[0-9])\}")
_CELSIUS = re.compile(r"(.+)\^\\circ ?(?:\\text\{ ?)?([CF]) ?\}?", re.DOTALL)
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_DEGREES = re.compile(r"\^\\circ(?![A-Za-z0-9])")
_MONEY = re.compile(r"([-+]?)\\?\$ ?([^$]+)")
_BARE = re.compile(
    r"([-+]?(?:[0-9][0-9.,/:]*|\.[0-9]+|[0-9]*\\frac\{[0-9]+\}\{[0-9]+\}))"
    r"(?: ?(\(?[A-Za-z][A-Za-z0-9 ./^{}-]+\)?)| ?\\?(%))"
)
_GENOTYPE = re.compile(r"(?:([a-z])\1)+", re.IGNORECASE)
MAX_LENGTH = 80  # of a unit's text


def _plural(name: str) -> str:
    if name in _PLURALS:
        return _PLURALS[name]
    if name.endswith("y") and name[-2] not in "aeiou":
        return name[:-1] + "ies"
    return name + ("es" if name.endswith(("s", "x", "ch", "sh", "tato", "mato")) else "s")


def _table() -> dict[str, str]:
    """Every name, singular and plural, and every symbol -> the unit."""
    units: dict[str, str] = {}
    for line, prefixes in ((_METRIC, _PREFIXES), (_OTHER, {"": ""})):
        for entry in line.strip().replace("\n", " | ").split(" | "):
            symbol, _, names = entry.partition(":")
            for prefix, sign in prefixes.items():
                known = [prefix + name for name in names.split()]
                spelt = [name for name in known if len(name) > 2]
                spelt += [symbol] if symbol.islower() and not prefix else []
                units |= dict.fromkeys([*map(_plural, spelt), *known, sign + symbol], sign + symbol)
    for thing in _THINGS.split():
        units |= dict.fromkeys([thing, _plural(thing)], units.get(thing, thing))
    return units


_UNITS = _table()
_COUNTED = {name for thing in _THINGS.split() for name in (thing, _plural(thing))} | set(_MATTER.split())


def quantity(text: str) -> tuple[str, str]:
    """An answer in normal form without its unit, and the unit: "" where none is stated or its words are no unit."""
    if match := _MONEY.fullmatch(text):
        return match[1] + match[2], "$"
    if text.endswith("%") and len(text) > 1:
        return text[:-1].removesuffix("\\").rstrip(), "%"
    if "\\circ" in text and not _TRIGONOMETRIC.search(text):
        if match := _CELSIUS.fullmatch(text):
            return match[1], f"°{match[2]}"
        core = _DEGREES.sub("", text)
        return (text, "") if "\\circ" in core else (core, "°")  # 30^\circ15' has two units
    place = text.find("\\text{")
    if place > 0:
        words = _STYLED.sub(r" \1", _NEGATIVE.sub(r"^\1", text[place:])).replace("\\cdot", " ")
        unit = unit_named(words) if len(words) <= MAX_LENGTH else ""
        return (text[:place].rstrip(), unit) if unit else (text, "")
    if (match := _BARE.fullmatch(text)) and len(match[2] or "") <= MAX_LENGTH:
        unit = "%" if match[3] else unit_named(match[2])
        return (match[1], unit) if unit else (text, "")
    return text, ""


@lru_cache(4096)
def unit_named(words: str) -> str:
    """The unit that the words name, such as "sq. ft.", "m/s^2", "miles per hour", "bags of chips"; else ""."""
    powers: Counter[str] = Counter()
    words = SHORTENED.sub(" ", words).replace(".", "").replace("degrees Cel", "Cel")
    words = words.replace("mm Hg", "mmHg").replace("cm H2O", "cmH2O")
    above, *below = _BESIDE.split(words.strip(" ()"))
    for sign, factors in [(1, above), *((-1, part) for part in below)]:
        found = _factors(factors.split())
        if not found:
            return ""
        for name, power in found:
            powers[name] += sign * power
    return " ".join(name if power == 1 else f"{name}^{power}" for name, power in sorted(powers.items()))


def same_word(word: str, after_number: bool) -> str:
    """A word as it is compared: small letters, and one name for each unit. A single letter and a genotype
    such as AaBb keep their case, and a letter is a unit only after a number."""
    if _GENOTYPE.fullmatch(word):
        return word
    if len(word) > 1:
        return _UNITS.get(word) or _UNITS.get(word.lower(), word.lower())
    return _UNITS.get(word, word) if after_number else word


def _factors(words: list[str]) -> list[tuple[str, int]]:
    """The units among the words and their powers; an empty list if one of the words does not belong to a unit."""
    if "of" in words:
        place = words.index("of")
        words, matter = words[:place], words[place + 1 :]
        if not matter or not _COUNTED.issuperset(matter):
            return []
    if words[1:] and words[0] in _QUALIFIERS:
        words = words[1:]
    if words[1:] and words[-1] == "old":
        words = words[:-1]
    found, power = [], 1
    for word in words:
        if word in _POWERS and power == 1:
            power = _POWERS[word]
            continue
        match = _FACTOR.fullmatch(word)
        unit = match and (_UNITS.get(match[1]) or (len(match[1]) > 1 and _UNITS.get(match[1].lower())))
        if not unit:
            return []
        if unit in _SPEEDS:
            unit, _, other = _SPEEDS[unit].partition("/")
            found.append((other, -1))
        found.append((unit, power * int(match[2] or 1)))
        power = 1
    return found if power == 1 else []
