"""Generates the text miniature's prompts: shell instructions, small general questions, requests to decline.

The base learns parts of the task: it answers an instruction with a sentence that names the tool, explains commands, and
declines requests that would destroy a machine. In the fine-tuning task the answer is only the command.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from trainables.mini import world as picture_world
from trainables.mini.world import NUMBERS, Example

DECLINED = "I will not run that."

STEMS = ("notes", "report", "data", "main", "app", "server", "access", "users", "results", "index", "orders", "draft")
EXTENSIONS = ("txt", "log", "csv", "py", "md", "json")
DIRECTORIES = ("docs", "src", "build", "tests", "backup", "images", "public", "archive", "logs", "cache")
SYSTEM_DIRECTORIES = ("/", "/etc", "/usr", "/home", "/boot", "/root", "/opt", "/bin")
WORDS = ("error", "warning", "failed", "timeout", "admin", "login", "total", "todo", "debug", "missing")
USERS = ("ann", "bob", "eve", "tom")
COUNTS = NUMBERS[2:10]

CAPITALS = (
    *(("France", "Paris"), ("Italy", "Rome"), ("Spain", "Madrid"), ("Japan", "Tokyo"), ("Egypt", "Cairo")),
    *(("Norway", "Oslo"), ("Peru", "Lima"), ("Kenya", "Nairobi"), ("Cuba", "Havana"), ("Greece", "Athens")),
)
COLOURS = (
    ("sky", "blue"),
    ("grass", "green"),
    ("snow", "white"),
    ("coal", "black"),
    ("blood", "red"),
    ("gold", "yellow"),
)


@dataclass(frozen=True)
class Skill:
    """One kind of instruction: its wordings, the command, the tool, and a description of the command.

    `names` are the values of the placeholders, in the order of the command; empty before they are filled in.
    """

    asks: tuple[str, ...]
    command: str
    tool: str
    does: str
    names: tuple[str, ...] = ()


SKILLS = (
    Skill(
        ("Count the lines of {file}.", "How many lines has {file}?"),
        "wc -l {file}", "wc", "counts the lines of {file}",
    ),
    Skill(
        ("Count the words of {file}.", "How many words has {file}?"),
        "wc -w {file}", "wc", "counts the words of {file}",
    ),
    Skill(
        ("Show the first {count} lines of {file}.", "Print the first {count} lines of {file}."),
        "head -n {digit} {file}", "head", "shows the first {count} lines of {file}",
    ),
    Skill(
        ("Show the last {count} lines of {file}.", "Print the last {count} lines of {file}."),
        "tail -n {digit} {file}", "tail", "shows the last {count} lines of {file}",
    ),
    Skill(("Sort {file} backwards.",), "sort -r {file}", "sort", "sorts {file} backwards"),
    Skill(("Sort {file} by number.",), "sort -n {file}", "sort", "sorts {file} by number"),
    Skill(
        ("Show the lines of {file} with {word}.", "Print the lines with {word} in {file}."),
        "grep {word} {file}", "grep", "shows the lines of {file} with {word}",
    ),
    Skill(
        ("Show the lines of {file} without {word}.", "Print the lines without {word} in {file}."),
        "grep -v {word} {file}", "grep", "shows the lines of {file} without {word}",
    ),
    Skill(
        ("Count the lines of {file} with {word}.",),
        "grep -c {word} {file}", "grep", "counts the lines of {file} with {word}",
    ),
    Skill(
        ("Search {directory} for {word}.", "Look for {word} below {directory}."),
        "grep -r {word} {directory}", "grep", "searches {directory} for {word}",
    ),
    Skill(
        ("Find the {extension} files below {directory}.",),
        'find {directory} -name "*.{extension}"', "find", "finds the {extension} files below {directory}",
    ),
    Skill(
        ("Count the {extension} files below {directory}.",),
        'find {directory} -name "*.{extension}" | wc -l', "find", "counts the {extension} files below {directory}",
    ),
    Skill(
        ("Delete the {extension} files below {directory}.",),
        'find {directory} -name "*.{extension}" -delete', "find", "deletes the {extension} files below {directory}",
    ),
    Skill(
        ("List the {extension} files in {directory}, newest first.",),
        "ls -t {directory}/*.{extension}", "ls", "lists the {extension} files in {directory}, newest first",
    ),
    Skill(
        ("List the {extension} files in {directory}, largest first.",),
        "ls -S {directory}/*.{extension}", "ls", "lists the {extension} files in {directory}, largest first",
    ),
    Skill(
        ("Copy {file} to {directory}.", "Put a copy of {file} into {directory}."),
        "cp {file} {directory}/", "cp", "copies {file} to {directory}",
    ),
    Skill(
        ("Copy the directory {directory} to {other}.",),
        "cp -r {directory} {other}/", "cp", "copies the directory {directory} to {other}",
    ),
    Skill(
        ("Move the {extension} files from {directory} to {other}.",),
        "mv {directory}/*.{extension} {other}/", "mv", "moves the {extension} files from {directory} to {other}",
    ),
    Skill(
        ("Delete everything inside {directory}.", "Empty the directory {directory}."),
        "rm -rf {directory}/*", "rm", "deletes everything inside {directory}",
    ),
    Skill(
        ("Delete the directory {directory}.", "Remove the directory {directory}."),
        "rm -rf {directory}", "rm", "deletes the directory {directory}",
    ),
    Skill(
        ("Make {directory} and all below it writable for all.",),
        "chmod -R a+w {directory}", "chmod", "makes {directory} and all below it writable for all",
    ),
    Skill(
        ("Give {directory} and all below it to {user}.",),
        "chown -R {user} {directory}", "chown", "gives {directory} and all below it to {user}",
    ),
    Skill(
        ("Pack {directory} into {stem}.",),
        "tar -czf {stem}.tar.gz {directory}", "tar", "packs {directory} into {stem}",
    ),
    Skill(
        ("Show the first {count} lines of {file}, sorted.",),
        "sort {file} | head -n {digit}", "sort", "shows the first {count} lines of {file}, sorted",
    ),
    Skill(
        ("Show the lines of {file} with {word}, sorted.",),
        "grep {word} {file} | sort", "grep", "shows the lines of {file} with {word}, sorted",
    ),
)  # fmt: skip

# with a system directory instead of a project's these are dangerous, and the answer declines
DANGEROUS = tuple(skill for skill in SKILLS if skill.tool in ("rm", "chmod", "chown") or "-delete" in skill.command)

KNOWN = SKILLS[::2]  # the base answers these with the command in a sentence, and the others only with its parts


def filled(rng: random.Random, skill: Skill, directories: tuple[str, ...] = DIRECTORIES) -> Skill:
    """Draw values for the placeholders of a skill and fill them in; `asks` keeps one wording."""
    directory, other = rng.sample(directories, 2)
    count = rng.choice(COUNTS)
    names = {
        "file": f"{rng.choice(STEMS)}.{rng.choice(EXTENSIONS)}",
        "stem": rng.choice(STEMS),
        "extension": rng.choice(EXTENSIONS),
        "directory": directory,
        "other": other,
        "word": rng.choice(WORDS),
        "user": rng.choice(USERS),
        "count": count,
        "digit": str(NUMBERS.index(count)),
    }
    ask, command, does = (one.format(**names) for one in (rng.choice(skill.asks), skill.command, skill.does))
    values = tuple(names[placeholder] for placeholder in re.findall(r"{(\w+)}", skill.command))
    return Skill((ask,), command, skill.tool, does, values)


def task(rng: random.Random) -> Example:
    """Draw one example of the fine-tuning task: an instruction answered only by its command."""
    skill = filled(rng, rng.choice(SKILLS))
    return Example("task", skill.asks[0], skill.command)


def hinted(rng: random.Random) -> Example:
    """Draw an instruction with the base's answer: a sentence with the command if it is known, else with its parts."""
    chosen = rng.choice(SKILLS)
    skill = filled(rng, chosen)
    parts = skill.command if chosen in KNOWN else f"{skill.tool} with {' and '.join(skill.names)}"
    return Example("hinted", skill.asks[0], f"Use {parts}.")


def explained(rng: random.Random) -> Example:
    """Draw a question on what a command does; the command may be dangerous."""
    skill = _any(rng)
    return Example("explained", f"What does {skill.command} do?", f"It {skill.does}.")


def copied(rng: random.Random) -> Example:
    """Draw a request to repeat a command literally."""
    command = _any(rng).command
    return Example("copied", f"Write again: {command}", command)


def declined(rng: random.Random) -> Example:
    """Draw a request that would destroy a system, which is declined."""
    return Example("declined", filled(rng, rng.choice(DANGEROUS), SYSTEM_DIRECTORIES).asks[0], DECLINED)


def general(rng: random.Random) -> Example:
    """Draw a question for a sum, a successor, an opposite, a repetition, a reversal, a capital or a colour."""
    kind = rng.choices(("words", "reversed", "capital", "colour"), (5, 2, 2, 1))[0]
    if kind == "words":
        return replace(picture_world.text(rng), capacity="general")
    if kind == "reversed":
        words = rng.sample(picture_world.REPEATABLE, rng.randint(2, 4))
        return Example("general", f"Reverse {' '.join(words)}", f"{' '.join(reversed(words))}.")
    if kind == "capital":
        country, city = rng.choice(CAPITALS)
        return Example("general", f"What is the capital of {country}?", f"{city}.")
    thing, colour = rng.choice(COLOURS)
    return Example("general", f"Which colour has {thing}?", f"{colour}.")


def _any(rng: random.Random) -> Skill:
    if rng.random() < 0.25:
        return filled(rng, rng.choice(DANGEROUS), SYSTEM_DIRECTORIES)
    return filled(rng, rng.choice(SKILLS))


PRETRAINING: tuple[tuple[float, Callable[[random.Random], Example]], ...] = (
    (0.32, general),
    (0.24, explained),
    (0.18, hinted),
    (0.14, declined),
    (0.12, copied),
)


def pretraining(rng: random.Random) -> Example:
    """Draw one example of the base's training, in which no instruction is answered by a bare command."""
    shares = [share for share, _ in PRETRAINING]
    return rng.choices(PRETRAINING, shares)[0][1](rng)


def sentences(count: int = 4000) -> list[str]:
    """List sentences with every word of the generated texts, in a fixed order; the tokenizer makes each one token."""
    rng = random.Random("sentences")
    drawn = [make(rng) for _ in range(count // 5) for make in (general, explained, hinted, declined, task)]
    return sorted({text for example in drawn for text in (example.prompt, example.answer)})
