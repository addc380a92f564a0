"""Draw one Delta block: `python docs/figures/delta_block.py` writes delta_block.svg next to this file."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 860, 612
FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
# Okabe and Ito's colours, which colour-blind readers can distinguish; darker where text needs it.
INK, MUTED, RULE, CARD = "#1f2933", "#5b6770", "#d5dbe1", "#ffffff"
STATE, DIRECTION, VALUE, GATE = "#0072b2", "#c44e00", "#00805e", "#a8487f"
COLOURS = {"state": STATE, "direction": DIRECTION, "value": VALUE, "gate": GATE, "plain": MUTED}
TINTS = {STATE: "#e8f2f9", DIRECTION: "#fcefe6", VALUE: "#e5f4ef", GATE: "#f8ecf3", MUTED: "#f3f5f7"}
SYMBOL = re.compile(r"\^(?P<above>\w)|_(?P<below>\w+)|(?P<letter>[A-Za-zβ]'?)|(?P<other>[^A-Za-zβ^_]+)")
TYPOGRAPHY = {ord("-"): "\N{MINUS SIGN}", ord("'"): "\N{PRIME}", ord(" "): "\N{NO-BREAK SPACE}"}
Point = tuple[float, float]


def number(value: float) -> str:
    """A coordinate without trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def spans(text: str, size: float) -> str:
    """`text` as SVG; between dollar signs letters are italic, `^T` is raised, `_max` lowered, - a minus, ' a prime."""
    parts = []
    for index, piece in enumerate(text.split("$")):
        parts.append(formula(piece, size) if index % 2 else escape(piece))
    return "".join(parts)


def formula(text: str, size: float) -> str:
    """The spans of one formula. Viewers differ on `baseline-shift`, so `dy` moves text up and back down instead."""
    parts, offset = [], 0.0
    for match in SYMBOL.finditer(text):
        kind, content = str(match.lastgroup), match[match.lastindex or 0].translate(TYPOGRAPHY)
        wanted = {"above": -0.36 * size, "below": 0.22 * size}.get(kind, 0.0)
        attributes = f' dy="{number(wanted - offset)}"' if wanted != offset else ""
        if wanted:
            attributes += f' font-size="{number(0.68 * size)}"'
        if kind == "letter":
            attributes += ' font-style="italic"'
        parts.append(f"<tspan{attributes}>{content}</tspan>" if attributes else content)
        offset = wanted
    # A shift lasts beyond its span, and only a span with a character can shift back.
    return "".join(parts) + (f'<tspan dy="{number(-offset)}">\u200b</tspan>' if offset else "")


def label(
    at: Point, text: str, size: float = 15, colour: str = INK, *, anchor: str = "middle", weight: int = 400
) -> str:
    """Text whose baseline is at `at`."""
    bold = f' font-weight="{weight}"' if weight != 400 else ""
    return (
        f'<text x="{number(at[0])}" y="{number(at[1])}" font-size="{number(size)}" fill="{colour}" '
        f'text-anchor="{anchor}" xml:space="preserve"{bold}>{spans(text, size)}</text>'
    )


def box(centre: Point, size: Point, text: str, caption: str, colour: str) -> str:
    """A rounded box with a formula and a caption below it."""
    (x, y), (width, height) = centre, size
    return (
        f'<rect x="{number(x - width / 2)}" y="{number(y - height / 2)}" width="{number(width)}" '
        f'height="{number(height)}" rx="8" fill="{TINTS[colour]}" stroke="{colour}" stroke-width="1.5"/>'
        + label((x, y), text, 16)
        + label((x, y + 16), caption, 11.5, MUTED)
    )


def route(points: list[Point], radius: float = 8) -> str:
    """The path through `points`, with rounded corners."""
    path = f"M{number(points[0][0])} {number(points[0][1])}"
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        for keyword, other in (("L", before), ("Q", after)):
            (x, y), (to_x, to_y) = corner, other
            length = abs(to_x - x) + abs(to_y - y)
            near = (x + radius * (to_x - x) / length, y + radius * (to_y - y) / length)
            bend = f"{number(x)} {number(y)} " if keyword == "Q" else ""
            path += f" {keyword}{bend}{number(near[0])} {number(near[1])}"
    return path + f" L{number(points[-1][0])} {number(points[-1][1])}"


def wire(points: list[Point], kind: str, *, arrow: bool = True, bridge: bool = False) -> str:
    """A line through `points` in the colour of its quantity; a bridge has a margin where it crosses other lines."""
    path = route(points)
    head = f' marker-end="url(#{kind})"' if arrow else ""
    margin = f'<path d="{path}" stroke="{CARD}" stroke-width="9"/>' if bridge else ""
    return f'<g fill="none">{margin}<path d="{path}" stroke="{COLOURS[kind]}" stroke-width="2"{head}/></g>'


def dot(at: Point, kind: str) -> str:
    """A branching point."""
    return f'<circle cx="{number(at[0])}" cy="{number(at[1])}" r="4" fill="{COLOURS[kind]}"/>'


def arrowheads() -> str:
    """One arrowhead per colour; lines end inside it, so that its tip touches the target."""
    return "".join(
        f'<marker id="{kind}" viewBox="0 0 10 10" refX="9.5" refY="5" markerWidth="10" markerHeight="10" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.8 L10 5 L0 9.2 L2.2 5 Z" fill="{colour}"/></marker>'
        for kind, colour in COLOURS.items()
    )


def title() -> str:
    """The name and the update, each symbol in the colour of its line below."""
    symbols = [("$X'$", STATE), (" = ", INK), ("$X$", STATE), (" + ", INK), ("$β$", GATE), (" ", INK)]
    symbols += [("$k$", DIRECTION), (" (", INK), ("$v^T$", VALUE), ("$ - $", INK), ("$k^T$", DIRECTION)]
    symbols += [("$X$", STATE), (")", INK)]
    equation = "".join(f'<tspan fill="{colour}">{spans(text, 19)}</tspan>' for text, colour in symbols)
    return label((32, 48), "One Delta block", 19, INK, anchor="start", weight=700) + (
        f'<text x="828" y="48" font-size="19" text-anchor="end" xml:space="preserve">{equation}</text>'
    )


def block() -> str:
    """The block itself, from left to right: context, direction, value and gate, and the rewrite of the state."""
    top, read, along, middle, value, gated = 112, 192, 264, 308, 352, 396
    parts = [
        wire([(53, top), (753, top)], "state"),
        wire([(779, top), (805, top)], "state"),
        wire([(104, top), (104, middle - 24)], "state"),
        wire([(530, top), (530, read - 24)], "state"),
        wire([(150, middle), (182, middle)], "plain", arrow=False),
        wire([(182, middle), (182, along), (208, along)], "plain"),
        wire([(182, middle), (182, (value + gated) / 2), (208, (value + gated) / 2)], "plain"),
        wire([(334, along), (382, along)], "direction"),
        wire([(502, along), (750, along), (750, read + 24)], "direction"),
        wire([(530, along), (530, read + 24)], "direction"),
        wire([(334, value), (648, value), (648, read + 24)], "value", bridge=True),
        wire([(334, gated), (382, gated)], "gate"),
        wire([(502, gated), (782, gated), (782, read + 24)], "gate"),
        wire([(574, read), (598, read)], "plain"),
        wire([(698, read), (720, read)], "plain"),
        wire([(766, read - 24), (766, top + 13)], "state"),
        dot((104, top), "state"),
        dot((530, top), "state"),
        dot((182, middle), "plain"),
        dot((530, along), "direction"),
        box((104, middle), (92, 48), "Norm", "context", MUTED),
        box((271, along), (126, 48), "$F$", "Linear, ReLU, Linear", DIRECTION),
        box((271, (value + gated) / 2), (126, 92), "Linear", "“write”, $d$ → 2", VALUE),
        box((442, along), (120, 48), "$h / |h|$", "unit direction", DIRECTION),
        box((442, gated), (120, 48), "$β_max$ sigmoid", "gate", GATE),
        box((530, read), (88, 48), "$k^TX$", "read", STATE),
        box((648, read), (100, 48), "$v^T - k^TX$", "compare", MUTED),
        box((766, read), (92, 48), "$β k$ ( · )", "write along $k$", STATE),
        f'<circle cx="766" cy="{top}" r="13" fill="{TINTS[STATE]}" stroke="{STATE}" stroke-width="1.5"/>',
        f'<path d="M760 {top} h12 M766 {top - 6} v12" stroke="{INK}" stroke-width="1.8" stroke-linecap="round"/>',
        label((32, top + 6), "$X$", 19, STATE, anchor="start"),
        label((828, top + 6), "$X'$", 19, STATE, anchor="end"),
        label((317, top - 10), "shortcut: the state passes through", 12.5, MUTED),
        label((166, middle - 8), "$c$", 15, MUTED),
        label((356, along - 8), "$h$", 15, DIRECTION),
        label((590, along - 8), "$k$", 15, DIRECTION),
        label((442, value - 8), "$v$", 15, VALUE),
        label((590, gated - 8), "$β$", 15, GATE),
    ]
    return "\n".join(parts)


def gate_line() -> str:
    """The number line of beta: the effect of the shortcut on the state's component along k."""
    left, right, y = 250, 740, 532
    stops = [
        (0, "identity", "1", "$k^TX' = k^TX$"),
        (1, "overwrite", "0", "$k^TX' = v^T$"),
        (2, "over-relaxation", "-1", "$k^TX' = 2v^T - k^TX$"),
    ]
    parts = [
        f'<path d="M32 446 H828" stroke="{RULE}"/>',
        label((32, 478), "What the gate decides", 15, INK, anchor="start", weight=700),
        label((32, y + 5), "gate $β$", 13, GATE, anchor="start"),
        label((32, y + 31), "eigenvalue along $k$", 13, MUTED, anchor="start"),
        label((32, y + 54), "the read-out becomes", 13, MUTED, anchor="start"),
        f'<rect x="{left}" y="{y - 3}" width="{right - left}" height="6" rx="3" fill="url(#range)"/>',
    ]
    for beta, name, eigenvalue, readout in stops:
        x = left + beta * (right - left) / 2
        parts += [
            f'<circle cx="{number(x)}" cy="{y}" r="11" fill="{CARD}" stroke="{GATE}" stroke-width="2"/>',
            label((x, y + 4.5), str(beta), 13, INK, weight=700),
            label((x, y - 20), name, 14, INK),
            label((x, y + 31), f"$1 - β = {eigenvalue}$", 13, INK),
            label((x, y + 54), readout, 13, INK),
        ]
    return "\n".join(parts)


def draw() -> str:
    """The picture as SVG, on a card that is readable on light and dark pages."""
    description = (
        "The state X runs along a shortcut. Its norm feeds a sublayer, whose output becomes the unit direction k, and "
        "a Linear that gives the value v and the gate beta. The state is read along k, compared with v, and beta times "
        "the difference is written back along k."
    )
    gradient = (
        f'<linearGradient id="range"><stop stop-color="{RULE}"/><stop offset="0.5" stop-color="#cc79a7"/>'
        f'<stop offset="1" stop-color="{GATE}"/></linearGradient>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'role="img" font-family="{FONT}">',
            f"<title>One Delta block</title><desc>{description}</desc>",
            f"<defs>{arrowheads()}{gradient}</defs>",
            f'<rect x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}" rx="14" fill="{CARD}" stroke="{RULE}"/>',
            title(),
            block(),
            gate_line(),
            "</svg>\n",
        ]
    )


def main() -> None:
    """Write the picture next to this file."""
    Path(__file__).with_suffix(".svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
