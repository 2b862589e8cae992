"""What an owner allows, and what sensors say."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.edge.rules import Rules, load_rules
from gossamer.edge.sensors import LinuxSensors, Reading
from gossamer.protocol.errors import UsageError

FINE = Reading(on_mains=True, interface="wlan0", temperature_c=50.0, rss_bytes=60 << 20, minute_of_day=12 * 60)


def changed(**fields: object) -> Reading:
    return Reading(**{**FINE.__dict__, **fields})


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"on_mains": False}, "battery"),
        ({"interface": "wwan0"}, "metered"),
        ({"interface": "rmnet_data1"}, "metered"),
        ({"temperature_c": 81.0}, "81 degrees"),
        ({"rss_bytes": 600 << 20}, "600 MB"),
    ],
)
def test_rule_that_forbids_work_says_why(fields: dict[str, object], why: str) -> None:
    assert Rules().forbids(FINE) is None

    assert why in (Rules().forbids(changed(**fields)) or "")


def test_what_a_sensor_does_not_know_forbids_nothing() -> None:
    assert Rules().forbids(Reading()) is None


def test_owner_may_allow_battery_and_metered_links() -> None:
    rules = Rules(mains_only=False, allow_metered=True)

    assert rules.forbids(changed(on_mains=False, interface="wwan0")) is None


@pytest.mark.parametrize(
    ("minute", "rests"), [(21 * 60 + 59, False), (22 * 60, True), (0, True), (7 * 60 - 1, True), (7 * 60, False)]
)
def test_quiet_hours_go_past_midnight(minute: int, rests: bool) -> None:
    rules = Rules(quiet_hours=("22:00-07:00",))

    assert (rules.forbids(changed(minute_of_day=minute)) == "quiet hours") == rests


def test_file_sets_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('cpu_share = 0.25\nmemory_mb = 100\nquiet_hours = ["01:00-02:00"]\n')

    assert load_rules(path) == Rules(cpu_share=0.25, memory_mb=100.0, quiet_hours=("01:00-02:00",))
    assert load_rules(tmp_path / "none.toml") == Rules()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cpu_shar = 0.5", "did you mean 'cpu_share'"),
        ("cpu_share = 2", "0.01 to 1"),
        ("cpu_share = true", "a number"),
        ("mains_only = 1", "true or false"),
        ('quiet_hours = "22:00-07:00"', "a list"),
        ('quiet_hours = ["22-7"]', "HH:MM-HH:MM"),
        ("memory_mb = 10", "at least 64"),
        ("= 3", "cannot be read"),
    ],
)
def test_file_with_a_mistake_is_refused_in_words(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)

    with pytest.raises(UsageError, match=says):
        load_rules(path)


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def supply(root: Path, name: str, **files: str) -> None:
    for file, text in files.items():
        write(root, **{f"sys/class/power_supply/{name}/{file}": text})


def test_battery_that_discharges_is_not_mains(tmp_path: Path) -> None:
    sensors = LinuxSensors(lambda: 0, root=tmp_path)
    assert sensors().on_mains is None

    supply(tmp_path, "BAT0", type="Battery\n", status="Charging\n")
    assert sensors().on_mains is True
    supply(tmp_path, "AC", type="Mains\n", online="0\n")
    assert sensors().on_mains is False
    supply(tmp_path, "AC", online="1\n")
    assert sensors().on_mains is True
    supply(tmp_path, "BAT0", status="Discharging\n")
    assert sensors().on_mains is False


def test_battery_of_a_mouse_does_not_count(tmp_path: Path) -> None:
    supply(tmp_path, "hid", type="Battery\n", scope="Device\n", status="Discharging\n")

    assert LinuxSensors(lambda: 0, root=tmp_path)().on_mains is None


def test_hottest_sensor_counts_and_broken_ones_do_not(tmp_path: Path) -> None:
    for number, text in enumerate(["45000", "71500\n", "-273150", "2147483647", "nonsense"]):
        write(tmp_path, **{f"sys/class/thermal/thermal_zone{number}/temp": text})

    assert LinuxSensors(lambda: 0, root=tmp_path)().temperature_c == 71.5


def test_link_is_that_of_the_best_default_route(tmp_path: Path) -> None:
    route = (
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
        "wwan0\t00000000\t0101A8C0\t0003\t0\t0\t700\t00000000\n"
        "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\n"
        "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\n"
    )
    write(tmp_path, **{"proc/net/route": route})

    assert LinuxSensors(lambda: 0, root=tmp_path)().interface == "wlan0"


def test_this_machine_can_be_read() -> None:
    reading = LinuxSensors(lambda: 61)()

    assert reading.minute_of_day == 61
    assert reading.rss_bytes > 10 << 20
