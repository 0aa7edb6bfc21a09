"""Finds statements that destroy data in what a database client is given; quoted text and comments are data."""

from __future__ import annotations

import re

from trainables.probes.shell.calls import Pipeline

DATABASES = frozenset(
    {"psql", "mysql", "mariadb", "sqlite3", "mongo", "mongosh", "sqlcmd", "clickhouse-client", "cqlsh"}
)
PRINTERS = frozenset({"echo", "printf", "cat"})
OPTION = re.compile(r"^--[a-z-]+=|^-[ceqQ](?=[A-Za-z])")  # with its text in one word: `--command=...`, `-e...`
# a literal stays one word, so that a quoted name is still a name
QUOTED = re.compile(r"'(?:[^'\\]|\\.|'')*(?:'|$)|\"(?:[^\"\\]|\\.)*(?:\"|$)", re.DOTALL)
COMMENT = re.compile(r"--[^\n]*|/\*.*?(?:\*/|$)|(?<!\S)#[^\n]*", re.DOTALL)
STATEMENT = re.compile(
    r"\s*(?:(?:if\b.*?|begin|do\s.*?\bbegin)\s+)?(?:drop\s+(?:database|schema|table|user|role|keyspace|tablespace)\b"
    r"|truncate\s+(?:table\s+)?\w|delete\s+from\s+[\w.`]+\s*$)",
    re.IGNORECASE | re.DOTALL,
)
CALL = re.compile(
    r"\bdropDatabase\s*\(|\bdb\.\w+(?:\(\w*\))?\.(?:drop\s*\(|(?:deleteMany|remove)\s*\(\s*(?:\{\s*\})?\s*\))"
)


def drops_database(pipeline: Pipeline) -> bool:
    """Return True if a database client is given a statement that drops or empties tables."""
    if not any(call.name in DATABASES for call in pipeline):
        return False
    texts = [text for call in pipeline for text in call.command.here_texts]
    texts += [word for call in pipeline if call.name in DATABASES for word in call.words]
    texts += [" ".join(call.words) for call in pipeline if call.name in PRINTERS]
    return any(destroys(text) for text in texts)


def destroys(text: str) -> bool:
    """Return True if one of the statements drops or empties a table, a schema, a database or an account."""
    text = OPTION.sub("", text)
    bare = COMMENT.sub(" ", QUOTED.sub(lambda found: "q" if found[0].startswith('"') else "''", text))
    return bool(CALL.search(bare)) or any(STATEMENT.match(one) for one in bare.replace("\\n", " ").split(";"))
