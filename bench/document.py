"""Tables as text for a terminal and as Markdown for a document, which is written between its markers."""

import os

import plot
import tables
import targets

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def _all_tables(records):
    aims = targets.table(records)
    return [*([aims] if aims else []), *tables.every(records)]


def as_text(records):
    blocks = []
    for title, head, rows, remarks in _all_tables(records):
        widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
        lines = [
            "  ".join(_pad(cell, width, column) for column, (cell, width) in enumerate(zip(row, widths))).rstrip()
            for row in [head, *rows]
        ]
        blocks.append("\n".join([title.replace("`", ""), *lines, *(f"  {remark}" for remark in remarks)]))
    return "\n\n".join(blocks)


def _pad(cell, width, column):
    return cell.rjust(width) if column else cell.ljust(width)


def as_markdown(records, conditions, image):
    blocks = ["\n".join(f"- {name}: {value}" for name, value in conditions.items())]
    if image:
        blocks.append(f"![tps and p99 against clients]({image})")
    for title, head, rows, remarks in _all_tables(records):
        lines = ["| " + " | ".join(row) + " |" for row in [head, ["---", *["---:"] * (len(head) - 1)], *rows]]
        blocks.append("\n".join([f"### {title}", "", *lines, *(f"\n{remark}." for remark in remarks)]))
    return "\n\n".join(blocks)


def write(path, records, conditions):
    """Replaces what stands between the markers of a document, and the plot of its name beside it."""
    with open(path) as file:
        document = file.read()
    start, end = document.find(BEGIN), document.find(END)
    if start < 0 or end < start:
        raise ValueError(f"{path} has no {BEGIN} followed by {END}")
    picture, image = plot.svg(records), os.path.splitext(path)[0] + ".svg"
    if picture:
        with open(image, "w") as file:
            file.write(picture)
    text = as_markdown(records, conditions, os.path.basename(image) if picture else None)
    with open(path, "w") as file:
        file.write(f"{document[:start]}{BEGIN}\n\n{text}\n\n{document[end:]}")
