"""What people read: its width, its words, and where its links lead.

- Lines of documents and comments, and lines of production code that hold a message, have at most
  100 columns. In documents, tables, code and what cannot be broken (a link, an address) may be
  longer.
- The words of words.toml appear in no document, comment or message.
- Each link of a document leads to a file and a heading that exist.

Places that are not yet as they should be are listed (TOO_WIDE, OTHER_WORDS). A place that has
become clean must leave its list, so the lists only become shorter.
"""

import io
import re
import tokenize
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 100

# Folders and files in which comments or messages are still too wide.
TOO_WIDE = ()

# Folders and files in which words of words.toml still appear.
OTHER_WORDS = ()

WORDS = [
    # A phrase can continue on the next line.
    (re.compile(word["pattern"].replace(" ", r"\s+"), re.IGNORECASE), word["instead"])
    for word in tomllib.loads((ROOT / "tests/scripts/words.toml").read_text())["word"]
]

# Results and downloads of tools. Hidden folders are skipped, except those of the project.
NOT_OURS = {"target", "__pycache__", "terraform.tfstate.d", "artifacts"}
HIDDEN_BUT_OURS = {".ci", ".github"}

# Generated parts of documents: their words are checked in their source.
GENERATED = re.compile(r"<!-- (?P<name>[\w. -]+): begin -->.*?<!-- (?P=name): end -->", re.DOTALL)


def files(folder=ROOT):
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            hidden = path.name.startswith(".") and path.name not in HIDDEN_BUT_OURS
            if not (hidden or path.name in NOT_OURS or path.is_symlink()):
                yield from files(path)
        else:
            yield path


FILES = {str(path.relative_to(ROOT)): path for path in files()}
DOCUMENTS = [name for name in FILES if name.endswith(".md")]
SHELL = [
    name
    for name, path in FILES.items()
    if path.suffix in ("", ".sh") and path.read_bytes().startswith(b"#!/")
]
OTHERS = [name for name in FILES if name.endswith((".rs", ".tf", ".tftpl", ".hcl", ".py"))] + [
    *SHELL,
    "Makefile",
]
OTHERS.remove("tests/scripts/test_prose.py")  # It quotes what it looks for.


def blank(match):
    """What a match becomes where it does not count: as many lines of nothing."""
    return "\n" * match.group().count("\n")


# -- Documents


def prose_of(text):
    """The numbered lines of a document, without code, generated parts and front matter."""
    text = GENERATED.sub(blank, text)
    text = re.sub(r"^( *)(```+|~~~+).*?^\1\2 *$", blank, text, flags=re.DOTALL | re.MULTILINE)
    return list(enumerate(text.split("\n"), 1))


def can_be_broken(line):
    """Whether a line that is too wide has a place before its hundredth column to break it at."""
    body = re.sub(r"^\s*([-*] |\d+\. )?", "", line)
    whole = re.sub(r"\[[^]]*\]\([^)]*\)|`[^`]*`", lambda match: "x" * len(match.group()), body)
    return " " in whole


def wide_lines(text):
    for number, line in prose_of(text):
        if len(line) > WIDTH and not line.lstrip().startswith("|") and can_be_broken(line):
            yield number, line


def other_words(number, text):
    for pattern, instead in WORDS:
        for match in pattern.finditer(text):
            # A word on a continuation line is reported on its own line.
            line = number + text.count("\n", 0, match.start())
            yield line, f"“{' '.join(match.group().split())}”: write {instead}"


def words_of_document(text):
    # Lines are joined, since a phrase can begin on one and end on the next.
    text = "\n".join(re.sub(r"`[^`]*`", "``", line) for _, line in prose_of(text))
    yield from other_words(1, text)


# -- Comments and strings of the other files


RUST = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
    | (?P<raw>b?r(?P<hashes>\#*)".*?"(?P=hashes))
    | (?P<string>b?"(?:\\.|[^"\\])*")
    | '(?:\\.[^']*|[^'\\])'""",
    re.DOTALL | re.VERBOSE,
)

TERRAFORM = re.compile(
    r"""(?P<heredoc><<-?(?P<end>\w+)\n.*?\n\s*(?P=end)$)
    | (?P<string>"(?:\\.|\$\{(?:[^{}"]|"[^"]*"|\{[^{}]*\})*\}|[^"\\])*")
    | (?P<comment>(?:\#|//)[^\n]*|/\*.*?\*/)""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


def pieces(name, text):
    """The comments and strings of a file: what it is, the line where it begins, what it says."""
    if name.endswith(".py"):
        yield from pieces_of_python(text)
    elif name.endswith((".rs", ".tf", ".hcl")):
        yield from matches(RUST if name.endswith(".rs") else TERRAFORM, text)
    elif name.endswith(".tftpl"):
        yield "string", 1, text
    else:
        for number, line in enumerate(text.split("\n"), 1):
            yield "comment" if line.lstrip().startswith("#") else "string", number, line


def matches(pattern, text):
    number, since = 1, 0
    for match in pattern.finditer(text):
        number, since = number + text.count("\n", since, match.start()), match.start()
        groups = match.groupdict()
        if groups["comment"]:
            yield "comment", number, match.group()
        elif groups.get("raw") or groups.get("heredoc") or groups["string"]:
            yield "string", number, match.group()


def pieces_of_python(text):
    before = None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield "comment", token.start[0], token.string
        elif token.type == tokenize.STRING:
            alone = before in (None, tokenize.INDENT, tokenize.NEWLINE, tokenize.DEDENT)
            yield "comment" if alone else "string", token.start[0], token.string
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            before = token.type


def joined(pieces):
    """Comments that follow each other line by line, as one: a phrase can begin on one of them."""
    kept = None
    for kind, number, text in pieces:
        if kind == "comment":
            text = re.sub(r"^(\s*)(///?|//!|#+)", lambda match: " " * len(match.group()), text)
        if kept and kind == kept[0] == "comment" and number == kept[1] + kept[2].count("\n") + 1:
            kept = (kind, kept[1], f"{kept[2]}\n{text}")
            continue
        if kept:
            yield kept
        kept = (kind, number, text)
    if kept:
        yield kept


def words_of(name, text):
    for kind, number, said in joined(pieces(name, text)):
        if kind == "string" and name.endswith(".rs"):
            # A message that continues on the next line.
            said = re.sub(r"\\\n\s*", blank_and_space, said)
        yield from other_words(number, re.sub(r"`[^`\n]*`", "``", said))


def blank_and_space(match):
    return " " + blank(match)


def production(name, text):
    """How many lines of a file are not tests of its own."""
    if name.startswith("tests/") or "/tests/" in name or name.endswith(("/tests.rs", "/build.rs")):
        return 0
    tests = re.search(r"^#\[cfg\(test\)\]\n(pub(\(crate\))? )?mod \w+ \{", text, re.MULTILINE)
    return text.count("\n", 0, tests.start()) if tests else text.count("\n")


def wide_comments_and_messages(name, text):
    lines = text.split("\n")
    counts = set()
    messages = production(name, text) if name.endswith(".rs") else 0
    for kind, number, said in pieces(name, text):
        covered = range(number, number + said.count("\n") + 1)
        counts.update(
            covered if kind == "comment" else (line for line in covered if line <= messages)
        )
    for number in sorted(counts):
        line = lines[number - 1]
        if (
            len(line) > WIDTH
            and " " in line.strip().lstrip("/!# ")
            and not re.search(r"https?://\S{60}", line)
        ):
            yield number, line


# -- The tests


def found(names, look):
    for name in names:
        for number, what in look(name):
            yield f"{name}:{number}: {what.strip()}"


def is_listed(name, places):
    return any(name == place or name.startswith(f"{place}/") for place in places)


def fails(findings):
    findings = list(findings)
    if findings:
        pytest.fail("\n".join([*findings[:60], f"{len(findings)} in all"]), pytrace=False)


def read(name):
    return FILES[name].read_text()


def look_at_width(name):
    return wide_comments_and_messages(name, read(name))


def look_at_words(name):
    return words_of(name, read(name))


def test_documents_have_100_columns():
    fails(found(DOCUMENTS, lambda name: wide_lines(read(name))))


def test_documents_use_plain_words():
    fails(found(DOCUMENTS, lambda name: words_of_document(read(name))))


def test_comments_and_messages_have_100_columns():
    fails(found((name for name in OTHERS if not is_listed(name, TOO_WIDE)), look_at_width))


def test_comments_and_messages_use_plain_words():
    fails(found((name for name in OTHERS if not is_listed(name, OTHER_WORDS)), look_at_words))


@pytest.mark.parametrize(
    ("place", "look"),
    [(place, look_at_width) for place in TOO_WIDE]
    + [(place, look_at_words) for place in OTHER_WORDS],
)
def test_a_place_that_is_clean_leaves_its_list(place, look):
    names = [name for name in OTHERS if is_listed(name, (place,))]
    assert names, f"{place} does not exist: take it out of the list"
    assert any(found(names, look)), f"{place} is clean now: take it out of the list"


def heading_anchors(text):
    """The anchors that GitHub gives to a document's headings."""
    seen = {}
    for _, line in prose_of(text):
        heading = re.match(r"#{1,6} +(.*?)( +#+)?$", line)
        if heading:
            said = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1])
            anchor = re.sub(r"[^\w\- ]", "", said.lower()).replace(" ", "-")
            again = seen.get(anchor, 0)
            seen[anchor] = again + 1
            yield f"{anchor}-{again}" if again else anchor
    yield from re.findall(r'<a (?:id|name)="([^"]+)"', text)


def links(text):
    # Generated tables have links as well; code has none.
    text = re.sub(r"^( *)(```+|~~~+).*?^\1\2 *$", blank, text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`\n]*`", "``", text)
    for match in re.finditer(
        r"\]\((?P<to>[^()\s]+)\)|^\[[^]]+\]: +(?P<there>\S+)|(?:src|href)=\"(?P<html>[^\"]+)\"",
        text,
        re.MULTILINE,
    ):
        yield 1 + text.count("\n", 0, match.start()), match["to"] or match["there"] or match["html"]


def dead_links(name):
    for number, target in links(read(name)):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (FILES[name].parent / path).resolve() if path else FILES[name]
        if not place.exists():
            yield number, f"{target}: no such file"
        elif not place.is_relative_to(ROOT):
            yield number, f"{target}: leads out of the project"
        elif anchor and (place.suffix != ".md" or anchor not in heading_anchors(place.read_text())):
            yield number, f"{target}: no such heading"


def links_without_target(name):
    text = read(name)
    for number, line in prose_of(text):
        for label in re.findall(r"\]\[([\w-]+)\]", re.sub(r"`[^`]*`", "``", line)):
            if not re.search(rf"^\[{label}\]: ", text, re.MULTILINE):
                yield number, f"[{label}]: leads nowhere"


def test_no_link_is_dead():
    fails(found(DOCUMENTS, links_without_target))
    fails(found(DOCUMENTS, dead_links))


def test_the_readme_is_one_page():
    assert read("README.md").count("\n") <= 150


# -- The check itself


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("short\n", []),
        ("word " * 21, [1]),
        ("| " + "word " * 21, []),
        ("```\n" + "word " * 21 + "\n```\n" + "word " * 21, [4]),
        ("- [" + "word " * 21 + "](README.md)", []),
        ("- see [" + "word " * 21 + "](README.md)", [1]),
    ],
)
def test_wide_lines_are_found(text, lines):
    assert [number for number, _ in wide_lines(text)] == lines


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.rs", "// It stands\n// there.\nlet a = 1;\n// nobody is\n// told.\n", [1, 4]),
        (
            "a.rs",
            'let c = \'"\'; // "\nlet under_way = "under way";\nlet s = r#"whoever"#;\n',
            [2, 3],
        ),
        ("a.rs", 'say("what \\\n    is to \\\n    be");\n', [2]),
        (
            "a.rs",
            "fn stand<'a>(whoever: &'a str) {} // `whatever`, a stand-in, * stands for any\n",
            [],
        ),
        (
            "a.tf",
            '# whatever\ndescription = "Who is told of ${join(", ", ["a"])} whoever"\n',
            [1, 2, 2],
        ),
        ("a.py", '"""Whoever."""\nwhoever = 1  # whatever\nsay("whoever")\n', [1, 2, 3]),
        ("Makefile", "whatever: ## Whatever.\n# under way\n", [1, 1, 2]),
    ],
)
def test_words_are_found_where_people_read_them(name, text, lines):
    assert sorted(number for number, _ in words_of(name, text)) == lines


def test_messages_of_production_code_are_found_too_wide():
    message = f'    let a = "{"word " * 21}";\n'
    text = f"{message}{message.replace('word ', 'word_')}#[cfg(test)]\nmod tests {{\n{message}}}\n"
    assert [number for number, _ in wide_comments_and_messages("src/a.rs", text)] == [1, 2]
    assert not list(wide_comments_and_messages("src/tests.rs", text))


def test_anchors_are_those_of_github():
    text = "# The `map` of it\n## What it is, and for whom?\n## Again\n## Again\n"
    assert list(heading_anchors(text)) == [
        "the-map-of-it",
        "what-it-is-and-for-whom",
        "again",
        "again-1",
    ]
