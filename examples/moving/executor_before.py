"""Counts primes in slices of a range, and tells which slice is done: with processes of this machine."""

from __future__ import annotations

from concurrent.futures import Future, ProcessPoolExecutor, as_completed

SLICE = 20_000
SLICES = 8


def count_primes(start: int) -> int:
    """Count the primes among ``SLICE`` numbers."""
    return sum(is_prime(number) for number in range(start, start + SLICE))


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def main() -> None:
    starts = [index * SLICE for index in range(SLICES)]
    with ProcessPoolExecutor(max_workers=2) as executor:
        counts = list(executor.map(count_primes, starts))
        print(f"{sum(counts)} primes below {SLICE * SLICES:,}: {counts}")

        futures: dict[Future[int], int] = {executor.submit(count_primes, start): start for start in starts}
        done = sorted(futures[future] for future in as_completed(futures))
        print(f"slices done: {done}")

        failed = executor.submit(count_primes, "ten")  # type: ignore[arg-type]  # it is to fail
        print(f"it fails with {type(failed.exception()).__name__}: {failed.exception()}")


if __name__ == "__main__":
    main()
