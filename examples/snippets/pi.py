"""Prints π with so many digits behind the point: ``pi.py [DIGITS]``, 1,000 if not said.

By Machin's formula, π = 16 arctan(1/5) - 4 arctan(1/239), in whole numbers: every digit is exact.
"""

from __future__ import annotations

import sys


def arctan_of_inverse(x: int, unit: int) -> tuple[int, int]:
    """Return arctan(1/x) in units of 1/unit, and by how many of them it may be off."""
    power = total = unit // x
    sign, terms = 1, 1
    while power:
        power //= x * x
        sign = -sign
        terms += 1
        total += sign * (power // (2 * terms - 1))
    return total, 2 * terms


def pi_digits(digits: int) -> int:
    """Return the whole part of π times 10 to the power of ``digits``."""
    spare = 10
    while True:
        unit, cut = int(10 ** (digits + spare)), int(10**spare)
        (fifth, error_a), (other, error_b) = arctan_of_inverse(5, unit), arctan_of_inverse(239, unit)
        pi, error = 16 * fifth - 4 * other, 16 * error_a + 4 * error_b
        least, most = (pi - error) // cut, (pi + error) // cut
        if least == most:
            return least
        spare *= 2  # a long row of nines or zeros: look further behind it


def main() -> None:
    digits = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    sys.set_int_max_str_digits(0)
    shown = str(pi_digits(digits))
    print(f"{shown[0]}.{shown[1:]}" if digits else shown)


if __name__ == "__main__":
    main()
