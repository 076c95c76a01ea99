"""Kinds of files, recognised by their first bytes or first line, for messages about files that cannot be read."""

BINARY = (
    (b"PAR1", "Parquet", "{form}=parquet reads it"),
    (b"PK\x03\x04", "a zip archive or an Excel sheet (.xlsx)", "save it as CSV in UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an Excel sheet (.xls)", "save it as CSV in UTF-8"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it"),
    (b"BZh", "compressed by bzip2", "unpack it"),
    (b"\xfd7zXZ\x00", "compressed by xz", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it"),
    (b"ARROW1", "an Arrow or Feather file", "save it as Parquet or as CSV"),
    (b"SQLite format 3\x00", "a SQLite database", "export a table as CSV"),
    (b"%PDF", "a PDF", "save its table as CSV"),
    (b"\xff\xfe", "text in UTF-16", "save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16", "save it as UTF-8"),
    (b"\x80", "pickled data", "save it as CSV"),
)
"""(first bytes, kind of file, remedy)."""
DELIMITERS = {"\t": "tabs", ";": "semicolons", "|": "vertical bars", ",": "commas"}
FORMS = {"\t": "tsv", ",": "csv"}


def seeming_bytes(raw: bytes, form: str) -> str:
    """A sentence on the kind of file that bytes seem to be, if they are not what they should be, and on the remedy.

    Args:
        raw: the file's bytes.
        form: the name, in messages, of the setting for the form of a file.
    """
    for start, kind, remedy in BINARY:
        if raw.startswith(start):
            return f" It seems to be {kind}: {remedy.format(form=form)}."
    if b"\x00" in raw[:1000]:
        return " It seems to be no text: save it as CSV in UTF-8."
    return " Save it as UTF-8 (Latin-1 and Windows' own encodings are not told apart by their bytes)."


def seeming_text(text: str, form: str, tried: str | None = None) -> str:
    """A sentence on the form that text seems to have, if it lacks the expected columns or syntax; empty if unknown.

    Args:
        text: the file's text.
        form: the name, in messages, of the setting for the form of a file.
        tried: the delimiter that its cells were split at, if they were.
    """
    start = text.lstrip()[:1]
    if start in ("{", "["):
        kind = "function_vectors" if start == "[" else "lre" if '"samples"' in text else "jsonl"
        return f" It begins like JSON: {form}={kind} reads that."
    if start == "<":
        return " It seems to be HTML or XML: save its table as CSV."
    header = next(iter(text.lstrip().splitlines()), "")
    delimiter = max((each for each in DELIMITERS if each != tried), key=header.count)
    if header.count(delimiter) <= (header.count(tried) if tried else 0):
        return ""
    remedy = f"{form}={FORMS[delimiter]} reads that" if delimiter in FORMS else "save it with commas"
    return f" Its first line seems to have {DELIMITERS[delimiter]} between cells: {remedy}."
