"""Writes a large synthetic file of cities: the input of the benchmarks, never a data set to learn from.

    python benchmarks/generate.py --rows 1000000 --out FILE [--format ndjson|csv] [--seed N]

Same columns as pipelines/data/cities.csv. The same seed gives the same bytes on every machine, and a
shorter file is the beginning of a longer one. Memory does not grow with the number of rows. Standard
library only, so that a peer's environment can run it too. Prints one JSON line about what it wrote.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

CHUNK_ROWS = 10_000
COLUMNS = ("city_id", "name", "country", "continent", "timezone", "latitude", "longitude", "population")

# Sixteen countries, each with a point on land that its made-up cities are scattered around. All are far
# enough from the poles and the date line that scattering stays inside the legal range.
COUNTRIES = (
    ("AR", "SA", "America/Argentina/Buenos_Aires", -34.6, -62.4),
    ("AU", "OC", "Australia/Sydney", -32.5, 146.2),
    ("BR", "SA", "America/Sao_Paulo", -19.9, -46.1),
    ("CA", "NA", "America/Toronto", 48.3, -79.7),
    ("CN", "AS", "Asia/Shanghai", 31.4, 112.3),
    ("DE", "EU", "Europe/Berlin", 50.9, 10.3),
    ("EG", "AF", "Africa/Cairo", 27.1, 30.2),
    ("FR", "EU", "Europe/Paris", 46.8, 2.6),
    ("IN", "AS", "Asia/Kolkata", 22.7, 78.9),
    ("JP", "AS", "Asia/Tokyo", 36.2, 138.4),
    ("KE", "AF", "Africa/Nairobi", 0.4, 37.6),
    ("MX", "NA", "America/Mexico_City", 21.3, -101.8),
    ("NG", "AF", "Africa/Lagos", 9.2, 7.9),
    ("PL", "EU", "Europe/Warsaw", 52.1, 19.3),
    ("US", "NA", "America/Chicago", 39.4, -93.2),
    ("VN", "AS", "Asia/Ho_Chi_Minh", 16.5, 107.4),
)
# An eighth of these names, as a tenth of real ones, is not plain ASCII; decoders take another path for those.
HEADS = "Al Bel Cor Dra El Far Gór Hal Is Jun Kal Lin Mar Nor Or Pel".split()
MIDDLES = "a da e go ha i ka lo ma ni o pa ra se ta ü".split()
TAILS = "bad berg burg caster field grad ham mouth nagar polis pur stad ton ville wick zhou".split()


class City(NamedTuple):
    """One row. Latitude and longitude in degrees, population in people."""

    city_id: str
    name: str
    country: str
    continent: str
    timezone: str
    latitude: float
    longitude: float
    population: int


def cities(seed: int) -> Iterator[City]:
    """Made-up cities without end, the same ones for the same seed."""
    rng = random.Random(seed)
    number = 0
    while True:
        number += 1
        # One draw feeds every field: 16 bits of choices, 2 x 16 bits of place, 16 bits of size.
        bits = rng.getrandbits(64)
        country, continent, timezone, latitude, longitude = COUNTRIES[bits & 15]
        name = HEADS[bits >> 4 & 15] + MIDDLES[bits >> 8 & 15] + TAILS[bits >> 12 & 15]
        north = (bits >> 16 & 0xFFFF) / 0xFFFF - 0.5
        east = (bits >> 32 & 0xFFFF) / 0xFFFF - 0.5
        # Many towns and few cities: the cube of an even draw, from 1,000 to about 16.6 million.
        population = 1_000 + (bits >> 56) ** 3 + (bits >> 48 & 0xFF)
        yield City(
            f"syn-{number:09d}",
            name,
            country,
            continent,
            timezone,
            round(latitude + 4 * north, 5),
            round(longitude + 4 * east, 5),
            population,
        )


def ndjson_line(city: City) -> str:
    """One JSON object; nothing in a made-up city needs an escape."""
    return (
        f'{{"city_id":"{city.city_id}","name":"{city.name}","country":"{city.country}",'
        f'"continent":"{city.continent}","timezone":"{city.timezone}","latitude":{city.latitude},'
        f'"longitude":{city.longitude},"population":{city.population}}}\n'
    )


def csv_line(city: City) -> str:
    """One CSV row; nothing in a made-up city needs a quote."""
    return ",".join(map(str, city)) + "\n"


FORMATS: dict[str, tuple[str, Callable[[City], str]]] = {
    "ndjson": ("", ndjson_line),
    "csv": (",".join(COLUMNS) + "\n", csv_line),
}


def write(out: Path, rows: int, kind: str, seed: int) -> int:
    """Write the file, in chunks, and return its size in bytes."""
    header, line = FORMATS[kind]
    source = islice(cities(seed), rows)
    written = 0
    with out.open("wb") as file:
        written += file.write(header.encode())
        while chunk := "".join(line(city) for city in islice(source, CHUNK_ROWS)):
            written += file.write(chunk.encode())
    return written


def main() -> None:
    """Read the command line, write the file, report in one JSON line."""
    parser = argparse.ArgumentParser(description="Write a synthetic file of cities for the benchmarks.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="how many rows (default: 1000000)")
    parser.add_argument("--out", type=Path, required=True, help="the file to write; replaced if it exists")
    parser.add_argument("--format", choices=tuple(FORMATS), default="ndjson", help="default: ndjson")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same bytes (default: 1)")
    asked = parser.parse_args()
    if asked.rows < 0:
        parser.error("--rows: must be 0 or more")

    started = time.perf_counter()
    size = write(asked.out, asked.rows, asked.format, asked.seed)
    took_s = round(time.perf_counter() - started, 3)
    print(json.dumps({"out": str(asked.out), "rows": asked.rows, "bytes": size, "seed": asked.seed, "took_s": took_s}))


if __name__ == "__main__":
    main()
