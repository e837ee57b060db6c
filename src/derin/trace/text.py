"""A trace as plain text."""

from __future__ import annotations

from derin.trace.numbers import shown
from derin.trace.result import Trace
from derin.trace.story import Group, Line, Section, story

WIDEST = 44  # letters that are aligned


def as_text(trace: Trace, form: str, layout: str, digits: int) -> str:
    """Inputs, forward, backward, gradients, update; see Trace.to_text."""
    sections = story(trace, form, layout, digits)
    lines = [headline(trace, digits)]
    for section in sections:
        if section.name == "inputs" and said_in_headline(trace):
            continue
        lines += ["", section.title, *_section(section)]
    if trace.why_forward_only:
        lines += ["", f"no gradients: {trace.why_forward_only}"]
    return "\n".join(line.rstrip() for line in lines)


def said_in_headline(trace: Trace) -> bool:
    return not trace.parameters and all(v.shape == () for v in trace.arguments)


def headline(trace: Trace, digits: int = 5) -> str:
    """f(x) = 18   at x = 3"""
    value = shown(trace.outputs[0], digits) if trace.outputs else "nothing"
    if trace.parameters or not said_in_headline(trace):
        return f"{trace.title}: {trace.of} = {value}"
    at = ", ".join(f"{v.name} = {shown(v, digits)}" for v in trace.arguments)
    return f"{trace.title} = {value}   at {at}" if at else f"{trace.title} = {value}"


def _section(section: Section) -> list[str]:
    lines = []
    for group in section.groups:
        inner = "  "
        if group.title:
            lines.append(f"  {group.title}")
            inner = "    "
        lines += [inner + line for line in _group(group, sources=section.name == "forward")]
    return lines


def _group(group: Group, sources: bool) -> list[str]:
    side = max((len(line.label) for line in group.lines), default=0)
    width = min(WIDEST, max((len(line.text) for line in group.lines if line.numbers), default=0))
    lines, said = [], ""
    for line in group.lines:
        source = str(line.source) if line.source and sources and group.title else ""
        if source and source != said:
            said = source
            lines.append(f"{'':>{side}}  # {source}: {line.source.text}" if line.source else "")
        lines += _line(line, side, width)
    return lines


def _line(line: Line, side: int, width: int) -> list[str]:
    label = f"{line.label:>{side}}  " if side else ""
    details = line.details
    if details and details[0].startswith("["):  # an array: its rows below each other
        first = f"{label}{line.text} = "
        return [first + details[0], *(" " * len(first) + more for more in details[1:])]
    first = f"{label}{line.text:<{width}} = {line.numbers}" if line.numbers else f"{label}{line.text}"
    return [first, *(f"{'':>{len(label)}}    {detail}" for detail in details)]
