"""Prompts of many sorts, for a model whose own answers are to be learnt from."""

from __future__ import annotations

import random
from itertools import islice, product

SUBJECTS = (
    *("bees", "bridges", "bread", "candles", "castles", "chess", "clocks", "clouds", "coffee", "comets", "deserts"),
    *("dolphins", "earthquakes", "elephants", "fireworks", "forests", "glaciers", "glass", "gold", "guitars"),
    *("honey", "horses", "islands", "kites", "lighthouses", "maps", "mirrors", "mountains", "mushrooms", "owls"),
    *("paper", "penguins", "pottery", "rainbows", "rivers", "rockets", "salt mines", "sheep", "ships", "silk"),
    *("snow", "spiders", "stars", "steam engines", "tea", "telescopes", "theatres", "trains", "trees", "tunnels"),
    *("umbrellas", "violins", "volcanoes", "whales", "windmills", "winter", "wolves", "wood", "zebras", "zinc"),
)
ABOUT = (
    "What are {} good for?",
    "Explain {} to a child.",
    "Write a short story about {}.",
    "Give me five facts about {}.",
    "List ten words that have to do with {}.",
    "Write a poem of eight lines about {}.",
    "Tell me about the history of {}.",
    "What should I know before I photograph {}?",
    "Write a letter to a friend in which you tell of {}.",
    "What do people most often get wrong about {}?",
    "Describe a picture that shows {}, in two sentences.",
    "Make a table with three rows and two columns about {}.",
    "Write three questions about {} and answer each of them.",
    "Why do people like {}? Give three reasons.",
    "Write an advertisement for a museum of {}.",
    "Give step by step instructions for drawing {}.",
)
CODE = (
    "Write a Python function that {}.",
    "Write a JavaScript function that {}, with comments.",
    "Explain how a program {}, then show the code.",
)
TASKS = (
    *("reverses the words of a sentence", "counts the vowels in a text", "checks whether a number is prime"),
    *("finds the largest number in a list", "removes duplicates from a list", "sorts a list of names by length"),
    *("reads a file and counts lines", "computes the mean of some numbers", "checks whether a word is its own mirror"),
    *("converts Celsius to Fahrenheit", "finds the common items of two lists", "multiplies two matrices"),
    *("computes a factorial", "merges two dictionaries", "prints a multiplication table", "searches a sorted list"),
)
NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Finn", "Grace", "Hugo")
THINGS = ("apples", "books", "coins", "marbles", "pencils", "shells", "stamps", "tickets")
SUMS = (
    "{} has {} {} and gets {} more. How many are there now?",
    "{} had {} {} and gave away {}. How many are left?",
    "{} puts {} {} into each of {} boxes. How many are in all the boxes together?",
)
SENTENCES = (
    *("The old {} stood at the end of the village.", "Nobody had seen the {} for many years."),
    *("Every morning the children ran to the {}.", "In the evening the {} was quiet again."),
    *("A man from the town wanted to buy the {}.", "The {} was painted green and white."),
    *("When the rain came, people hid beside the {}.", "In spring a storm damaged the {}."),
)
PLACES = ("mill", "tower", "boat", "market", "garden", "school", "bakery", "fountain", "library", "barn")
WORKS = (
    "Summarise this text in one sentence: {}",
    "Rewrite this text in simpler words: {}",
    "Put this text into the future tense: {}",
    "Correct the mistakes in this text, if there are any: {}",
    "Continue this text: {}",
)


def topics(count: int, seed: int) -> list[str]:
    """So many prompts in a random order: questions, stories, lists, code, sums, and texts to work on.

    Raises:
        ValueError: there aren't so many.
    """
    draw = random.Random(seed)
    asked = [form.format(subject) for form, subject in product(ABOUT, SUBJECTS)]
    coded = [form.format(task) for form, task in product(CODE, TASKS)]
    numbers = [
        form.format(draw.choice(NAMES), draw.randrange(20, 90), draw.choice(THINGS), draw.randrange(2, 20))
        for form, _ in product(SUMS, range(64))
    ]
    texts = [
        form.format(" ".join(draw.sample([sentence.format(place) for sentence in SENTENCES], 4)))
        for form, place, _ in product(WORKS, PLACES, range(8))
    ]
    prompts = list(dict.fromkeys([*asked, *coded, *numbers, *texts]))
    draw.shuffle(prompts)
    if count > len(prompts):
        raise ValueError(f"there are {len(prompts)} topics, not {count}")
    return list(islice(prompts, count))
