"""Figures of a run and how they are shown: rounds of neighbours in time, medians with their spread, Markdown tables."""

import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from targets import Target
from wrk import Load


@dataclass(frozen=True)
class Row:
    """A line of the table: a target, and the session that its requests name."""

    name: str
    target: Target
    session: str | None = None


Measured = TypeVar("Measured")


def interleaved(
    what: str, rows: list[Row], rounds: int, measure: Callable[[Row], Measured]
) -> list[tuple[Row, list[Measured]]]:
    """Each row once per round, in turn."""
    results: list[tuple[Row, list[Measured]]] = [(row, []) for row in rows]
    for number in range(1, rounds + 1):
        print(f"{what}: round {number} of {rounds}", file=sys.stderr)
        for row, of_row in results:
            of_row.append(measure(row))
    return results


def latency_table(label: str, loads: list[tuple[Row, list[Load]]]) -> None:
    direct = loads[0][1]
    heading(f"Latency in microseconds, {label} POST, 1 connection in a closed loop")
    lines = []
    for row, of_row in loads:
        p50, p99 = [one.p50 for one in of_row], [one.p99 for one in of_row]
        added50 = [one.p50 - base.p50 for one, base in zip(of_row, direct, strict=True)]
        added99 = [one.p99 - base.p99 for one, base in zip(of_row, direct, strict=True)]
        lines.append([row.name, spread(p50, 0), spread(p99, 0), spread(added50, 0), spread(added99, 0)])
    table("target | p50 | p99 | added p50 | added p99", lines)


def ratios(values: Iterable[float], bases: Iterable[float]) -> list[float]:
    return [value / base for value, base in zip(values, bases, strict=True)]


def spread(values: Sequence[float], digits: int) -> str:
    """Median, and least and most where there are several."""
    middle = f"{median(values):.{digits}f}"
    return f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(values) > 1 else middle


def introduction(rounds: int) -> None:
    print(f"Machine: {platform.machine()}, {os.cpu_count()} processors, Linux {platform.release()};", end=" ")
    print(f"load average before: {os.getloadavg()[0]:.2f}. Median (least-most) of {rounds} interleaved rounds.")


def heading(text: str) -> None:
    print(f"\n### {text}\n", flush=True)


def table(head: str, lines: list[list[str]]) -> None:
    columns = [cell.strip() for cell in head.split("|")]
    widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
    rule = ["-" * width for width in widths]
    for line in (columns, rule, *lines):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
    sys.stdout.flush()
