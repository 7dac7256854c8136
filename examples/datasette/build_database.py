"""Make the SQLite database of this example: build_database.py SOURCE.csv TARGET.db"""

import csv
import sqlite3
import sys
from contextlib import closing

COLUMNS = "name TEXT PRIMARY KEY, kind TEXT, diameter_km INTEGER, moons INTEGER, day_hours REAL"


def main(source: str, target: str) -> None:
    """Write the rows of *source* to the table `planets` of *target*."""
    with open(source, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with closing(sqlite3.connect(target)) as database, database:
        database.execute(f"CREATE TABLE planets ({COLUMNS})")
        database.executemany("INSERT INTO planets VALUES (:name, :kind, :diameter_km, :moons, :day_hours)", rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
