"""Makes the secrets of docker-compose.yml at its first start, and never again: nothing secret is in the repository.

It runs once before everything else, without a network, as root of a container that may only write the volume `secrets`
(and give its files away). Each kind of process has a folder there that belongs to its own user, mode 0500, so that no
process can read what is another's. A secret that is there stays; accounts, rights and city files are written anew from
the city files, so that a new city, or a new route, needs no more than another start.
"""

import base64
import hashlib
import os
import secrets
import sys
from pathlib import Path

from local import cityfiles

from ingest.city import City, load

# Users: postgres and mosquitto of their images, the rest as in docker-compose.yml.
OWNERS = {
    "database": 70,
    "grafana": 472,
    "mosquitto": 1883,
    "gateway": 10001,
    "processor": 10002,
    "storage": 10003,
    "status": 10004,
    "simulator": 10005,
}


def keep(path: Path) -> str:
    """The secret in this file, made up if it is not there."""
    if not path.exists():
        write(path, secrets.token_urlsafe(24))
    return path.read_text()


def write(path: Path, text: str) -> None:
    """Replace a file as a whole: a process that reads it never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    draft.unlink(missing_ok=True)
    draft.touch(0o400)
    draft.write_text(text)
    draft.replace(path)


def account(user: str, password: str) -> str:
    """A line of Mosquitto's password file: PBKDF2-SHA512. The salt is made of the password, so that lines stay."""
    salt = hashlib.sha256(f"{user}:{password}".encode()).digest()[:12]
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
    return f"{user}:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


def rights(city: City) -> str:
    """Sensors write what the gateway reads. What is missing here is acknowledged to MQTT 3.1.1 clients and dropped."""
    filters = list(dict.fromkeys([*city.subscriptions, *(route.filter for route in city.route)]))
    lines = [
        f"user sensors-{city.key}",
        *(f"topic write {one}" for one in filters),
        f"user gateway-{city.key}",
        *(f"topic read {one}" for one in filters),
        "topic read $SYS/#",
        "user health",
        "topic read $SYS/broker/uptime",
    ]
    return "\n".join([*lines, ""])


def broker(home: Path, source: Path) -> City:
    """A city's broker: accounts and rights; and the city file for its two clients, each with its own password."""
    city = load(source)
    folder = home / "mosquitto" / city.key
    health = keep(folder / "health")
    users = {"health": health}
    for kind, client in (("gateway", "gateway"), ("simulator", "sensors")):
        user = f"{client}-{city.key}"
        file = home / kind / f"{city.key}.password"
        users[user] = keep(file)
        there = {"host": f"mosquitto-{city.key}", "port": 1883, "username": user, "password_file": file.name}
        write(home / kind / source.name, cityfiles.read(source, there))
    write(folder / "passwords", "".join(account(*user) for user in users.items()))
    write(folder / "acl", rights(city))
    write(folder / "mosquitto_sub", f"-u health\n-P {health}\n")  # options of the health check
    return city


def database(home: Path, cities: list[City]) -> None:
    """Passwords of the database's roles, in libpq's format where libpq reads them."""
    storage = home / "storage"
    superuser = keep(home / "database/password")
    write(storage / "postgres.pgpass", f"*:*:*:postgres:{superuser}\n")
    readers = ["hanse_reader_alliance", *(f"hanse_reader_{city.key}" for city in cities)]
    for role in ("hanse_migrator", "hanse_ingest", "hanse_metrics", *readers):
        file = storage / f"{role}.pgpass"
        if not file.exists():
            write(file, f"*:*:*:{role}:{secrets.token_urlsafe(24)}\n")
    for kind, role in (("processor", "hanse_ingest"), ("status", "hanse_metrics")):
        write(home / kind / f"{role}.pgpass", (storage / f"{role}.pgpass").read_text())
    alliance = (storage / "hanse_reader_alliance.pgpass").read_text().strip().rpartition(":")[2]
    write(home / "grafana/password", alliance)


def make(cities: Path, home: Path) -> list[City]:
    """Make what is missing in `home`, for every city file."""
    made = [broker(home, source) for source in sorted(cities.glob("*.toml"))]
    database(home, made)
    return made


def give(home: Path) -> None:
    """Give every folder to its user, and nothing of it to anyone else."""
    for kind, uid in OWNERS.items():
        for folder, _, files in os.walk(home / kind, topdown=False):
            for path in (*(Path(folder, file) for file in files), Path(folder)):
                path.chmod(0o500 if path.is_dir() else 0o400)
                os.chown(path, uid, uid)
    home.chmod(0o755)


def main() -> None:
    """`setup.py CITIES SECRETS [KIND=FOLDER …]`: and the folders where these kinds keep what is theirs."""
    cities, home = map(Path, sys.argv[1:3])
    made = make(cities, home)
    give(home)
    for kind, _, folder in (state.partition("=") for state in sys.argv[3:]):
        os.chown(folder, OWNERS[kind], OWNERS[kind])
    print(f"secrets of {len(made)} cities are in place")


if __name__ == "__main__":
    main()
