"""Throughput and p99 against the number of clients, as an SVG: a column a mode, a line a peer."""

import math

MODES = ("simple", "prepared")
FIELDS = {"tps": "transactions per second", "p99_us": "p99 in µs"}
COLOURS = {
    "direct": "#888888",
    "haproxy": "#c08a00",
    "pgbouncer": "#2a6fbb",
    "odyssey": "#7a4fa3",
    "howdah": "#c0392b",
    "howdah-2": "#e59866",
}
PANEL_WIDTH, PANEL_HEIGHT, LEFT, TOP, GAP_X, GAP_Y = 380, 220, 70, 60, 90, 70


def svg(records):
    """None without at least two numbers of clients."""
    clients = sorted(records.values("clients", "load"))
    modes = [mode for mode in MODES if mode in records.values("mode", "load")]
    if len(clients) < 2 or not modes:
        return None
    names = [name for name in COLOURS if name in records.values("peer", "load")]
    width = LEFT + len(modes) * (PANEL_WIDTH + GAP_X)
    height = TOP + len(FIELDS) * (PANEL_HEIGHT + GAP_Y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_legend(names),
    ]
    for row, (field, title) in enumerate(FIELDS.items()):
        for column, mode in enumerate(modes):
            series = {name: _points(records, field, mode, name, clients) for name in names}
            at = LEFT + column * (PANEL_WIDTH + GAP_X), TOP + row * (PANEL_HEIGHT + GAP_Y)
            parts += _panel(at, f"{mode}: {title}", clients, series, is_log=field != "tps")
    return "\n".join([*parts, "</svg>\n"])


def _points(records, field, mode, name, clients):
    medians = [(count, records.median(field, kind="load", mode=mode, peer=name, clients=count)) for count in clients]
    return [(count, value) for count, value in medians if value]


def _legend(names):
    for place, name in enumerate(names):
        x = LEFT + place * 110
        yield f'<line x1="{x}" y1="20" x2="{x + 24}" y2="20" stroke="{COLOURS[name]}" stroke-width="3"/>'
        yield f'<text x="{x + 30}" y="24">{name}</text>'


def _panel(at, title, clients, series, is_log):
    left, top = at
    values = [value for points in series.values() for _, value in points]
    if not values:
        return []
    marks = _decades(values) if is_log else _steps(max(values))
    scale = math.log10 if is_log else float
    low, high = scale(marks[0]), scale(marks[-1])
    x = lambda count: left + PANEL_WIDTH * clients.index(count) / (len(clients) - 1)
    y = lambda value: top + PANEL_HEIGHT * (1 - (scale(value) - low) / (high - low))
    parts = [f'<text x="{left}" y="{top - 10}" font-weight="bold">{title}</text>']
    for mark in marks:
        parts.append(f'<line x1="{left}" y1="{y(mark):.1f}" x2="{left + PANEL_WIDTH}" y2="{y(mark):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark:,.0f}</text>')
    for count in clients:
        parts.append(f'<text x="{x(count):.1f}" y="{top + PANEL_HEIGHT + 18}" text-anchor="middle">{count}</text>')
    parts.append(
        f'<text x="{left + PANEL_WIDTH / 2}" y="{top + PANEL_HEIGHT + 36}" text-anchor="middle">clients</text>'
    )
    for name, points in series.items():
        path = " ".join(f"{x(count):.1f},{y(value):.1f}" for count, value in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>')
        parts += (
            f'<circle cx="{x(count):.1f}" cy="{y(value):.1f}" r="3" fill="{COLOURS[name]}"/>' for count, value in points
        )
    return parts


def _steps(highest):
    """From 0 to above the highest in about five round steps."""
    step = 10 ** math.floor(math.log10(highest / 2))
    step = next(step * factor for factor in (1, 2, 5, 10) if step * factor * 5 >= highest)
    return [step * count for count in range(math.ceil(highest / step) + 1)]


def _decades(values):
    """Powers of ten around the values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10**power for power in range(low, max(high, low + 1) + 1)]
