#!/usr/bin/env python3
"""Writes two small made-up data sets in GLUE's file format, for the demo and the tests.

    scripts/demo_data.py BAM_DIR        writes BAM_DIR/glue_data/{rte,mrpc}/{train,dev,test}.tsv

The sentences are invented news. A "fact" of some domain (a company's shares, a football match,
a storm ...) has slots; each slot holds one value, and a value is a list of ways to say the same.
Two sentences made of the same values are paraphrases; one value changed makes them differ.

* mrpc: the same fact told twice (1), or told again with something changed (0).
* rte: a sentence and a shorter claim that follows from it (entailment), or that has a wrong
  value or a wrong negation (not_entailment). Some training labels are wrong on
  purpose, so that a student of a teacher has something to gain.

The output is the same bytes everywhere and always: the generator is this file's own. A file
that this script did not write is never replaced.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

# Rows per split. Small enough for a minute of CPU, large enough that dev accuracy means something.
RTE_ROWS = {"train": 2000, "dev": 320, "test": 320}
MRPC_ROWS = {"train": 1600, "dev": 320, "test": 320}
# Shares of the larger class: not balanced, so that "always the majority" is a baseline to beat.
RTE_ENTAILED = 0.55
MRPC_PARAPHRASE = 0.65
# Wrong labels among rte's training rows; dev and test have none.
RTE_LABEL_NOISE = 0.08

# Marks files of this script as such. It stands beside the data, since a comment in a TSV would be a row.
MARKER = ".bam-demo-data"


class Random:
    """splitmix64 (Steele et al. 2014). Python's own generator may change between versions."""

    MASK = (1 << 64) - 1

    def __init__(self, seed):
        self.state = seed & self.MASK

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & self.MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & self.MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & self.MASK
        return z ^ (z >> 31)

    def below(self, n):
        return (self.next() >> 11) % n

    def chance(self, p):
        return (self.next() >> 11) < p * (1 << 53)

    def choice(self, items):
        return items[self.below(len(items))]

    def shuffled(self, items):
        items = list(items)
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]
        return items


def words(text):
    """'a b=c d' -> [['a'], ['b', 'c'], ['d']]: one value per word, '=' between ways to say it, '_' is a space."""
    return [[way.replace("_", " ") for way in value.split("=")] for value in text.split()]


PEOPLE = words("Anna_Keller Omar_Haddad Julia_Brandt Victor_Santos Mei_Tanaka David_Novak Sara_Lindgren Peter_Walsh "
               "Elena_Rossi Samuel_Okoye Grace_Miller Ivan_Petrov Laura_Jensen Ahmed_Farouk Nina_Kowalski Thomas_Reed")
CITIES = words("Vienna Lisbon Chicago Nairobi Oslo Madrid Toronto Dublin Prague Seattle Athens Cairo Boston Mumbai Warsaw Sydney")
COUNTRIES = words("Norway Brazil Kenya Canada Poland Japan Chile Egypt Greece Ireland Mexico Sweden Turkey Peru")
COMPANIES = words("Norvik_Steel Halden_Foods Atlas_Motors Bluewater_Energy Crown_Textiles Delta_Airlines Orion_Software "
                  "Summit_Bank Pioneer_Drugs Vega_Telecom Harbor_Shipping Maple_Insurance")
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = words("January March April May June August October December")
SMALL = words("two=2 three=3 four=4 five=5 six=6 seven=7 eight=8 nine=9")
TENS = words("20=twenty 30=thirty 40=forty 50=fifty 60=sixty 70=seventy 80=eighty 90=ninety")
TEAMS = words("the_Tigers the_Eagles the_Wolves the_Rangers the_Sharks the_Bears the_Comets the_Hawks")
RIVERS = words("Danube Nile Amazon Rhine Volga Thames Tagus Ganges")

# domain: (slots, whole tellings, claims, their negations). Every telling names every slot; a claim names some.
DOMAINS = {
    "shares": (
        {"company": COMPANIES, "moved": [["rose", "climbed", "went up"], ["fell", "dropped", "went down"]], "n": SMALL, "day": DAYS},
        ["Shares of {company} {moved} {n} percent on {day} .",
         "On {day} , {company} stock {moved} by {n} percent .",
         "The price of {company} shares {moved} by {n} percent in {day} 's trading ."],
        ["Shares of {company} {moved} on {day} .", "{company} stock {moved} by {n} percent .", "The stock of {company} {moved} ."],
        ["Shares of {company} did not change on {day} .", "The stock of {company} never moved ."],
    ),
    "storm": (
        {"storm": [["storm"], ["flood"], ["fire", "blaze"], ["earthquake", "quake"]], "city": CITIES, "n": TENS,
         "harm": [["killed", "left dead"], ["injured", "hurt"]], "day": DAYS},
        ["A {storm} near {city} {harm} {n} people on {day} .",
         "On {day} , {n} people were {harm} by a {storm} near {city} .",
         "At least {n} people were {harm} when a {storm} struck {city} on {day} ."],
        ["A {storm} struck near {city} .", "{n} people were {harm} in {city} .", "People were {harm} by a {storm} on {day} ."],
        ["Nobody was {harm} by the {storm} near {city} .", "There was no {storm} near {city} on {day} ."],
    ),
    "match": (
        {"team": TEAMS, "result": [["beat", "defeated"], ["lost to", "were beaten by"]], "city": CITIES, "n": SMALL, "day": DAYS},
        ["{team} {result} {city} by {n} goals on {day} .",
         "On {day} , {team} {result} the side from {city} with a margin of {n} goals .",
         "{n} goals separated the teams on {day} as {team} {result} {city} ."],
        ["{team} {result} {city} .", "{team} {result} {city} on {day} .", "The margin between {team} and {city} was {n} goals ."],
        ["{team} did not play against {city} .", "{team} and {city} never met on {day} ."],
    ),
    "deal": (
        {"company": COMPANIES, "did": [["bought", "acquired", "purchased"], ["sold", "disposed of"]],
         "what": words("a_factory=a_plant a_newspaper=a_daily_paper a_hotel a_mine a_shipyard a_radio_station"), "city": CITIES, "n": TENS},
        ["{company} {did} {what} in {city} for {n} million dollars .",
         "For {n} million dollars , {company} {did} {what} in {city} .",
         "In a deal worth {n} million dollars , {company} {did} {what} located in {city} ."],
        ["{company} {did} {what} in {city} .", "{company} {did} {what} .", "The deal in {city} was worth {n} million dollars ."],
        ["{company} did not close a deal in {city} .", "No deal for {what} in {city} was made ."],
    ),
    "court": (
        {"person": PEOPLE, "verdict": [["convicted"], ["acquitted", "cleared"]],
         "crime": words("fraud theft=stealing bribery=corruption murder arson smuggling"), "city": CITIES, "month": MONTHS},
        ["A court in {city} {verdict} {person} of {crime} in {month} .",
         "{person} was {verdict} of {crime} by judges in {city} in {month} .",
         "In {month} , {person} stood trial in {city} and was {verdict} of {crime} ."],
        ["{person} was {verdict} of {crime} .", "{person} stood trial in {city} .", "A court {verdict} {person} in {month} ."],
        ["{person} was never on trial in {city} .", "{person} was not charged with {crime} ."],
    ),
    "vote": (
        {"person": PEOPLE, "result": [["won", "was the winner of"], ["lost", "was defeated in"]], "n": TENS, "country": COUNTRIES, "month": MONTHS},
        ["{person} {result} the election in {country} in {month} with {n} percent of the vote .",
         "With {n} percent of the vote , {person} {result} {country} 's {month} election .",
         "In {month} , {person} {result} the presidential race in {country} , receiving {n} percent ."],
        ["{person} {result} the election in {country} .", "{person} received {n} percent of the vote .", "{person} {result} an election in {month} ."],
        ["{person} did not run for office in {country} .", "There was no election in {country} in {month} ."],
    ),
    "jobs": (
        {"company": COMPANIES, "does": [["hire", "recruit", "take on"], ["fire", "lay off", "dismiss"]], "n": TENS, "city": CITIES, "month": MONTHS},
        ["{company} plans to {does} {n} workers at its {city} office in {month} .",
         "In {month} , {company} will {does} {n} employees in {city} .",
         "The {city} branch of {company} is going to {does} {n} people in {month} ."],
        ["{company} will {does} people in {city} .", "{company} plans to {does} {n} workers .", "{company} is going to {does} staff in {month} ."],
        ["{company} has no office in {city} .", "{company} does not plan to {does} anyone ."],
    ),
    "bridge": (
        {"what": words("bridge tunnel dam ferry_line"), "river": RIVERS, "state": [["opened", "was opened"], ["closed", "was shut"]],
         "month": MONTHS, "n": SMALL},
        ["A {what} on the {river} {state} in {month} after {n} years of debate .",
         "After {n} years of debate , a {what} on the {river} {state} in {month} .",
         "In {month} , the {river} {what} finally {state} following {n} years of discussion ."],
        ["A {what} on the {river} {state} .", "The {river} {what} {state} in {month} .", "The debate over the {what} took {n} years ."],
        ["The {what} on the {river} was never discussed .", "Nothing happened to the {river} {what} in {month} ."],
    ),
    "study": (
        {"food": words("coffee green_tea chocolate red_wine olive_oil garlic fish"), "effect": [["lowers", "reduces", "cuts"], ["raises", "increases"]],
         "risk": words("heart_disease diabetes=high_blood_sugar stroke obesity=being_overweight depression"), "country": COUNTRIES, "n": TENS},
        ["A study in {country} says {food} {effect} the risk of {risk} by {n} percent .",
         "According to scientists in {country} , {food} {effect} the danger of {risk} by {n} percent .",
         "Researchers from {country} found that the risk of {risk} changes by {n} percent : {food} {effect} it ."],
        ["{food} {effect} the risk of {risk} .", "Scientists in {country} studied {food} .", "The risk of {risk} changes by {n} percent ."],
        ["{food} does not affect the risk of {risk} .", "No study about {food} was made in {country} ."],
    ),
    "film": (
        {"person": PEOPLE, "work": words("film=movie novel=book play=drama album=record opera"), "opinion": [["praised", "loved"], ["criticised", "disliked"]],
         "city": CITIES, "day": DAYS},
        ["Critics in {city} {opinion} the new {work} by {person} on {day} .",
         "On {day} , reviewers in {city} {opinion} {person} 's latest {work} .",
         "The new {work} of {person} was {opinion} by the press in {city} on {day} ."],
        ["Critics {opinion} the {work} by {person} .", "The {work} by {person} was shown in {city} .", "Reviewers {opinion} a {work} on {day} ."],
        ["{person} has not made a {work} .", "Critics in {city} did not see the {work} ."],
    ),
}

SOURCES = ["officials said", "the newspaper reported", "police said", "a spokesman said", "according to local media", "it was announced"]


def slots_of(template):
    return [part.split("}")[0] for part in template.split("{")[1:]]


def sentence(rng, template, values):
    text = template.format(**{slot: rng.choice(ways) for slot, ways in values.items()})
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    return text[0].upper() + text[1:]


def new_fact(rng, slots):
    return {slot: rng.choice(pool) for slot, pool in slots.items()}


def changed(rng, slots, values, which, how_many):
    """The same fact with other values in `how_many` of the slots `which`."""
    other = dict(values)
    for slot in rng.shuffled(which)[:how_many]:
        other[slot] = rng.choice([value for value in slots[slot] if value is not values[slot]])
    return other


def with_source(rng, text):
    """'X .' -> 'X , officials said .' now and then: words that neither class depends on."""
    return f"{text[:-2]} , {rng.choice(SOURCES)} ." if rng.chance(0.3) else text


def mrpc_pair(rng, paraphrase):
    slots, tellings, _, _ = DOMAINS[rng.choice(sorted(DOMAINS))]
    first, second = rng.shuffled(tellings)[:2]
    fact = new_fact(rng, slots)
    # One changed value is hard to see, four are easy: with a mix something is learned early and late.
    other = fact if paraphrase else changed(rng, slots, fact, list(slots), rng.choice([1, 2, 3, 3, 4]))
    return with_source(rng, sentence(rng, first, fact)), with_source(rng, sentence(rng, second, other))


def rte_pair(rng, entailed):
    slots, tellings, claims, negations = DOMAINS[rng.choice(sorted(DOMAINS))]
    fact = new_fact(rng, slots)
    premise = with_source(rng, sentence(rng, rng.choice(tellings), fact))
    if not entailed and rng.chance(0.4):
        return premise, sentence(rng, rng.choice(negations), fact)
    claim = rng.choice(claims)
    if not entailed:
        fact = changed(rng, slots, fact, slots_of(claim), rng.choice([1, 1, 2]))
    return premise, sentence(rng, claim, fact)


def pairs(rng, make, rows, positive_share, seen):
    """`rows` pairs (first, second, positive), none of which is in `seen` or twice."""
    positives = round(rows * positive_share)
    result = []
    for positive in rng.shuffled([True] * positives + [False] * (rows - positives)):
        pair = make(rng, positive)
        while pair in seen:
            pair = make(rng, positive)
        seen.add(pair)
        result.append((*pair, positive))
    return result


def rte_files():
    rng, seen = Random(20190701), set()
    for split, rows in RTE_ROWS.items():
        lines = ["index\tsentence1\tsentence2" + ("" if split == "test" else "\tlabel")]
        for index, (first, second, entailed) in enumerate(pairs(rng, rte_pair, rows, RTE_ENTAILED, seen)):
            if split == "train" and rng.chance(RTE_LABEL_NOISE):
                entailed = not entailed
            label = "" if split == "test" else "\tentailment" if entailed else "\tnot_entailment"
            lines.append(f"{index}\t{first}\t{second}{label}")
        yield f"rte/{split}.tsv", lines


def mrpc_files():
    rng, seen, ids = Random(20190702), set(), 100000
    for split, rows in MRPC_ROWS.items():
        lines = [("index" if split == "test" else "Quality") + "\t#1 ID\t#2 ID\t#1 String\t#2 String"]
        for index, (first, second, same) in enumerate(pairs(rng, mrpc_pair, rows, MRPC_PARAPHRASE, seen)):
            lead = index if split == "test" else int(same)
            lines.append(f"{lead}\t{ids}\t{ids + 1}\t{first}\t{second}")
            ids += 2
        yield f"mrpc/{split}.tsv", lines


def write(path, content):
    """Writes a file in one step: a killed run leaves the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def main(arguments):
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: demo_data.py BAM_DIR", file=sys.stderr)
        return 64
    glue = Path(arguments[0]) / "glue_data"
    files = {glue / name: ("\n".join(lines) + "\n").encode() for make in (rte_files, mrpc_files) for name, lines in make()}

    # All checks come first: either everything is written or nothing is touched.
    stale = {path for path, content in files.items() if not path.is_file() or path.read_bytes() != content}
    foreign = sorted(str(path) for path in stale if path.exists() and not (path.parent / MARKER).exists())
    if foreign:
        print("error: these files are not demo data and are left alone; choose another folder:\n  " + "\n  ".join(foreign), file=sys.stderr)
        return 73
    for folder in sorted({path.parent for path in stale}):
        write(folder / MARKER, b"The .tsv files here are made by scripts/demo_data.py, which may rewrite them.\n")
    for path in sorted(stale):
        write(path, files[path])
    print(f"==> demo data in {glue}: {'written' if stale else 'in place'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
